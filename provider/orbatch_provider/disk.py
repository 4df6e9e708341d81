"""Blocking work on files, in threads of their own: a disk that stalls must hold up no name lookup, for which asyncio
uses its default threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# A few wait for the disk while the others hash and decode; more of them would only wait for each other.
_THREADS = ThreadPoolExecutor((os.cpu_count() or 1) + 2, thread_name_prefix="orbatch-disk")


def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """The result of ``work`` to come. It is under way whether it is awaited or not."""
    return asyncio.get_running_loop().run_in_executor(_THREADS, partial(work, *args, **kwargs))
