"""The command line: parse, load, call one function, render. The only package that prints or exits."""

from __future__ import annotations

import io
import os
import signal
import sys


def main() -> None:
    """Entry point of the ``orbatch`` command."""
    _prepare_streams()
    _prepare_signals()
    from orbatch.cli.app import app, move_global_options  # not above: importing a part must not build the whole

    app(args=move_global_options(sys.argv[1:]))


def _prepare_signals() -> None:
    """From the first moment every request to stop ends the command in order, also before a run has handlers of its own,
    and as process 1 of a container, for which a signal without a handler does nothing."""
    for number in stop_signals():
        signal.signal(number, _interrupt)


def stop_signals() -> list[int]:
    """The signals that ask to stop. One that is ignored, as under nohup, stays so; but Ctrl-C is a person's, also where
    the shell that started the program in the background had it ignored."""
    found = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in found if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN]


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _prepare_streams() -> None:
    """Standard streams that are open and can print any character."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by `2>&-`: the next file that is opened, perhaps the ledger, would get its number
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - open until the end
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # cp1252 and ASCII have few of the characters in prompts
