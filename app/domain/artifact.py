"""Files as values: what a run made, and what a caller gave."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, TypeGuard

import msgspec

MARK = "__artifact__"


class Artifact(msgspec.Struct, frozen=True):
    """A file that a run made. The bytes lie in the artifact store under their sha256; the id is for this one use."""

    id: str
    run_id: str
    step_id: str
    sha256: str
    size: int
    mime_type: str
    extension: str
    filename: str
    width: int | None = None
    height: int | None = None
    seed: int | None = None

    def to_value(self) -> dict[str, Any]:
        """The file as it lies in a step's outputs: everything but a URL, which is signed anew at each reading."""
        return {
            MARK: self.id,
            "filename": self.filename,
            "extension": self.extension,
            "mime_type": self.mime_type,
            "size": self.size,
            "sha256": self.sha256,
            "width": self.width,
            "height": self.height,
            "seed": self.seed,
        }


class Picture(msgspec.Struct, frozen=True, rename={"id": MARK}):
    """A picture that a run made, as its outputs tell it."""

    id: str
    sha256: str
    size: int
    mime_type: str
    extension: str
    width: int | None = None
    height: int | None = None
    seed: int | None = None


class Upload(msgspec.Struct, frozen=True):
    """A file that a caller gave, for one of its users. `source_url` is where it was fetched from, if anywhere.

    What it is (`mime_type`) its bytes have told. `extension` is its name's, with a dot.
    """

    id: str
    app_id: str
    user: str
    sha256: str
    size: int
    mime_type: str
    extension: str
    filename: str
    source_url: str | None
    created_at: float
    width: int | None = None
    height: int | None = None

    def to_value(self) -> dict[str, Any]:
        """The file as it lies in a run's inputs."""
        value = {
            MARK: self.id,
            "filename": self.filename,
            "extension": self.extension,
            "mime_type": self.mime_type,
            "size": self.size,
            "sha256": self.sha256,
        }
        if self.source_url is None:
            return {**value, "transfer_method": "local_file"}
        return {**value, "transfer_method": "remote_url", "remote_url": self.source_url}


def is_artifact(value: object) -> TypeGuard[dict[str, Any]]:
    """True for what `to_value` gives, of an artifact or an upload."""
    return isinstance(value, dict) and MARK in value


def holds_artifact(value: object) -> bool:
    """True when a file lies anywhere in the value."""
    if isinstance(value, dict):
        return MARK in value or any(map(holds_artifact, value.values()))
    return isinstance(value, list) and any(map(holds_artifact, value))


def unforged(value: Any, made: Container[str] = ()) -> Any:
    """The value without what only looks like a file: of those marked as one, only `made` ones stay files.

    Whoever writes JSON could write the mark as well, and would be shown the file of another.
    """
    if not holds_artifact(value):
        return value
    if isinstance(value, list):
        return [unforged(item, made) for item in value]
    if is_artifact(value) and value[MARK] in made:
        return value
    return {name: unforged(item, made) for name, item in value.items() if name != MARK}
