"""Whether a picture file is there as a whole, told without decoding it: its parts are all here, and undamaged.

A picture that is cut off or garbled can then be refused before anything is made of it. What only a decoder finds out,
it still finds out later.
"""

from __future__ import annotations

import re
import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_PIECE = 256 * 1024  # bytes of unpacked pixels that are in memory
_END_OF_JPEG = re.compile(rb"\xff\xd9")
_SCAN = re.compile(rb"\xff\xda")


def is_whole(mime_type: str, content: memoryview) -> bool:
    """True for a PNG, a JPEG or a WebP file to its end; of other kinds nothing is known, so True."""
    match mime_type:
        case "image/png":
            return _is_whole_png(content)
        case "image/jpeg":
            scan = _SCAN.search(content)
            return scan is not None and _END_OF_JPEG.search(content, scan.end()) is not None
        case "image/webp":
            return len(content) >= 20 and struct.unpack_from("<I", content, 4)[0] + 8 <= len(content)
    return True


def _is_whole_png(content: memoryview) -> bool:
    """Each chunk has its checksum; the pixels of all together unpack to their end."""
    at, unpack, is_first = len(_PNG), zlib.decompressobj(), True
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 8 + length
        if end + 4 > len(content) or zlib.crc32(content[at + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            return False
        if is_first and kind != b"IHDR":
            return False
        if kind == b"IDAT" and not _unpacks(unpack, content[at + 8 : end]):
            return False
        if kind == b"IEND":
            return unpack.eof
        at, is_first = end + 4, False
    return False


def _unpacks(unpack: zlib._Decompress, packed: memoryview) -> bool:
    rest: bytes | memoryview = packed
    try:
        while rest and not unpack.eof:
            unpack.decompress(rest, _PIECE)
            rest = unpack.unconsumed_tail
    except zlib.error:
        return False
    return True
