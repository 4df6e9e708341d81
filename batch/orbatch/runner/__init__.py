"""Drives the jobs of a batch: one module per phase, for every kind of job."""

from orbatch.runner.context import Clock, Event, RunOptions
from orbatch.runner.runner import BatchRun, RunResult, Stop

__all__ = ["BatchRun", "Clock", "Event", "RunOptions", "RunResult", "Stop"]
