"""A file or folder → Checkpoint: usable, or with the sentence that says why not."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from app.checkpoints.checkpoint import SD1, SD2, SDXL, Checkpoint, Family
from app.checkpoints.families import CLIP_WORDS, family_of, family_of_folder
from app.checkpoints.header import Unreadable, tensor_shapes
from app.checkpoints.kinds import INSTEAD, NotUsable
from app.checkpoints.prediction import prediction_of

INDEX = "model_index.json"
COMPONENTS = ("unet", "vae", "text_encoder")
SECOND = "text_encoder_2"  # of SDXL
PARTS = (*COMPONENTS, SECOND, "scheduler")
PICKLES = frozenset({".ckpt", ".pt", ".pth"})
SUFFIXES = PICKLES | {".safetensors", ".gguf"}

T = TypeVar("T")

Fingerprint = tuple[tuple[int, int], ...]


def looks_like_checkpoint(path: Path) -> bool:
    """Is this something that a person would call a checkpoint, usable or not?"""
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return True
    return path.is_dir() and ((path / INDEX).is_file() or (path / "unet").is_dir())


def identify(path: Path) -> Checkpoint:
    """What `path` is, from the headers of its files. It never raises: what can't be read has that as its `problem`.

    What its model card says is not in it (see `Catalogue`); what it `lacks` is no problem yet.
    """
    folder = path.is_dir()
    read, problem = read_or_problem(path, _folder if folder else _file)
    found = read or _Found()
    family = found.family or SD1
    return Checkpoint(
        name=path.name if folder else path.stem,
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

    Taken with each request for a picture, so the files of a folder are not made into paths first.
    """
    found: list[tuple[int, int]] = []
    with suppress(OSError):
        if not path.is_dir():
            return (_mark(path.stat()),)
        found.append(_mark((path / INDEX).stat()))
    for part in PARTS:
        with suppress(OSError), os.scandir(f"{path}/{part}") as entries:
            files = [(entry.name, _mark(entry.stat())) for entry in entries if entry.is_file()]
            found += [mark for _, mark in sorted(files)]
    return tuple(found)


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


def _folder(path: Path) -> _Found:
    if not (path / INDEX).is_file():
        raise NotUsable(f"is a diffusers folder without its {INDEX}. Copy the whole folder.")
    kind = str(_json(path / INDEX).get("_class_name"))
    if not (path / "unet/config.json").is_file():
        raise NotUsable("has no unet/config.json. Copy the whole folder.")
    unet = _json(path / "unet/config.json")
    family = family_of_folder(kind, unet)
    for part in (*COMPONENTS, *([SECOND] if "XL" in kind else [])):
        _check_component(path / part)
    words = _json(path / "text_encoder/config.json").get("vocab_size", 0)
    if words != CLIP_WORDS and family.context >= SD1.context and not (path / "tokenizer").is_dir():
        raise NotUsable(f"has a text encoder of {words:,} tokens, and no tokenizer for them. {INSTEAD}")
    latents, vae = unet.get("sample_size"), _json(path / "vae/config.json")
    scale = 2 ** (len(vae.get("block_out_channels", [0] * 4)) - 1)
    schedule = path / "scheduler/scheduler_config.json"
    prediction = str(_json(schedule).get("prediction_type", "epsilon")) if schedule.is_file() else ""
    return _Found(family, latents * scale if isinstance(latents, int) else family.side, prediction)


def _check_component(folder: Path) -> None:
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file():
        raise NotUsable(f"has no {folder.name}/config.json. Copy the whole folder.")
    if not weights:
        raise NotUsable(f"has no .safetensors file in {folder.name}/. Copy the whole folder, in its safetensors form.")
    for file in weights:
        try:
            tensor_shapes(file)
        except Unreadable as error:
            raise Unreadable(f"can't be used, because its {folder.name}/{file.name} {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Unreadable(f"has a damaged {path.name} ({error}). Copy the whole folder again.") from error
