"""The desks of the end-to-end tests, for batches of every kind."""

from tests.e2e.conftest import desk, open_desk

__all__ = ["desk", "open_desk"]
