"""A file or folder → Checkpoint: usable, or with the sentence that says why not."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from app.checkpoints.checkpoint import SD1, SD2, SDXL, Checkpoint, Family
from app.checkpoints.families import CLIP_WORDS, family_of, family_of_folder
from app.checkpoints.header import Unreadable, tensor_shapes
from app.checkpoints.kinds import INSTEAD, NotUsable
from app.checkpoints.prediction import prediction_of
from app.checkpoints.weight_files import missing_files, weight_files

INDEX = "model_index.json"
COMPONENTS = ("unet", "vae", "text_encoder")
SECOND = "text_encoder_2"  # of SDXL
PARTS = (*COMPONENTS, SECOND, "scheduler")
PICKLES = frozenset({".ckpt", ".pt", ".pth"})
SUFFIXES = PICKLES | {".safetensors", ".gguf"}
_UNNAMEABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # what steers a terminal, and bytes that are no UTF-8
_MOST_TEXT_BYTES = 1 << 20  # of a component's configuration: it has a few KB
_WIDEST = 1024  # latents, of a UNet that says what size it was trained on

T = TypeVar("T")

Fingerprint = tuple[tuple[int, int], ...]


def looks_like_checkpoint(path: Path) -> bool:
    """Is this something that a person would call a checkpoint, usable or not?"""
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return True
    return path.is_dir() and ((path / INDEX).is_file() or (path / "unet").is_dir())


def name_of(path: Path) -> str:
    """How requests call it. Where a file system takes letters and their accents apart, they are put together."""
    return unicodedata.normalize("NFC", path.name if path.is_dir() else path.stem)


def is_nameable(name: str) -> bool:
    """Can a request write it? A file system takes names that no text should have; hidden ones are meant for nobody."""
    return not name.startswith(".") and _UNNAMEABLE.search(name) is None


def identify(path: Path) -> Checkpoint:
    """What `path` is, from the headers of its files. It never raises: what can't be read has that as its `problem`.

    What its model card says is not in it (see `Catalogue`); what it `lacks` is no problem yet.
    """
    read, problem = read_or_problem(path, _folder if path.is_dir() else _file)
    found = read or _Found()
    family = found.family or SD1
    return Checkpoint(
        name=name_of(path),
        path=str(path),
        family=found.family.name if found.family else None,
        problem=problem,
        side=found.side or family.side,
        guidance_scale=family.guidance_scale,
        size_bytes=sum(size for _, size in fingerprint(path)),
        prediction=found.prediction,
        lacks=found.lacks,
    )


def read_or_problem(path: Path, read: Callable[[Path], T]) -> tuple[T | None, str | None]:
    """What `read` says of the file or folder, or the sentence for the person who put it there."""
    try:
        return read(path), None
    except (Unreadable, NotUsable) as error:
        return None, f"{path.name} {error}"
    except IndexError:
        return None, f"{path.name} holds weights of other shapes than their names say."
    except OSError as error:
        return None, f"{path.name} can't be read: {error.strerror or error}."


class _Found(NamedTuple):
    family: Family | None = None
    side: int = 0
    prediction: str = ""
    lacks: tuple[str, ...] = ()


def files_of(path: Path) -> list[Path]:
    """The files that make up a checkpoint: itself, or a folder's index and what its components' folders hold."""
    if not path.is_dir():
        return [path]
    files = [path / INDEX]
    for part in PARTS:
        with suppress(OSError), os.scandir(path / part) as entries:
            files += sorted(Path(entry.path) for entry in entries if entry.is_file())
    return files


def fingerprint(path: Path) -> Fingerprint:
    """(mtime_ns, size) of each of its files: a checkpoint with another fingerprint is another checkpoint.

    Of the folder of one component they are those that lie in it itself. Taken with each request for a picture, so the
    files of a folder are not made into paths first.
    """
    found: list[tuple[int, int]] = []
    with suppress(OSError):
        if not path.is_dir():
            return (_mark(path.stat()),)
        found.append(_mark((path / INDEX).stat()))
    for part in PARTS:
        found += _marks(f"{path}/{part}")
    return tuple(found or _marks(str(path)))


def _marks(folder: str) -> list[tuple[int, int]]:
    files: list[tuple[str, tuple[int, int]]] = []
    with suppress(OSError), os.scandir(folder) as entries:
        files = [(entry.name, _mark(entry.stat())) for entry in entries if entry.is_file()]
    return [mark for _, mark in sorted(files)]


def _mark(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_mtime_ns, stat.st_size


def _file(path: Path) -> _Found:
    suffix = path.suffix.lower()
    if suffix == ".gguf":
        raise NotUsable("is a GGUF file, which Atelier can't read. Get the .safetensors version of it.")
    shapes = tensor_shapes(path)
    family, lacks = family_of(shapes)
    if family is SD2:
        prediction = prediction_of(path)
        return _Found(family, SD2.side if prediction == "v_prediction" else 512, prediction, lacks)
    return _Found(family, family.side, "v_prediction" if family is SDXL and "v_pred" in shapes else "", lacks)


class _Index(msgspec.Struct):
    kind: str = msgspec.field(name="_class_name", default="")


class _Unet(msgspec.Struct):
    in_channels: int = 4
    cross_attention_dim: int | list[Any] | None = None
    sample_size: int | list[Any] | None = None


class _Vae(msgspec.Struct):
    block_out_channels: Annotated[tuple[Any, ...], Meta(min_length=1, max_length=8)] = (0,) * 4


class _Text(msgspec.Struct):
    vocab_size: int = 0


class _Schedule(msgspec.Struct):
    prediction_type: str = "epsilon"


def _folder(path: Path) -> _Found:
    if not (path / INDEX).is_file():
        raise NotUsable(f"is a diffusers folder without its {INDEX}. Copy the whole folder.")
    kind = read_config(path / INDEX, _Index).kind
    if not (path / "unet/config.json").is_file():
        raise NotUsable("has no unet/config.json. Copy the whole folder.")
    unet = read_config(path / "unet/config.json", _Unet)
    family = family_of_folder(kind, unet.in_channels, unet.cross_attention_dim)
    for part in (*COMPONENTS, *([SECOND] if "XL" in kind else [])):
        _check_component(path / part)
    words = read_config(path / "text_encoder/config.json", _Text).vocab_size
    if words != CLIP_WORDS and family.context >= SD1.context and not (path / "tokenizer").is_dir():
        raise NotUsable(f"has a text encoder of {words:,} tokens, and no tokenizer for them. {INSTEAD}")
    scale = 2 ** (len(read_config(path / "vae/config.json", _Vae).block_out_channels) - 1)
    latents = unet.sample_size if isinstance(unet.sample_size, int) and 0 < unet.sample_size <= _WIDEST else 0
    return _Found(family, latents * scale or family.side, _prediction_of_folder(path))


def _prediction_of_folder(path: Path) -> str:
    """What its scheduler says; nothing where it has none."""
    schedule = path / "scheduler/scheduler_config.json"
    said = read_config(schedule, _Schedule).prediction_type if schedule.is_file() else ""
    if said not in ("", "epsilon", "v_prediction"):
        raise NotUsable(f"has a UNet that predicts {said[:50]!r}, and not noise or velocity. {INSTEAD}")
    return said


def _check_component(folder: Path) -> None:
    weights = weight_files(folder)
    if not (folder / "config.json").is_file():
        raise NotUsable(f"has no {folder.name}/config.json. Copy the whole folder.")
    if not weights:
        raise NotUsable(f"has no .safetensors file in {folder.name}/. Copy the whole folder, in its safetensors form.")
    if missing := missing_files(weights):
        raise NotUsable(f"lacks {missing} of the files of its {folder.name}/. Copy the whole folder.")
    for file in weights:
        try:
            tensor_shapes(file)
        except Unreadable as error:
            raise Unreadable(f"can't be used, because its {folder.name}/{file.name} {error}") from error


def read_config(path: Path, kind: type[T]) -> T:
    """What a folder says of itself in a file. Raises Unreadable, OSError."""
    with path.open("rb") as file:
        text = file.read(_MOST_TEXT_BYTES)
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(f"has a damaged {path.name} ({error}). Copy the whole folder again.") from error
