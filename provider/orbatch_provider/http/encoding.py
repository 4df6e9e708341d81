"""The one layer of compression that a response may have, unfolded in pieces, so that a bomb never fills the memory."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Collection

ACCEPTED = ("gzip", "deflate")  # not br or zstd: their decoders are extra packages, without a limit on a piece
_PIECE_BYTES = 64 * 1024  # decoded at a time
_GZIP = zlib.MAX_WBITS | 16


async def decoded(
    pieces: AsyncIterable[bytes], encodings: Collection[str], accepted: Collection[str], limit: int | None
) -> AsyncGenerator[bytes]:
    """``pieces`` of a body without the ``encodings`` of its Content-Encoding header.

    Raises ValueError for more than one, for one that was not requested, for a body that is not what the header says,
    and when more than ``limit`` compressed bytes were received, since they may unfold to nothing without end.
    """
    names = [name.lower() for name in encodings if name.lower() not in {"", "identity"}]
    if len(names) > 1 or not {*names} <= {*accepted}:
        raise ValueError(f"the response has the encoding {', '.join(names)[:80]}, which was not requested")
    unfold = _Unfolding(names[0]) if names else None
    received = 0
    async for piece in pieces:
        if unfold is None:
            yield piece
            continue
        rest: bytes | None = piece
        while rest is not None:
            part, rest = unfold.next(rest)
            if part:
                yield part
        received += len(piece)
        if limit is not None and received > limit:
            raise ValueError("the compressed response is longer than it may be decoded")
    if unfold is not None and not unfold.is_complete:
        raise ValueError("the response ends before its compressed data does")


class _Unfolding:
    def __init__(self, encoding: str) -> None:
        self._is_zlib_sure = encoding != "deflate"
        self._stream = zlib.decompressobj(_GZIP if self._is_zlib_sure else zlib.MAX_WBITS)

    @property
    def is_complete(self) -> bool:
        return self._stream.eof

    def next(self, data: bytes) -> tuple[bytes, bytes | None]:
        """A part of the decoded bytes, and what is still to be given to the next call; None when nothing is."""
        if self._stream.eof:
            return b"", None  # zlib would keep everything that follows
        try:
            part = self._stream.decompress(data, _PIECE_BYTES)
        except zlib.error as error:
            if self._is_zlib_sure:
                raise ValueError("the response is not what its Content-Encoding says") from error
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)  # some servers send deflate without its header
            part = self._stream.decompress(data, _PIECE_BYTES)
        self._is_zlib_sure = True
        is_drained = not self._stream.unconsumed_tail and len(part) < _PIECE_BYTES
        return part, None if is_drained else self._stream.unconsumed_tail
