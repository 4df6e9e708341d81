"""``python -m orbatch``."""

from orbatch.cli import main

main()
