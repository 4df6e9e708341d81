"""A batch in the browser: a grid of prompts and models to look at, compare, rate and pick from."""
