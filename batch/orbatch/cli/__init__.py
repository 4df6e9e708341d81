"""The command line: parse, load, call one function, render. The only package that prints or exits."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``orbatch`` command."""
    from orbatch.cli.app import app, move_global_options  # not above: importing a part must not build the whole

    app(args=move_global_options(sys.argv[1:]))
