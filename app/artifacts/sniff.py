"""What a file is, told by its bytes and not by its name.

The signatures are those that browsers go by (WHATWG MIME Sniffing), so a file that a browser would run as a page is
never called a picture here. A name only tells kinds of text and kinds of office files apart, which look alike.
"""

from __future__ import annotations

import re
import zipfile
from typing import BinaryIO

HEAD_BYTES = 8192
"""How much of a file's beginning tells what it is."""

BINARY = "application/octet-stream"
PLAIN_TEXT = "text/plain"
ZIP = "application/zip"
_OLE = "application/x-ole-storage"

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\0\0\1\0", "image/x-icon"),
    (b"%PDF-", "application/pdf"),
    (b"PK\3\4", ZIP),
    (b"PK\5\6", ZIP),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLE),
    (b"ID3", "audio/mpeg"),
    (b"OggS\0", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"#!AMR", "audio/amr"),
    (b"MThd\0\0\0\6", "audio/midi"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"FLV\1", "video/x-flv"),
    (b"\0\0\1\xba", "video/mpeg"),
    (b"\0\0\1\xb3", "video/mpeg"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/x-rar-compressed"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "image/heic"),
    **dict.fromkeys((b"M4A ", b"M4B ", b"F4A "), "audio/mp4"),
    b"qt  ": "video/quicktime",
}
_OPEN = "application/vnd.oasis.opendocument."
_OFFICE = "application/vnd.openxmlformats-officedocument."
_IN_ZIP = {
    "word/document.xml": _OFFICE + "wordprocessingml.document",
    "xl/workbook.xml": _OFFICE + "spreadsheetml.sheet",
    "ppt/presentation.xml": _OFFICE + "presentationml.presentation",
}
# What an archive may call itself, in a member of its own.
_DECLARED = frozenset({"application/epub+zip", f"{_OPEN}text", f"{_OPEN}spreadsheet", f"{_OPEN}presentation"})
_OLE_NAMES = {
    ".doc": "application/msword",
    ".xls": "application/vnd.ms-excel",
    ".ppt": "application/vnd.ms-powerpoint",
    ".msg": "application/vnd.ms-outlook",
}
_TEXT_NAMES = {
    **dict.fromkeys((".md", ".markdown", ".mdx"), "text/markdown"),
    **dict.fromkeys((".html", ".htm"), "text/html"),
    **dict.fromkeys((".yaml", ".yml"), "text/yaml"),
    ".xhtml": "application/xhtml+xml",
    ".csv": "text/csv",
    ".json": "application/json",
    ".xml": "text/xml",
    ".vtt": "text/vtt",
    ".eml": "message/rfc822",
    ".svg": "image/svg+xml",
    ".js": "text/javascript",
    ".css": "text/css",
    ".properties": "text/properties",
}
_EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "application/pdf": ".pdf",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    PLAIN_TEXT: ".txt",
    **{mime_type: extension for extension, mime_type in (*_OLE_NAMES.items(), *_TEXT_NAMES.items())},
    _IN_ZIP["word/document.xml"]: ".docx",
    _IN_ZIP["xl/workbook.xml"]: ".xlsx",
    _IN_ZIP["ppt/presentation.xml"]: ".pptx",
    "text/html": ".html",
    "text/markdown": ".md",
}
# What no text has, as the WHATWG lists it.
_NO_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_SVG = re.compile(rb"<(?:\w+:)?svg[\s>/]|http://www\.w3\.org/2000/svg", re.IGNORECASE)
_HTML = re.compile(
    rb"<(?:!doctype\s+html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[\s>/]", re.IGNORECASE
)

# What a browser shows or plays and never runs. Everything else is sent as an attachment.
_INERT = frozenset({
    *("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/avif", "image/tiff", "image/heic"),
    *(PLAIN_TEXT, "text/csv", "text/markdown", "text/vtt", "text/yaml", "text/properties"),
    *("application/json", "application/pdf", ZIP, BINARY),
})  # fmt: skip


def is_inert(mime_type: str) -> bool:
    """True for a file that a browser may be shown in place: none that can hold a program, as HTML and SVG can."""
    plain = mime_type.partition(";")[0].strip().lower()
    if plain.endswith("+xml"):
        return False
    return plain in _INERT or plain.startswith(("audio/", "video/", "application/vnd."))


def is_raster(mime_type: str) -> bool:
    """True for a picture made of pixels."""
    return mime_type.startswith("image/") and "svg" not in mime_type


def sniff_head(head: bytes, extension: str) -> str:
    """The media type by the file's first `HEAD_BYTES`; kinds of ZIP are not told apart. `extension` has its dot."""
    if not head:
        return _TEXT_NAMES.get(extension.lower(), PLAIN_TEXT if extension else BINARY)
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    for signature, mime_type in _SIGNATURES:
        if head.startswith(signature):
            return _OLE_NAMES.get(extension.lower(), _OLE) if mime_type == _OLE else mime_type
    if head[0] == 0xFF and len(head) > 1 and head[1] & 0xE6 in (0xE2, 0xE4) and _NO_TEXT.search(head):
        return "audio/mpeg"  # a frame without a tag before it
    if _NO_TEXT.search(head) and not head.startswith(_WIDE):
        return BINARY
    return _text(head, extension)


def _text(head: bytes, extension: str) -> str:
    """A text that says what it is is believed before its name."""
    begins = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if begins.startswith(_WIDE):
        begins = begins.replace(b"\0", b"")[2:].lstrip()
    if begins.startswith(b"<"):
        if _SVG.search(begins):
            return "image/svg+xml"
        if _HTML.search(begins):
            return "text/html"
        if begins.startswith(b"<?xml") and extension.lower() != ".xhtml":
            return "text/xml"
    return _TEXT_NAMES.get(extension.lower(), PLAIN_TEXT)


def sniff(head: bytes, whole: BinaryIO, extension: str) -> str:
    """The media type of a file that is there as a whole. Reads a ZIP's list of names; the caller has bounded it."""
    mime_type = sniff_head(head, extension)
    if mime_type != ZIP:
        return mime_type
    try:
        with zipfile.ZipFile(whole) as archive:
            names = {name.replace("\\", "/") for name in archive.namelist()}
            declared = archive.read("mimetype").decode("ascii", "replace").strip() if _declares(archive, names) else ""
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, ValueError, EOFError):
        return ZIP
    if declared in _DECLARED:
        return declared
    return next((mime_type for name, mime_type in _IN_ZIP.items() if name in names), ZIP)


def _declares(archive: zipfile.ZipFile, names: set[str]) -> bool:
    """EPUB and OpenDocument name themselves in a small file of their own."""
    return "mimetype" in names and archive.getinfo("mimetype").file_size <= 100


def extension_of(mime_type: str) -> str:
    """How a file of this type is called, for one that came without an extension."""
    return _EXTENSIONS.get(mime_type, ".bin")
