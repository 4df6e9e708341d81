"""Drives the jobs of a batch: one module per phase, for every kind of job."""
