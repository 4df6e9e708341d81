"""Names of output files: made from a template, valid on every platform, and never outside the output directory."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

MAX_VALUE = 24  # characters of a variable in a default name; some hold whole prompts
MAX_PART_BYTES = 180  # file systems allow 255 for a name, and an extension, a number and .part come after it

_PLAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,150}[A-Za-z0-9_-])?")
# Windows refuses these in names; the others resemble a slash or act like one somewhere.
_SEPARATORS = re.compile('[\\\\<>:"|?*\u2044\u2215\u29f5\u29f8\u29f9\u2571\u2572\ufe68\uff0f\uff1a\uff3c]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(?=$|[ .])")
# Controls, direction marks and other invisible characters, lone surrogates, unassigned, line and paragraph separators.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})


def safe_stem(text: str, tag: str = "") -> str:
    """A relative path without extension, made of ``text``, whose ``/`` separate directories.

    No part of it leaves the output directory, and no file system refuses it. A part that is too long is cut and ends in
    ``tag`` (a few hex digits of the job's key; without it, of the part's own hash), so that two do not become one.
    """
    if "/" not in text and _is_plain(text):
        return text
    parts = [_safe_part(part, tag) for part in _cleaned(text).split("/")]
    return "/".join(part for part in parts if part) or tag or "unnamed"


@lru_cache(maxsize=4096)
def safe_value(text: str) -> str:
    """``text`` as it may be inserted into a file name: it never starts a new directory."""
    return text if _is_plain(text) else _cleaned(text).replace("/", "-").strip()


def model_slug(model: str) -> str:
    """``alibaba/wan-2.6`` as ``alibaba-wan-2.6``."""
    return safe_value(model.replace("/", "-"))


def take_name(prompt_id: str, model: str, values: Iterable[object], seed: int | None, repeat: int | None) -> str:
    """``beach-veo-3.1-lite-orange-noon-s7-r2``: what tells one job of a batch from another, for the name of its file.

    ``values``, ``seed`` and ``repeat``: those of which the prompt has several; None: it has one.
    """
    texts = ["-".join(safe_value(str(value)).split())[:MAX_VALUE].strip("-.") for value in values]
    parts = [prompt_id, safe_value(model.rpartition("/")[2]), *filter(None, texts)]
    parts += [f"{letter}{number}" for letter, number in (("s", seed), ("r", repeat)) if number is not None]
    return "-".join(parts)


def _is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None and not _RESERVED.match(text)


def _cleaned(text: str) -> str:
    # One form of each character, because macOS and Linux disagree about which one a name has.
    text = unicodedata.normalize("NFC", text)
    if not text.isprintable():
        spaced = text.replace("\n", " ").replace("\t", " ")
        text = "".join(char for char in spaced if unicodedata.category(char) not in _INVISIBLE)
    return _SEPARATORS.sub("-", text)


def _safe_part(part: str, tag: str) -> str:
    # A leading dot hides a file, a leading dash makes it an option of the next command.
    part = part.lstrip(" .-").rstrip(" .")
    if _RESERVED.match(part):
        part = f"_{part}"
    encoded = part.encode()
    if len(encoded) <= MAX_PART_BYTES:
        return part
    suffix = "-" + (tag or hashlib.sha256(encoded).hexdigest()[:8])
    # The cut may leave half a character, which decoding drops.
    return encoded[: MAX_PART_BYTES - len(suffix)].decode(errors="ignore").rstrip(" .-") + suffix
