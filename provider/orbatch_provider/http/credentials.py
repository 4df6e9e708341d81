"""The API key, and the one place it may go.

The key is held in a type that shows nothing of it, and is only ever attached to requests for the origin it was
configured with: over https, or over plain http to this machine.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

from orbatch_provider.errors import ConfigurationError

KEY_VARIABLE = "OPENROUTER_API_KEY"
BASE_URL_VARIABLE = "OPENROUTER_BASE_URL"
DEFAULT_BASE_URL = "https://openrouter.ai/api/v1"

_DEFAULT_PORTS = {"https": 443, "http": 80}
_HIDDEN = "[redacted key]"


class ApiKey:
    """A key that no repr, log, pickle or traceback shows. ``reveal`` is for the header, and nothing else.

    Creating one never raises, because the exception would carry the text in its frames; ``problem`` is a sentence on
    what is wrong with it, or None.
    """

    __slots__ = ("_text", "problem")

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        self.problem: str | None = None
        if not self._text:
            self.problem = f"{KEY_VARIABLE} is not set."
        elif not (self._text.isascii() and self._text.isprintable()) or " " in self._text:
            self.problem = f"The API key ({KEY_VARIABLE}) contains whitespace or an invalid character. Copy it again."

    @classmethod
    def read(cls, given: str | ApiKey | None) -> ApiKey:
        """``given``, or the environment when it is None; an empty text is no key."""
        if isinstance(given, ApiKey):
            return given
        return cls(os.environ.get(KEY_VARIABLE, "") if given is None else given)

    @property
    def is_missing(self) -> bool:
        """Whether there is no text at all: then only the catalog can be read."""
        return not self._text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    @property
    def digest(self) -> str:
        """Eight hex digits: enough to tell two keys apart, too few to test a guess of the key."""
        return hashlib.sha256(b"orbatch account " + self._text.encode()).hexdigest()[:8]

    def hide(self, text: str) -> str:
        """``text`` without this key, for words that come back from a server."""
        return text.replace(self._text, _HIDDEN) if self._text else text

    def hide_bytes(self, body: bytes) -> bytes:
        """``body`` without this key."""
        secret = self._text.encode("utf-8", "replace")  # an unusable key may not be encodable
        return body.replace(secret, _HIDDEN.encode()) if secret and secret in body else body

    def __repr__(self) -> str:
        return "ApiKey(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled or copied")


def read_base_url(given: str | None) -> str:
    """``given``, the environment or the public API, without a slash at the end.

    Raises ConfigurationError for a URL that must not receive a key.
    """
    text = (given or os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL).strip()
    url = _split(text)
    if url is None or not url.hostname:
        raise ConfigurationError(f"The base URL ({BASE_URL_VARIABLE}) is not a URL like {DEFAULT_BASE_URL}.")
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise ConfigurationError(f"The base URL ({BASE_URL_VARIABLE}) must not have a login, query or fragment.")
    if not may_carry_key(text):
        raise ConfigurationError(
            f"The base URL {url.scheme}://{url.hostname} must be https. Over plain http a key is sent to this machine "
            "only."
        )
    return text.rstrip("/")


def origin_of(url: str) -> str | None:
    """``scheme://host:port`` with the port always given, or None for what is not an http(s) URL."""
    parts = _split(url)
    if parts is None or not parts.hostname or parts.scheme not in _DEFAULT_PORTS:
        return None
    return f"{parts.scheme}://{parts.hostname}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


def may_carry_key(url: str) -> bool:
    """Whether nobody can read on the way what is sent there: https, or http to this machine."""
    parts = _split(url)
    if parts is None or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(parts.hostname))


def _is_this_machine(host: str) -> bool:
    if host == "localhost":  # by RFC 6761 always loopback
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult | None:
    """None for what no two URL parsers agree on: a bad port or bracket, spaces, control characters, backslashes."""
    if not url.isprintable() or " " in url or "\\" in url:  # the plain space is the only printable one
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is not a number
    except ValueError:
        return None
    return parts
