"""Artifacts as files in a folder: the store of the embedded form."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app import clock, ids
from app.artifacts.objects import StoredObject, damaged, is_intact, missing, name_of, sha256_in
from app.errors import Unavailable


class DiskArtifacts:
    """Artifacts as files: `ab/cd/<sha256>` below a folder. `orphan_age_s` is what the sweep goes by."""

    def __init__(self, folder: Path, orphan_age_s: float) -> None:
        self._folder = folder
        self._orphan_age_s = orphan_age_s

    def put(self, content: bytes | memoryview) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        target = self._path(sha256)
        with _translated("The picture can't be stored"):
            if not _touch(target, len(content)):
                _write(target, content)
        return sha256

    def get(self, sha256: str) -> bytes:
        with _translated("The picture can't be read"):
            try:
                content = self._path(sha256).read_bytes()
            except FileNotFoundError:
                raise missing() from None
        if not is_intact(content, sha256):
            raise damaged(f"The picture's bytes in {self._folder} are damaged.", sha256)
        return content

    def open(self, sha256: str) -> BinaryIO:
        with _translated("The picture can't be read"):
            try:
                file = self._path(sha256).open("rb")
            except FileNotFoundError:
                raise missing() from None
            try:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise damaged(f"The picture's bytes in {self._folder} are damaged.", sha256)
                file.seek(0)
            except BaseException:
                file.close()
                raise
        return file

    def listing(self) -> Iterator[list[StoredObject]]:
        """A page for each `ab/cd`. What a killed put left half written goes on the way, once it is old."""
        with _translated("The pictures can't be listed"):
            for folder in sorted(self._folder.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]")):
                page = []
                for file in folder.iterdir():
                    age_s = _age_s(file)
                    if age_s is None:
                        continue
                    if sha256 := sha256_in(file.relative_to(self._folder).as_posix()):
                        page.append(StoredObject(sha256, age_s))
                    elif file.name.startswith(".") and age_s > self._orphan_age_s:
                        file.unlink(missing_ok=True)
                yield page

    def delete(self, sha256: str, older_than_s: float) -> bool:
        """As the protocol says. The file's lock is held from the look at its age to its end, so no put is lost."""
        path = self._path(sha256)
        with _translated("The picture can't be deleted"), _locked(path) as descriptor:
            # Without a name it was deleted by another sweep, and the path may be a newer file's by now.
            if descriptor is None or os.fstat(descriptor).st_nlink == 0:
                return False
            if clock.time() - os.fstat(descriptor).st_mtime <= older_than_s:
                return False
            path.unlink()
            return True

    def check(self) -> None:
        probe = self._folder / f".probe-{ids.new_id()}"
        with _translated(f"The folder {self._folder} can't hold pictures"):
            _write(probe, b"atelier")
            try:
                probe.read_bytes()
            finally:
                probe.unlink(missing_ok=True)

    def _path(self, sha256: str) -> Path:
        return self._folder / name_of(sha256)


def _touch(path: Path, size: int) -> bool:
    """Makes a file young that is there in full; False when it has to be written."""
    with _locked(path) as descriptor:
        if descriptor is None:
            return False
        found = os.fstat(descriptor)
        if found.st_nlink == 0 or found.st_size != size:
            return False
        os.utime(descriptor)
        return True


def _write(target: Path, content: bytes | memoryview) -> None:
    """All or nothing: the file has its name only once its bytes are on the disk."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """The file, open and held against every other holder of its lock; None when it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _age_s(path: Path) -> float | None:
    try:
        return clock.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turns the disk's trouble into Unavailable with one sentence."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{what}: {error.strerror or error}.") from error
