"""The fixtures of a run's steps."""

from tests.provider.conftest import servers  # noqa: F401 - fixtures
from tests.runner.conftest import provider, workshop  # noqa: F401 - fixtures
