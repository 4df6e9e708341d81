"""Raw servers, and no key or proxy in the environment."""

from tests.provider.conftest import _no_environment, servers  # noqa: F401 - fixtures
