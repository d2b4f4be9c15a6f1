"""Bytes to text, by what they are; where that is a text, by what it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workers.documents import mails, office, pages, tables, texts
from workers.documents.refusals import Unreadable, UnsupportedType

MOST_CHARACTERS = 4_000_000
"""A text may have so many: it is stored with its run, and told with it."""

Extractor = Callable[[bytes], str]

_PLAIN = frozenset(
    {"txt", "markdown", "md", "mdx", "html", "htm", "xml", "vtt", "log", "ini", "cfg", "conf", "toml", "env", "css"}
    | {
        "scss",
        "less",
        "sass",
        "sql",
        "c",
        "h",
        "cpp",
        "hpp",
        "cc",
        "cxx",
        "c++",
        "py",
        "js",
        "ts",
        "jsx",
        "tsx",
        "java",
    }
    | {"php", "rb", "go", "rs", "swift", "kt", "scala", "sh", "bash", "bat", "ps1", "r", "m", "pl", "lua", "vim", "asm"}
    | {"s"}
)
_BY_EXTENSION: Mapping[str, tuple[str, Extractor]] = {
    "json": ("JSON file", texts.json_text),
    "yaml": ("YAML file", texts.yaml_text),
    "yml": ("YAML file", texts.yaml_text),
    "properties": ("properties file", texts.properties_text),
    "csv": ("CSV", tables.csv_table),
    "eml": ("EML", mails.eml_text),
    "pdf": ("PDF", pages.pdf_text),
    "docx": ("DOCX", office.docx_text),
    "pptx": ("PPTX", office.pptx_text),
    "odt": ("ODT", office.odt_text),
    "epub": ("EPUB", office.epub_text),
    "xlsx": ("Excel file", tables.xlsx_tables),
    "xls": ("Excel file", tables.xls_tables),
    "msg": ("MSG", mails.msg_text),
    "doc": ("DOC", office.refuse_old),
    "ppt": ("PPT", office.refuse_old),
}
_OFFICE = "application/vnd.openxmlformats-officedocument."
_BY_MIME_TYPE = {
    "application/pdf": "pdf",
    _OFFICE + "wordprocessingml.document": "docx",
    _OFFICE + "presentationml.presentation": "pptx",
    _OFFICE + "spreadsheetml.sheet": "xlsx",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/epub+zip": "epub",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.ms-outlook": "msg",
    "text/csv": "csv",
    "application/json": "json",
    "text/yaml": "yaml",
    "text/properties": "properties",
    "message/rfc822": "eml",
}


def is_plain(extension: str, mime_type: str) -> bool:
    """True for a text that is taken as it is."""
    kind = _kind(extension, mime_type)
    return kind in _PLAIN or (kind == "" and mime_type.startswith("text/"))


def extract(content: bytes, extension: str, mime_type: str) -> str:
    """The document's text. `extension` has its dot. Raises Unreadable with one sentence."""
    kind = _kind(extension, mime_type)
    if is_plain(extension, mime_type):
        return bounded(texts.plain_text(content))
    if kind not in _BY_EXTENSION:
        said = f"Unsupported Extension Type: .{kind}" if kind else f"Unsupported MIME type: {mime_type}"
        raise UnsupportedType(said)
    called, extractor = _BY_EXTENSION[kind]
    try:
        return bounded(extractor(content))
    except (UnsupportedType, MemoryError):
        raise
    except Exception as error:  # the libraries raise whatever Python can when a document is broken
        raise Unreadable(f"Failed to extract text from {called}: {error or type(error).__name__}") from error


def bounded(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise Unreadable(f"the text has more than {MOST_CHARACTERS} characters")
    return text


def _kind(extension: str, mime_type: str) -> str:
    """What the bytes are counts, but bytes that are only text may be any kind of it."""
    by_bytes = _BY_MIME_TYPE.get(mime_type, "")
    named = extension.lower().lstrip(".")
    is_text = mime_type.startswith("text/") or by_bytes in ("json", "eml")
    return by_bytes if by_bytes and not (is_text and named) else named
