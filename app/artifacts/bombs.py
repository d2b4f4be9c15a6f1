"""Files that are small as they come and enormous once somebody opens them: found without opening them."""

from __future__ import annotations

import os
import struct
import zipfile
from typing import BinaryIO

from app.artifacts.sniff import ZIP
from app.errors import FileTooLarge

MOST_PIXELS = 100_000_000
"""A picture of 10,000 by 10,000; decoded it takes 400 MB."""

MOST_UNPACKED = 200_000_000
"""Bytes that the members of an archive may have together, if they are much more than the archive itself."""

_MOST_RATIO = 100
_MOST_MEMBERS = 20_000
_MOST_DIRECTORY = 4_000_000  # bytes of an archive's list of members
_TAIL = 65_535 + 22


def refuse_bomb(mime_type: str, head: bytes, whole: BinaryIO) -> tuple[int, int] | None:
    """The (width, height) of a picture, as far as its head tells them. Raises FileTooLarge."""
    if mime_type == ZIP or (mime_type.startswith("application/") and head[:2] == b"PK"):
        _refuse_archive(whole)
        return None
    size = picture_size(mime_type, head, whole) if mime_type.startswith("image/") else None
    if size is not None and size[0] * size[1] > MOST_PIXELS:
        raise FileTooLarge(f"A picture may have {MOST_PIXELS} pixels; this one has {size[0]} by {size[1]}.")
    return size


def picture_size(mime_type: str, head: bytes, whole: BinaryIO) -> tuple[int, int] | None:
    """(width, height) as the file's header says; None where it is another kind of picture, or a broken one."""
    try:
        match mime_type:
            case "image/png":
                return _two(">II", head, 16)
            case "image/gif":
                return _two("<HH", head, 6)
            case "image/bmp":
                width, height = _two("<ii", head, 18)
                return width, abs(height)
            case "image/webp":
                return _webp(head)
            case "image/jpeg":
                return _jpeg(whole)
            case "image/avif" | "image/heic":
                at = head.find(b"ispe")
                return _two(">II", head, at + 8) if at >= 0 else None
    except (struct.error, IndexError):
        pass
    return None


def _two(form: str, head: bytes, at: int) -> tuple[int, int]:
    width, height = struct.unpack_from(form, head, at)
    return width, height


def _webp(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", head, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = _two("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(whole: BinaryIO) -> tuple[int, int] | None:
    """Goes from segment to segment to the frame's header; a camera writes a preview before it."""
    whole.seek(2)
    for _ in range(1000):
        marker = whole.read(2)
        while len(marker) == 2 and marker[1] == 0xFF:
            marker = marker[1:] + whole.read(1)
        if len(marker) < 2 or marker[0] != 0xFF:
            return None
        kind = marker[1]
        if 0xD0 <= kind <= 0xD9 or kind == 1:
            continue
        (length,) = struct.unpack(">H", whole.read(2))
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = _two(">HH", whole.read(5), 1)
            return width, height
        whole.seek(length - 2, os.SEEK_CUR)
    return None


def _refuse_archive(whole: BinaryIO) -> None:
    """Goes by the archive's list of members, whose own length is looked at before it is read."""
    size = whole.seek(0, os.SEEK_END)
    whole.seek(max(0, size - _TAIL))
    tail = whole.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:
        return  # no archive that anybody could open
    count, directory = struct.unpack_from("<HI", tail, at + 10)
    if count > _MOST_MEMBERS or directory > _MOST_DIRECTORY:
        raise FileTooLarge(f"An archive may have {_MOST_MEMBERS} members; this one has more.")
    try:
        with zipfile.ZipFile(whole) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError, EOFError):
        return
    unpacked = sum(member.file_size for member in members)
    if len(members) > _MOST_MEMBERS or (unpacked > MOST_UNPACKED and unpacked > size * _MOST_RATIO):
        raise FileTooLarge(f"Unpacked, the archive would have {unpacked} bytes in {len(members)} members.")
    if unpacked > 10 * MOST_UNPACKED:
        raise FileTooLarge(f"Unpacked, the archive would have {unpacked} bytes.")
