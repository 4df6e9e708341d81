"""The API key, and the one place it may go.

The key is held in a type that shows nothing of it, and is only ever attached to requests for the origin it was
configured with: over https, or over plain http to this machine.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

from orbatch_provider.errors import ConfigurationError

KEY_VARIABLE = "OPENROUTER_API_KEY"
MANAGEMENT_KEY_VARIABLE = "OPENROUTER_MANAGEMENT_KEY"
BASE_URL_VARIABLE = "OPENROUTER_BASE_URL"
DEFAULT_BASE_URL = "https://openrouter.ai/api/v1"

_NAMES = {KEY_VARIABLE: "API key", MANAGEMENT_KEY_VARIABLE: "Management API key"}  # for messages
_DEFAULT_PORTS = {"https": 443, "http": 80}
_HIDDEN = "[redacted key]"
_PART = 12  # characters of the key that are hidden wherever they stand, without the rest of it
# A character as JSON may write it, also inside a JSON text that is quoted in another one.
_ESCAPE = re.compile(r"\\+(?:u00([2-7][0-9a-fA-F])|(/))")


class ApiKey:
    """A key that no repr, log, pickle or traceback shows. ``reveal`` is for the header, and nothing else.

    Creating one never raises, because the exception would carry the text in its frames; ``problem`` is a sentence on
    what is wrong with it, or None. ``variable``: of the environment, where it comes from.
    """

    __slots__ = ("_blocks", "_parts", "_text", "_variable", "problem")

    def __init__(self, text: str, variable: str = KEY_VARIABLE) -> None:
        self._variable = variable
        self._take(text)

    def _take(self, text: str) -> None:
        self._text = text.strip()
        length = min(_PART, len(self._text))
        parts = (self._text[at : at + length] for at in range(len(self._text) - length + 1))
        # Not "000000000000", which is a part of many numbers.
        self._parts = [self._text, *(part for part in dict.fromkeys(parts) if len({*part}) > 2)]
        # Every part has one of these in it, and looking for them is much cheaper: most responses have none.
        half = max(1, (length + 1) // 2)
        self._blocks = [self._text[at : at + half] for at in range(0, len(self._text) - half + 1, half)]
        self.problem: str | None = None
        name = _NAMES[self._variable]
        if not self._text:
            self.problem = f"{name} required: {self._variable} is not set."
        elif not (self._text.isascii() and self._text.isprintable()) or " " in self._text:
            self.problem = f"The {name} ({self._variable}) contains whitespace or an invalid character. Copy it again."

    def look_again(self) -> None:
        """Take the key of the environment where there was none; it may have been set meanwhile."""
        if self.is_missing:
            self._take(os.environ.get(self._variable, ""))

    @classmethod
    def read(cls, given: str | ApiKey | None, variable: str = KEY_VARIABLE) -> ApiKey:
        """``given``, or the environment's ``variable`` when it is None; an empty text is no key."""
        if isinstance(given, ApiKey):
            return given
        return cls(os.environ.get(variable, "") if given is None else given, variable)

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
        """``text`` without this key and its parts, plain or escaped as in JSON, for words that come from a server."""
        if "\\" in text:
            # Escapes of anything else keep their place: changing them could change a result that is paid for.
            plain = _ESCAPE.sub(self._unescaped, text)
            text = plain if self._spans(plain) else text
        shown, end = [], 0
        for start, stop in self._spans(text):
            shown += [text[end:start], _HIDDEN]
            end = stop
        return "".join([*shown, text[end:]]) if shown else text

    def hide_bytes(self, body: bytes) -> bytes:
        """``body`` without this key and its parts."""
        text = body.decode("latin-1")  # a character for each byte, whatever they mean
        hidden = self.hide(text)
        return body if hidden is text else hidden.encode("latin-1")

    def _unescaped(self, escape: re.Match[str]) -> str:
        char = escape[2] or chr(int(escape[1], 16))
        return char if char in self._text and char not in '"\\' else escape[0]

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where ``text`` has the key or a part of it."""
        if not any(block in text for block in self._blocks):
            return []
        found = sorted(
            (match.start(), match.end()) for part in self._parts for match in re.finditer(re.escape(part), text)
        )
        spans: list[tuple[int, int]] = []
        for start, stop in found:
            if spans and start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(stop, spans[-1][1]))
            else:
                spans.append((start, stop))
        return spans

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
    if given is None and url.path in ("", "/"):  # code that gives one knows what it is for
        meant = f"{text.rstrip('/')}/api/v1"
        raise ConfigurationError(f"The base URL ({BASE_URL_VARIABLE}) {text} has no path. Set it to {meant}.")
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
    try:
        # As it is sent: an international name in its ASCII form, an IPv6 address in brackets.
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    except UnicodeError:
        return None
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


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
