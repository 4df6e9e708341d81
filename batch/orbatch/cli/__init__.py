"""The command line: parse, load, call one function, render. The only place that prints or exits.

Modules of a command are imported when it runs, so that ``--help`` stays quick.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``orbatch`` command."""
    from orbatch.cli.app import app, move_global_options

    app(args=move_global_options(sys.argv[1:]))
