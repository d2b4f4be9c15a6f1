"""What goes with a checkpoint, by kind and name: LoRAs, textual inversions, VAEs, ControlNets, upscalers.

Each kind has a folder of its own within that of the checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unicodedata import normalize

import msgspec

from app.checkpoints.bases import base_of
from app.checkpoints.header import Shapes, Unreadable, tensor_shapes
from app.checkpoints.identify import is_nameable, name_of, read_config, read_or_problem
from app.checkpoints.kinds import FOLDERS, TINY_VAE, NotUsable, kind_of
from app.checkpoints.metadata import metadata_of
from app.checkpoints.weight_files import missing_files, weight_files
from app.errors import CheckpointUnavailable

Kind = Literal["lora", "embedding", "vae", "controlnet", "upscaler", "text_encoder"]
KINDS: tuple[Kind, ...] = ("lora", "embedding", "vae", "controlnet", "upscaler", "text_encoder")
FOLDERS_TOO = frozenset({"vae", "controlnet", "text_encoder"})  # as diffusers saves them

_NOUNS = {
    "lora": "LoRA",
    "embedding": "textual inversion",
    "vae": "VAE",
    "controlnet": "ControlNet",
    "upscaler": "upscaler",
    "text_encoder": "text encoder",
}
_TINY = "it is a tiny one (TAESD), which shows pictures in the making and finishes none."
_PARAMS = {"lora": "loras", "embedding": "prompt", "controlnet": "control_net", "text_encoder": "model_name"}
_SUFFIXES = frozenset({".safetensors", ".pt", ".pth", ".bin", ".ckpt"})
_TICK_NS = 2_000_000_000  # as in the catalogue: a listing of a folder that has just changed is not trusted

Stamp = tuple[int, int]


class Adapter(msgspec.Struct, frozen=True):
    """A file or a diffusers folder. `family` is None where it can't be told, or does not matter.

    With a `problem`, a sentence for the person who put it there, it can't be used.
    """

    kind: Kind
    name: str
    path: str
    family: str | None = None
    problem: str | None = None
    size_bytes: int = 0
    trigger_words: tuple[str, ...] = ()
    is_tiny: bool = False  # a VAE that only shows pictures in the making


class Adapters:
    """What lies in the folders of the kinds within `folder`. It follows the disk, as the catalogue does.

    A name is only ever looked up among those found, so no name can lead to another place of the disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._listed: dict[Kind, tuple[int, dict[str, Path]]] = {}
        self._known: dict[Path, tuple[Stamp, Adapter]] = {}

    def names(self, kind: Kind) -> list[str]:
        """Of those that can be used."""
        return [adapter.name for adapter in self.list(kind) if adapter.problem is None]

    def list(self, kind: Kind, is_wanted: Callable[[str], bool] = lambda name: True) -> list[Adapter]:
        """All of a kind, or those whose names are wanted, by name, with those that can't be used."""
        paths = self._paths(kind)
        return [self._adapter(kind, name, paths[name]) for name in sorted(filter(is_wanted, paths))]

    def find(self, kind: Kind, name: str) -> Adapter:
        """The usable one of that name, which may end as its file does. Raises CheckpointUnavailable."""
        paths = self._paths(kind)
        end = Path(name).suffix
        plain = normalize("NFC", name if name in paths or end not in _SUFFIXES else name.removesuffix(end))
        params = _PARAMS.get(kind, kind)
        if plain not in paths:
            raise CheckpointUnavailable(f"There is no {_NOUNS[kind]} {name!r}. {self._way_out(kind)}", params=params)
        found = self._adapter(kind, plain, paths[plain])
        problem = found.problem or (_TINY if found.is_tiny else None)
        if problem:
            raise CheckpointUnavailable(f"The {_NOUNS[kind]} {name!r} can't be used: {problem}", params=params)
        return found

    def _adapter(self, kind: Kind, name: str, path: Path) -> Adapter:
        stamp, known = _stamp(path), self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, identify_adapter(kind, name, path))
        return known[1]

    def _paths(self, kind: Kind) -> dict[str, Path]:
        """Name → path. Of one name, a .safetensors file counts before a folder, and that before others."""
        folder = self._folder / FOLDERS[kind]
        try:
            mtime_ns = folder.stat().st_mtime_ns
        except OSError:
            return {}
        listed = self._listed.get(kind)
        if listed is not None and listed[0] == mtime_ns:
            return listed[1]
        paths: dict[str, Path] = {}
        with suppress(OSError):
            for path in sorted(folder.iterdir(), key=_rank):
                if _is_one(kind, path):
                    paths.setdefault(name_of(path), path)
        if mtime_ns < time.time_ns() - _TICK_NS:
            self._listed[kind] = mtime_ns, paths
        return paths

    def _way_out(self, kind: Kind) -> str:
        paths = self._paths(kind)
        found = (self._adapter(kind, name, paths[name]) for name in sorted(paths))
        usable = islice((adapter.name for adapter in found if adapter.problem is None), NAMED + 1)
        return f"{listed(list(usable))} Put its file into {self._folder / FOLDERS[kind]}."


NAMED = 40
"""So many names an error lists: who has thousands knows where to look."""


def listed(names: list[str]) -> str:
    """Those that are installed, as a sentence."""
    if not names:
        return "None is installed."
    more = " and others" if len(names) > NAMED else ""
    return f"Installed: {', '.join(names[:NAMED])}{more}."


def identify_adapter(kind: Kind, name: str, path: Path) -> Adapter:
    """What `path` is. It never raises: what can't be read, or is of another kind, has that as its `problem`."""
    read, problem = read_or_problem(path, partial(_folder if path.is_dir() else _file, kind))
    found = read or _Found()
    size_bytes = _stamp(path)[1]
    return Adapter(kind, name, str(path), found.family, problem, size_bytes, found.trigger_words, found.is_tiny)


class _Found(NamedTuple):
    family: str | None = None
    trigger_words: tuple[str, ...] = ()
    is_tiny: bool = False


def _file(kind: Kind, path: Path) -> _Found:
    """Raises NotUsable, Unreadable, OSError."""
    return _found(kind, path.stem, tensor_shapes(path), metadata_of(path))


def _folder(kind: Kind, path: Path) -> _Found:
    """Raises as `_file` does."""
    weights = weight_files(path)
    if not weights:
        raise NotUsable("is a folder without a .safetensors file. Copy the whole folder, in its safetensors form.")
    if missing := missing_files(weights):
        raise NotUsable(f"lacks {missing} of its .safetensors files. Copy the whole folder.")
    shapes: Shapes = {}
    for file in weights:
        try:
            shapes |= tensor_shapes(file)
        except Unreadable as error:
            raise Unreadable(f"can't be used, because its {file.name} {error}") from error
    read_config(path / "config.json", dict[str, Any])
    return _found(kind, path.name, shapes, {})


def _found(kind: Kind, name: str, shapes: Shapes, said: Mapping[str, str]) -> _Found:
    """Raises NotUsable for what is of another kind."""
    found = kind_of(shapes)
    if found is None:
        raise NotUsable(f"is no {_NOUNS[kind]}: it holds nothing that Atelier knows.")
    if found.word != kind:
        raise found.as_another(kind)
    return _Found(base_of(kind, name, shapes, said), _trigger_words(said), found is TINY_VAE)


def _is_one(kind: Kind, path: Path) -> bool:
    if not is_nameable(path.name):
        return False
    if path.is_dir():
        return kind in FOLDERS_TOO and (path / "config.json").is_file()
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def _rank(path: Path) -> tuple[int, str]:
    return (0 if path.suffix.lower() == ".safetensors" else 1 if path.is_dir() else 2), path.name


def _stamp(path: Path) -> Stamp:
    """Modification time in ns and size in bytes; of a folder, its files' latest and sum."""
    try:
        stats = [file.stat() for file in path.iterdir()] if path.is_dir() else [path.stat()]
    except OSError:
        return 0, 0
    return max((stat.st_mtime_ns for stat in stats), default=0), sum(stat.st_size for stat in stats)


def _trigger_words(said: Mapping[str, str]) -> tuple[str, ...]:
    phrase = said.get("modelspec.trigger_phrase") or ""
    return tuple(word.strip() for word in phrase.split(",") if word.strip())
