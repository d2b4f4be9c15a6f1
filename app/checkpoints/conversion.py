"""Files that PyTorch saved → .safetensors files, once each, by a child process that can do nothing else.

Whoever loads weights asks `Conversions.ready` for a file to load. What is converted lies in a folder of its own, under
the name and a mark of the original's time and size: a file that is replaced is converted again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from app import clock
from app.checkpoints.header import Unreadable, find_tensors, is_pickled, tensor_shapes
from app.checkpoints.identify import fingerprint
from app.checkpoints.kinds import FOLDERS
from app.checkpoints.pickles import SIZES
from app.errors import CheckpointUnavailable, Unavailable

Kind = Literal["F16", "BF16", "F32"]
OnProgress = Callable[[int, int], None]
"""Hears of bytes done and bytes in all; before they are known, of 0 and 0. It may raise to end the conversion."""

_CHILD = "workers.conversion"
_LOOK_S = 0.2
_TEXTS = frozenset({".json", ".txt", ".model"})
_SPARE_BYTES = 64 << 20
_SECONDS_PER_GB = 60
_LONGEST_STEM = 200  # bytes: a file's name may have 255, and the mark and the ends take 34


class Conversions:
    """The converted files in `folder`. Threads and processes may share it; they convert one file at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ready(self, path: Path, on_progress: OnProgress) -> Path:
        """The file or folder to load for `path`: itself, or what it was converted to, which may take a minute now.

        Raises CheckpointUnavailable when it can't be read, Unavailable when the disk is full, and what `on_progress`
        raises.
        """
        try:
            if not is_pickled(path):
                return path
        except OSError as error:
            raise _refused(path, f"can't be read: {error.strerror or error}.") from None
        return self.find(path) or self._make(path, on_progress)

    def find(self, path: Path) -> Path | None:
        """What `path` was converted to, if it was."""
        place = self._place(path)
        return place if place.is_file() else None

    def _make(self, path: Path, on_progress: OnProgress) -> Path:
        place = self._place(path)
        with self._turn(on_progress):
            if not place.is_file():  # somebody else may have made it meanwhile
                convert(path, place, "F16", on_progress)
                self._forget_older(place)
        return place

    def _place(self, path: Path) -> Path:
        """What goes with checkpoints has folders of its own here, too: a LoRA may be called as a checkpoint is."""
        mark = hashlib.sha256(repr((path.name, fingerprint(path))).encode()).hexdigest()[:16]
        folder = self._folder / path.parent.name if path.parent.name in FOLDERS.values() else self._folder
        return folder / f"{_stem(path)}-{mark}.safetensors"

    def _forget_older(self, place: Path) -> None:
        """Deletes what earlier files of this name were converted to. Who has one open goes on with it."""
        stem = place.stem[:-17]
        for other in place.parent.glob("*.safetensors"):
            if other != place and re.fullmatch(re.escape(stem) + r"-[0-9a-f]{16}", other.stem):
                other.unlink(missing_ok=True)

    @contextmanager
    def _turn(self, on_progress: OnProgress) -> Iterator[None]:
        """Waits until nobody else converts here: side by side they would take each other's disk."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / ".lock").open("w")
        except OSError as error:
            raise Unavailable(f"{self._folder} can't be written: {error.strerror or error}.") from None
        with lock:
            while not _is_locked(lock.fileno()):
                on_progress(0, 0)
                time.sleep(_LOOK_S)
            yield


def convert(source: Path, target: Path, kind: Kind, on_progress: OnProgress) -> None:
    """Writes the weights of `source` into the .safetensors file `target` with floating-point numbers of this kind.

    Names stay as they are. The file is there whole or not at all. Raises as `Conversions.ready` does.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # the child of somebody who was killed may still write into that one
        with source.open("rb") as given, part.open("wb") as made:
            most = _room_for(source, target, kind)
            _run_child((given.fileno(), made.fileno()), kind, most, on_progress)
            os.fsync(made.fileno())
        tensor_shapes(part)
        part.replace(target)
    except Unreadable as error:
        raise _refused(source, str(error)) from None
    except OSError as error:
        raise Unavailable(f"{source.name} can't be converted: {error.strerror or error} ({target.parent}).") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def convert_folder(source: Path, target: Path, kind: Kind, on_progress: OnProgress) -> None:
    """The same for a diffusers folder, each file of weights by itself; what else is in it is copied."""
    part = target.with_name(f".{target.name}.part")  # seen by nobody before it is whole
    shutil.rmtree(part, ignore_errors=True)
    try:
        for file in [each for each in source.rglob("*") if each.is_file()]:
            copy = part / file.relative_to(source)
            if file.suffix == ".safetensors":
                convert(file, copy, kind, on_progress)
            elif file.suffix in _TEXTS:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        part.replace(target)
    except OSError as error:
        raise Unavailable(f"{target} can't be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _run_child(descriptors: tuple[int, int], kind: Kind, most_bytes: int, on_progress: OnProgress) -> None:
    """The child has the two descriptors, and nothing of this process's environment. Raises Unreadable."""
    seconds = 60 + _SECONDS_PER_GB * (most_bytes >> 30)
    words = [str(word) for word in (*descriptors, kind, seconds, most_bytes)]
    child = subprocess.Popen(
        [sys.executable, "-m", _CHILD, *words],
        env={
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        },
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        said = _told(child, on_progress)
    finally:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()
    if "tensors" not in said:
        raise Unreadable(str(said.get("error") or _end(child.returncode)))


def _room_for(source: Path, target: Path, kind: Kind) -> int:
    """The most bytes that the converted file may have. Raises Unreadable; Unavailable where the disk has less room."""
    with source.open("rb") as file:
        tensors = find_tensors(file).values()
    own = [(tensor.length, SIZES.get(tensor.kind, 0)) for tensor in tensors]
    needed = sum(count * min(size, SIZES[kind]) for count, size in own)
    free = shutil.disk_usage(target.parent).free
    if free < needed + _SPARE_BYTES:
        raise Unavailable(
            f"{source.name} can't be converted: that takes {needed / 1e9:.1f} GB in {target.parent}, where "
            f"{free / 1e9:.1f} GB are free."
        )
    return sum(count * max(size, SIZES[kind]) for count, size in own) + _SPARE_BYTES


def _told(child: subprocess.Popen[bytes], on_progress: OnProgress) -> dict[str, Any]:
    """The last thing that the child said; how far it is goes on, a few times a second."""
    pipe = child.stdout
    assert pipe is not None
    text, last, told_s = b"", {"done": 0, "of": 0}, 0.0
    while True:
        is_told, _, _ = select.select([pipe], [], [], _LOOK_S)
        part = os.read(pipe.fileno(), 1 << 16) if is_told else None
        if part == b"":
            child.wait()
            return last
        *lines, text = (text + (part or b"")).split(b"\n")
        if lines:
            last = json.loads(lines[-1])
        if "done" in last and clock.monotonic() - told_s >= _LOOK_S:
            told_s = clock.monotonic()
            on_progress(int(last["done"]), int(last["of"]))


def _end(returncode: int) -> str:
    if returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return "takes more time to read than any checkpoint of its size: it is damaged, or made to do harm."
    return f"could not be converted: the process that read it ended with status {returncode}."


def _stem(path: Path) -> str:
    """The name of `path` without its end, or of a longer one its beginning and a mark of the whole."""
    name = os.fsencode(path.stem)
    return path.stem if len(name) <= _LONGEST_STEM else f"{path.stem[:40]}-{hashlib.sha256(name).hexdigest()[:8]}"


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refused(path: Path, problem: str) -> CheckpointUnavailable:
    return CheckpointUnavailable(
        f"The checkpoint {path.stem!r} can't be used: {path.name} {problem}", params="model_name"
    )
