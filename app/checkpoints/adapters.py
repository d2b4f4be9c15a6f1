"""The files that change what a checkpoint paints, by kind and name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from app.errors import CheckpointUnavailable

Kind = Literal["lora", "embedding", "vae", "controlnet", "upscaler"]

FOLDERS: dict[Kind, str] = {
    "lora": "loras",
    "embedding": "embeddings",
    "vae": "vae",
    "controlnet": "controlnet",
    "upscaler": "upscalers",
}
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


class Adapter(msgspec.Struct, frozen=True):
    """A file, or a diffusers folder, that goes with a checkpoint. `family` is None where it can't be told."""

    kind: Kind
    name: str
    path: str
    family: str | None = None
    problem: str | None = None


class Adapters:
    """What lies in the folders beside the checkpoints, by the stems of the files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, kind: Kind) -> list[str]:
        return sorted(self._paths(kind))

    def find(self, kind: Kind, name: str) -> Adapter:
        """Raises CheckpointUnavailable, naming what is installed."""
        path = self._paths(kind).get(name)
        if path is None:
            there = ", ".join(self.names(kind)) or "none"
            raise CheckpointUnavailable(f"There is no {kind} {name!r}. Installed: {there}.")
        return Adapter(kind, name, str(path))

    def _paths(self, kind: Kind) -> dict[str, Path]:
        folder = self._folder / FOLDERS[kind]
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return {
            path.name if path.is_dir() else path.stem: path
            for path in found
            if path.is_dir() or path.suffix in _SUFFIXES
        }
