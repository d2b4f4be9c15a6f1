"""Decompression in small pieces: whoever counts them can stop a bomb before it has gone off."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Self

_PIECE = 256 * 1024  # bytes that one step may make
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_BARE = -zlib.MAX_WBITS
_PLAIN = frozenset(("", "identity"))
_PACKED = frozenset(("gzip", "x-gzip", "deflate"))


class BrokenCoding(ValueError):
    """The bytes are not what their sender says."""


class Inflater:
    """Decodes one `content-encoding`. Codings in a row are not taken: each multiplies what a few bytes may become."""

    def __init__(self, *, packed: bool) -> None:
        self._packed = packed
        self._unpack = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._begun = False

    @classmethod
    def of(cls, coding: str) -> Self | None:
        """None for a coding that is not known."""
        name = coding.strip().lower()
        return cls(packed=name in _PACKED) if name in _PLAIN | _PACKED else None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The bytes that the chunk stands for, in pieces. Raises BrokenCoding."""
        if not self._packed:
            yield chunk
            return
        is_more = True
        while is_more and not self._unpack.eof:
            try:
                piece = self._unpack.decompress(chunk, _PIECE)
            except zlib.error as error:
                if self._begun:
                    raise BrokenCoding(str(error)) from None
                # Some servers say "deflate" and send it without zlib's head.
                self._unpack, self._begun = zlib.decompressobj(_BARE), True
                continue
            self._begun = True
            chunk = self._unpack.unconsumed_tail
            is_more = bool(chunk) or len(piece) == _PIECE
            yield piece
