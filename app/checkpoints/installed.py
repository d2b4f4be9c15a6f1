"""Checkpoints that are put into the folder and taken out of it: each is there whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from app import ids
from app.checkpoints.adapters import KINDS, identify_adapter
from app.checkpoints.catalogue import Catalogue
from app.checkpoints.checkpoint import Checkpoint
from app.checkpoints.conversion import Conversions
from app.checkpoints.hashes import Hashes
from app.checkpoints.identify import INDEX, SUFFIXES, identify
from app.checkpoints.kinds import FOLDERS
from app.errors import CheckpointUnavailable, Forbidden, InvalidParam, Unavailable
from app.settings import Settings

_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*){0,2}", re.ASCII)


class Installed:
    """The folder of the checkpoints as its keeper has it. What ships with Atelier lies elsewhere and stays."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._folder = settings.checkpoints_dir
        self._catalogue = catalogue
        self._hashes = Hashes(settings.hashes_file)
        self._conversions = Conversions(settings.converted_dir)

    def known(self, name: str) -> Checkpoint:
        """Raises CheckpointUnavailable."""
        return self._catalogue.get(name)

    def sha256(self, checkpoint: Checkpoint) -> str:
        """64 hex digits, empty while nobody has read the file for that."""
        return self._hashes.find(Path(checkpoint.path)) or ""

    def place(self, name: str, files: Mapping[str, Path], digests: Mapping[str, str]) -> Checkpoint:
        """A checkpoint of that name: of one file, or of those of a diffusers folder by their paths in it.

        The files themselves stay where they are. One that has the very bytes already stays as it is. Raises
        InvalidParam, CheckpointUnavailable for what can't be used, Unavailable.
        """
        paths = {path: PurePosixPath(path) for path in files}
        wrong = next((path for path in files if not _FILE.fullmatch(path) or ".." in path), None)
        if wrong is not None:
            raise InvalidParam(f"{wrong!r} can't be the path of a checkpoint's file", params="files")
        staging = self._folder / f".creating-{ids.new_nonce()}"
        try:
            if INDEX in files:
                made = staging / name
                for path, source in files.items():
                    _link(source, made / paths[path])
            else:
                [(path, source)] = files.items()
                made = staging / f"{name}{_suffix(path)}"
                _link(source, made)
            return self.adopt(made, digests)
        except OSError as error:
            raise Unavailable(f"{self._folder} can't be written: {error.strerror or error}.") from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def adopt(self, made: Path, digests: Mapping[str, str]) -> Checkpoint:
        """Puts a finished file or folder among the checkpoints, once it is known to be one.

        Raises CheckpointUnavailable, InvalidParam where another checkpoint has its name, OSError.
        """
        name = made.name if made.is_dir() else made.stem
        problem = identify(made).problem
        if problem:
            raise CheckpointUnavailable(problem, params="files")
        there = self._same(name, made, digests)
        if there is not None:
            return there
        self.require_free(name)
        place = self._folder / made.name
        if not _move(made, place):  # somebody was faster, with the same bytes or with others
            there = self._same(name, made, digests)
            if there is None:
                self.require_free(name)
                raise Unavailable(f"{made.name} could not be put among the checkpoints: ask again.")
            return there
        try:
            checkpoint = self._catalogue.get(name)
        except CheckpointUnavailable:  # it lacks a part that nothing here has
            take_away(place)
            raise
        if not place.is_dir() and digests:
            self._hashes.note(place, next(iter(digests.values())))
        return checkpoint

    def _same(self, name: str, made: Path, digests: Mapping[str, str]) -> Checkpoint | None:
        """The checkpoint of that name if it has the very bytes."""
        there = self._folder / made.name
        if not there.exists() or made.is_dir() != there.is_dir() or not digests:
            return None
        files = {path: there / path for path in digests} if made.is_dir() else dict.fromkeys(digests, there)
        if all(file.is_file() and self._hashes.compute(file) == digests[path] for path, file in files.items()):
            return self._catalogue.get(name)
        return None

    def place_lora(self, file: str, source: Path, sha256: str) -> str:
        """Puts a LoRA among the others, under the name of its file; returns how requests call it.

        Raises as `place` does. One of that name stays if it has the very bytes.
        """
        if not _FILE.fullmatch(file) or ".." in file:
            raise InvalidParam(f"{file!r} can't be the path of a file", params="adapters")
        name = PurePosixPath(file).stem
        place = self._folder / FOLDERS["lora"] / f"{name}{_suffix(file)}"
        staging = self._folder / f".creating-{ids.new_nonce()}"
        try:
            made = staging / place.name
            _link(source, made)
            problem = identify_adapter("lora", name, made).problem
            if problem:
                raise CheckpointUnavailable(problem, params="adapters")
            if not self._shelve(made, place, {sha256}):
                said = f"there is a LoRA '{name}' already, with other content; give this one another name"
                raise InvalidParam(said, params="adapters")
        except OSError as error:
            raise Unavailable(f"{self._folder} can't be written: {error.strerror or error}.") from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return name

    def adopt_any(self, made: Path, digests: Mapping[str, str]) -> Checkpoint | None:
        """The same for what may go with checkpoints, too: a LoRA, a VAE and so on goes into its own folder; then None.

        Raises as `adopt` does.
        """
        name = made.name if made.is_dir() else made.stem
        kinds = (kind for kind in KINDS if identify(made).problem and not identify_adapter(kind, name, made).problem)
        kind = next(kinds, None)
        if kind is None:
            return self.adopt(made, digests)
        place = self._folder / FOLDERS[kind] / made.name
        if not self._shelve(made, place, set(digests.values())):
            raise InvalidParam(f"{FOLDERS[kind]}/{made.name} is there already, with other content", params="model")
        return None

    def _shelve(self, made: Path, place: Path, digests: set[str]) -> bool:
        """Puts it there, or leaves what has the very bytes; False where something else has its name. Raises OSError."""
        place.parent.mkdir(parents=True, exist_ok=True)
        return _move(made, place) or (place.is_file() and {self._hashes.compute(place)} == digests)

    def require_free(self, name: str) -> None:
        """Raises InvalidParam where a checkpoint has that name already, in whichever letters, usable or not."""
        if self._catalogue.called(name) is not None:
            raise InvalidParam(
                f"there is a checkpoint '{name}' already, with other content; delete it first, or take another name",
                params="model",
            )

    def require_own(self, checkpoint: Checkpoint) -> None:
        """Raises Forbidden for one that lies in no folder of the keeper's."""
        if Path(checkpoint.path).parent != self._folder:
            raise Forbidden(f"model '{checkpoint.name}' ships with Atelier and can't be deleted")

    def remove(self, checkpoint: Checkpoint) -> None:
        """Deletes its file or folder, and what that was converted to; its model card stays.

        Raises Forbidden as `require_own` does, Unavailable.
        """
        self.require_own(checkpoint)
        path = Path(checkpoint.path)
        try:
            converted = self._conversions.find(path)
            take_away(path)
            if converted is not None:
                converted.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"{path.name} can't be deleted: {error.strerror or error}.") from None


def _suffix(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    return suffix if suffix in SUFFIXES else ".safetensors"


def _link(source: Path, place: Path) -> None:
    """The same bytes at another place, without copying them where the disk can do that."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)


def _move(made: Path, place: Path) -> bool:
    """False where something is, or somebody else has put something meanwhile. Raises OSError."""
    if place.exists():
        return False
    try:
        if made.is_dir():
            made.rename(place)
        else:
            _rename(made, place)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return False
        raise
    return True


def _rename(made: Path, place: Path) -> None:
    """A file, without replacing another one where the disk can do that. Raises OSError."""
    try:
        os.link(made, place)
    except FileExistsError:
        raise
    except OSError:  # a disk without links
        made.rename(place)
    else:
        made.unlink()


def take_away(path: Path) -> None:
    """First nobody sees it, then it is gone. Of a link that leads elsewhere the link alone."""
    aside = path.with_name(f".deleted-{ids.new_nonce()}")
    path.rename(aside)
    with suppress(OSError):
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        else:
            aside.unlink()
