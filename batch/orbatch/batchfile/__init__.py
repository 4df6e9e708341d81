"""How a batch file is read: its YAML, what each value may be, and what is said when it is not."""
