"""Workflow values: whatever JSON can hold, and files (`app.domain.artifact`) with the attributes that they have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from app.domain.artifact import MARK, is_artifact

Value: TypeAlias = Any
"""None, bool, int, float, str, a list or a dict of such, or a file as `Artifact.to_value` gives it."""


def is_finite(number: float) -> bool:
    """True for every integer, however large: JSON has such that no float can be."""
    return isinstance(number, int) or math.isfinite(number)


_DOCUMENTS = frozenset(
    {"txt", "markdown", "md", "mdx", "pdf", "html", "htm", "xml", "csv", "vtt", "properties", "epub", "eml", "msg"}
    | {"doc", "docx", "xls", "xlsx", "ppt", "pptx"}
)


def file_type(mime_type: str, extension: str = "") -> str:
    """Dify's coarse type of a file: image, video, audio, document or custom. `extension` tells documents apart."""
    family = mime_type.partition("/")[0]
    if family in ("image", "video", "audio"):
        return family
    if mime_type == "application/octet-stream":
        return "custom"  # bytes that are nothing known, whatever they are called
    is_document = family == "text" or "pdf" in mime_type or extension.lower().lstrip(".") in _DOCUMENTS
    return "document" if is_document else "custom"


def type_of(file: Mapping[str, Any]) -> str:
    """The type of a file as a value: what its caller called it (`custom`), or what it is."""
    return str(file.get("type") or file_type(file["mime_type"], file["extension"]))


FILE_ATTRIBUTES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "type": type_of,
    "size": lambda file: file["size"],
    "name": lambda file: file["filename"],
    "mime_type": lambda file: file["mime_type"],
    "transfer_method": lambda file: file.get("transfer_method", "tool_file"),
    "url": lambda file: file.get("url", ""),
    "extension": lambda file: file["extension"],
    "related_id": lambda file: file[MARK],
}


def is_file_list(value: object) -> bool:
    """True for a list of artifacts that has at least one."""
    return isinstance(value, list) and bool(value) and all(map(is_artifact, value))


def plain(value: Value) -> Value:
    """The value with each file, alone or in a list, turned into the mapping that templates see."""
    if is_artifact(value):
        return {"filename": value["filename"]} | {name: read(value) for name, read in FILE_ATTRIBUTES.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
