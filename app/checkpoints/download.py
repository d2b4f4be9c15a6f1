"""One file from a server to the disk: resumed where it broke off, checked, and there whole or not at all.

What has come lies in `NAME.part`, beside a note of what it is a part of. Whoever types an address decides where to
connect to: no guard stands before it, and proxies of the environment are used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import httpx
import msgspec

from app.checkpoints.alone import alone
from app.checkpoints.sources import Remote, refusal
from app.errors import InvalidParam, Unavailable

_SHA256 = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_SPARE_BYTES = 64 << 20
_LONGEST_WAIT_S = 10.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

OnProgress = Callable[[int, int | None], None]
"""Hears of bytes that are there, and of bytes in all as far as that is known."""


class Broken(Exception):
    """The connection broke, or the server has a bad moment: it may be tried again."""


class Note(msgspec.Struct):
    """What a `.part` file is a part of: by its hash, or by the mark that the server gives it."""

    sha256: str = ""
    mark: str = ""


class Download:
    """Fetches `remote` into `target`. `tries` are attempts in a row that bring nothing; waits between them double."""

    def __init__(self, client: httpx.Client, headers: Mapping[str, str], tries: int = 6, wait_s: float = 0.5) -> None:
        self._client = client
        self._headers = {**headers, "accept-encoding": "identity"}
        self._tries = tries
        self._wait_s = wait_s

    def fetch(self, remote: Remote, target: Path, on_progress: OnProgress) -> str:
        """Returns the file's SHA-256. What broke off is kept, for the next time.

        Raises Unavailable when the server, the connection or the disk fails for good, InvalidParam and NotFound for
        what the server refuses, and InvalidParam where the file is not the one that was to come.
        """
        part = Part(target, remote)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with alone(target.with_name(f".{target.name}.lock"), partial(_refuse, target)):
                self._until_whole(remote, part, on_progress)
                return part.finish(remote)
        except OSError as error:
            raise Unavailable(f"{part.path} can't be written: {error.strerror or error}.") from None

    def _until_whole(self, remote: Remote, part: Part, on_progress: OnProgress) -> None:
        failures = 0
        while True:
            before = part.size
            try:
                self._attempt(remote, part, on_progress)
                return
            except (httpx.TransportError, Broken) as error:
                failures = 1 if part.size > before else failures + 1
                if failures >= self._tries:
                    reason = str(error) or type(error).__name__
                    raise Unavailable(
                        f"{remote.filename} broke off after {part.size:,} bytes ({reason}). The same command goes on "
                        "from there."
                    ) from None
                time.sleep(min(self._wait_s * 2 ** (failures - 1), _LONGEST_WAIT_S))

    def _attempt(self, remote: Remote, part: Part, on_progress: OnProgress) -> None:
        headers = self._headers | part.resume_headers()
        with self._client.stream("GET", remote.url, headers=headers, follow_redirects=True) as answer:
            total = self._accept(answer, remote, part)
            if total is not None and part.size == total:
                return
            _require_room(part, total)
            part.receive(answer.iter_raw(), lambda size: on_progress(size, total))
        if total is not None and part.size < total:
            raise Broken(f"{total - part.size:,} bytes are missing")

    def _accept(self, answer: httpx.Response, remote: Remote, part: Part) -> int | None:
        """Makes the part ready for what the answer brings; returns how many bytes the whole file has."""
        if answer.status_code in _PASSING:
            raise Broken(f"the server answered {answer.status_code}")
        if answer.status_code == 416:  # the part is longer than the file, or has all of it
            whole = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("content-range", ""))
            if whole and int(whole[1]) == part.size:
                return part.size
            part.forget()
            raise Broken("the server has another file now")
        if answer.status_code not in (200, 206):
            page = remote.page or remote.url.partition("?")[0]
            raise refusal(answer, remote.filename, page, has_token="authorization" in self._headers)
        if answer.headers.get("content-type", "").startswith("text/html"):
            raise InvalidParam(
                f"{answer.url.host} answered with a web page in place of {remote.filename}: it may want a login, or "
                "another address."
            )
        if answer.status_code == 206:
            said = _RANGE.fullmatch(answer.headers.get("content-range", ""))
            if said is None or int(said[1]) != part.size:
                part.forget()
                raise Broken("the server sent another part than it was asked for")
            return int(said[2]) if said[2].isdigit() else remote.size
        part.begin(Note(remote.sha256 or _linked_hash(answer), _mark(answer)))
        announced = answer.headers.get("content-length", "")
        return int(announced) if announced.isdigit() else remote.size


class Part:
    """The file as far as it has come, with its note."""

    def __init__(self, target: Path, remote: Remote) -> None:
        self.path = _part_of(target)
        self._target = target
        self._note_path = target.with_name(f"{target.name}.part.json")
        self._note = self._read_note()
        if remote.sha256 and self._note.sha256 != remote.sha256:
            self.forget()

    @property
    def size(self) -> int:
        return size_so_far(self._target)

    def resume_headers(self) -> dict[str, str]:
        """Asks for the rest, if this can be known to be a part of the same file."""
        if not self.size or not (self._note.sha256 or self._note.mark):
            return {}
        asked = {"range": f"bytes={self.size}-"}
        return asked if self._note.sha256 else asked | {"if-range": self._note.mark}

    def begin(self, note: Note) -> None:
        """From the first byte on."""
        self.path.write_bytes(b"")
        self._note = note
        self._note_path.write_bytes(msgspec.json.encode(note))

    def receive(self, chunks: Iterable[bytes], on_size: Callable[[int], None]) -> None:
        with self.path.open("ab") as file:
            size = file.tell()
            for chunk in chunks:
                file.write(chunk)
                size += len(chunk)
                on_size(size)

    def finish(self, remote: Remote) -> str:
        """Puts the whole file in its place. Raises InvalidParam, and forgets it, when it is not the one expected."""
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        expected = remote.sha256 or self._note.sha256
        if expected and found != expected:
            self.forget()
            raise InvalidParam(
                f"{remote.filename} came damaged: its SHA-256 is {found}, not {expected}. It was deleted; try again."
            )
        self.path.replace(self._target)
        self._note_path.unlink(missing_ok=True)
        return found

    def forget(self) -> None:
        self._note = Note()
        for path in (self.path, self._note_path):
            path.unlink(missing_ok=True)

    def _read_note(self) -> Note:
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self._note_path.read_bytes(), type=Note)
        return Note()


def size_so_far(target: Path) -> int:
    """How many bytes have come of a file that is not whole yet."""
    try:
        return _part_of(target).stat().st_size
    except OSError:
        return 0


def _part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _refuse(target: Path) -> NoReturn:
    """Two that write one part would spoil it."""
    raise InvalidParam(f"{target.name} is being fetched by another command.")


def _require_room(part: Part, total: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free
    needed = (total or 0) - part.size
    if free < needed + _SPARE_BYTES:
        raise Unavailable(
            f"{part.path.parent} has {free / 1e9:.2f} GB of room; what is to come takes {needed / 1e9:.2f} GB."
        )


def _mark(answer: httpx.Response) -> str:
    """What the server calls this state of the file, if that says that not a byte is another."""
    etag = answer.headers.get("etag", "")
    return str(etag if etag and not etag.startswith("W/") else answer.headers.get("last-modified", ""))


def _linked_hash(answer: httpx.Response) -> str:
    """The hash that Hugging Face's hub tells while it leads on to where the file is."""
    for each in (*answer.history, answer):
        said = each.headers.get("x-linked-etag", "").strip('"')
        if _SHA256.fullmatch(said):
            return str(said)
    return ""
