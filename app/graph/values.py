"""Workflow values: whatever JSON can hold, and files (`app.domain.artifact`) with the attributes that they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from app.domain.artifact import MARK, is_artifact

Value: TypeAlias = Any
"""None, bool, int, float, str, a list or a dict of such, or a file as `Artifact.to_value` gives it."""


def file_type(mime_type: str) -> str:
    """Dify's coarse type of a file: image, video, audio, document or custom."""
    family = mime_type.partition("/")[0]
    if family in ("image", "video", "audio"):
        return family
    return "document" if family == "text" or "pdf" in mime_type else "custom"


FILE_ATTRIBUTES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "type": lambda file: file_type(file["mime_type"]),
    "size": lambda file: file["size"],
    "name": lambda file: file["filename"],
    "mime_type": lambda file: file["mime_type"],
    "transfer_method": lambda file: "tool_file",
    "url": lambda file: "",  # signed anew at each reading, so a workflow never sees one
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
