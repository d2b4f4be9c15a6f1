"""A checkpoint's files before it is loaded: how much memory its weights will take, and how they are read ahead."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path

from workers.diffusion.checkpoint.headers import header_of
from workers.diffusion.checkpoint.weight_files import weight_files
from workers.diffusion.request import Weights

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_PIECE = 1024 * 1024  # of a larger one Linux reads only the beginning: as much as the disk takes in one request
_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_TWINS = ("model_ema.",)  # beside the weights that are loaded


def expected_bytes(weights: Weights, number_bytes: int) -> int:
    """What the weights will take at so many bytes a number, by the headers of their files; 0 where those tell nothing.

    An autoencoder or text encoder that is replaced by another counts, too: too much is on the safe side.
    """
    return sum(_numbers_in(file) for file in _files(weights)) * number_bytes


def read_ahead(weights: Weights) -> None:
    """Lets the system read the files while the device is busy. Returns at once; a file that is gone is no harm."""
    if not hasattr(os, "posix_fadvise"):  # macOS
        return
    threading.Thread(target=_advise, args=(list(_files(weights)),), name="read-ahead", daemon=True).start()


def _advise(files: list[Path]) -> None:
    for file in files:
        with suppress(OSError):
            descriptor = os.open(file, os.O_RDONLY)
            try:
                for start in range(0, os.fstat(descriptor).st_size, _PIECE):
                    os.posix_fadvise(descriptor, start, _PIECE, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)


def _files(weights: Weights) -> Iterator[Path]:
    for path in filter(None, (weights.path, weights.vae_path, weights.text_encoder_path)):
        yield from _weight_files(Path(path))


def _weight_files(path: Path) -> list[Path]:
    """Those that are loaded of a file or folder: of a diffusers folder, not its safety checker, nor each twice."""
    folders = [folder for part in PARTS if (folder := path / part).is_dir()] or [path]
    try:
        return [file for folder in folders for file in weight_files(folder)] if path.is_dir() else [path]
    except OSError:
        return []


def _numbers_in(file: Path) -> int:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            header = header_of(descriptor)
        finally:
            os.close(descriptor)
        return sum(
            prod(tensor["shape"])
            for name, tensor in header.items()
            if not name.startswith(_TWINS) and tensor.get("dtype") in _FLOATS
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return 0
