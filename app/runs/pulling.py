"""A checkpoint from a repository or an address into the folder, as callers of the API ask for it: through the guard.

What is coming lies in a hidden folder of its own, so that it is gone on with when it is asked for again, and is looked
at before it gets its place.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath

import httpx
import msgspec

from app.checkpoints.alone import alone
from app.checkpoints.checkpoint import Checkpoint
from app.checkpoints.download import Download, size_so_far
from app.checkpoints.hashes import Hashes
from app.checkpoints.identify import SUFFIXES
from app.checkpoints.installed import Installed
from app.checkpoints.kinds import FOLDERS
from app.checkpoints.leftovers import PULLING
from app.checkpoints.sources import Hub, Remote, Source, find_source
from app.domain.model_name import LATEST, ModelName, parse_name
from app.errors import InvalidParam, Unavailable
from app.outbound.blocking import BlockingGuardedTransport
from app.outbound.reach import Reach, reach_of
from app.outbound.urls import check_url
from app.settings import Settings

Tell = Callable[[str, str, int, int], None]
"""Hears a status, the digest of what it is about or nothing, the bytes of all of it and those that are there."""

VERIFYING = "verifying sha256 digest"
FOLDER_TAG = "diffusers"
HUB_HOSTS = frozenset({"hf.co", "huggingface.co"})
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+?)?(:[^:]+)?", re.ASCII)
WEIGHTS = SUFFIXES | {".bin"}
_CONNECT_S, _SILENCE_S = 30.0, 60.0
_LOOK_S = 0.2  # between two looks at how far another server is


class Wanted(msgspec.Struct, frozen=True):
    """What is to be pulled: a repository of the hub's with what of it (`owner/name[@revision][:file]`), or a URL."""

    text: str
    folder: bool = False

    @property
    def is_url(self) -> bool:
        return self.text.startswith(("http://", "https://"))


def read_wanted(name: str, reach: Reach, *, insecure: bool = False) -> Wanted:
    """What a name means that is to be pulled. Raises InvalidParam for what no name can be, or no server may ask."""
    text = name.strip()
    is_url = text.startswith(("http://", "https://"))
    bare = text.partition("://")[2] if is_url else text
    host, _, rest = bare.partition("/")
    if host.lower() in HUB_HOSTS and "/resolve/" not in rest:
        bare, is_url = rest.rstrip("/"), False
    if is_url:
        check_url(text, "model", reach)
        return Wanted(text)
    bare = bare.removesuffix(f":{LATEST}")
    if bare.count("/") == 2 or "/" in bare.partition(":")[2]:
        named = _named(bare)
        if named is not None and named.host:
            url = server_url(named, insecure=insecure)
            check_url(url, "model", reach)
            return Wanted(url)
    if not _REPOSITORY.fullmatch(bare):
        raise InvalidParam("invalid model name", params="model")
    repository, _, file = bare.partition(":")
    return Wanted(repository, folder=True) if file.lower() == FOLDER_TAG else Wanted(bare)


def is_plain(name: str) -> bool:
    """Whether a name says of no place that it could come from."""
    named = _named(name)
    return "/" not in (named.plain_model if named else name)


def server_url(named: ModelName, *, insecure: bool = False) -> str:
    """Where the file of a model lies whose name begins with a server: `host/namespace/model[:tag]`."""
    file = named.model if named.tag.lower() == LATEST else f"{named.model}-{named.tag}"
    suffix = "" if PurePosixPath(file).suffix.lower() in WEIGHTS else ".safetensors"
    return f"{'http' if insecure else 'https'}://{named.host}/{named.namespace}/{file}{suffix}"


class Puller:
    """Pulls one thing at a time for each thread that asks."""

    def __init__(self, settings: Settings, installed: Installed) -> None:
        self._folder = settings.checkpoints_dir
        self._hub = Hub(settings.hub_url, settings.hub_token)
        self._reach = reach_of(settings)
        self._hashes = Hashes(settings.hashes_file)
        self._installed = installed

    def pull(self, wanted: Wanted, tell: Tell) -> Checkpoint | None:
        """The checkpoint; None for what goes with checkpoints, which lies among its like. There already: as well.

        Raises InvalidParam, NotFound, CheckpointUnavailable, Unavailable, and what `tell` raises.
        """
        reach = self._reach if wanted.is_url else self._reach.with_server(self._hub.url)
        timeout = httpx.Timeout(_CONNECT_S, read=_SILENCE_S)
        with httpx.Client(transport=BlockingGuardedTransport(reach), timeout=timeout, trust_env=False) as client:
            by = f":{FOLDER_TAG}"
            found = find_source(client, self._hub, wanted.text, folder=wanted.folder, folder_by=by)
            mark = hashlib.sha256(repr((self._hub.url, wanted)).encode()).hexdigest()[:16]
            staging = self._folder / PULLING / mark
            with self._alone(staging, found, tell):
                place = self._folder / _file_name(found)
                if place.exists():
                    self._require_same(client, found, place, tell)
                    return self._installed.known(found.name)
                if any(self._is_there(client, found, self._folder / shelf / place.name) for shelf in FOLDERS.values()):
                    return None
                return self._fetch(client, found, staging, tell)

    @contextmanager
    def _alone(self, staging: Path, found: Source, tell: Tell) -> Iterator[None]:
        """Of several servers that share the folder one fetches; the others tell how far that one is.

        When it has ended, or was killed, the next one looks what is left to do. Raises Unavailable, what `tell` raises.
        """

        def look() -> None:
            targets = ((remote, _target(staging, found, remote)) for remote in found.files)
            for remote, target in targets:
                if not target.is_file():
                    tell(*_line_of(remote), remote.size or 0, size_so_far(target))
                    break
            time.sleep(_LOOK_S)

        with ExitStack() as holding:
            try:
                staging.parent.mkdir(parents=True, exist_ok=True)
                holding.enter_context(alone(staging.with_suffix(".lock"), look))
            except OSError as error:
                raise _unwritable(self._folder, error) from None
            yield

    def _fetch(self, client: httpx.Client, found: Source, staging: Path, tell: Tell) -> Checkpoint | None:
        self._installed.require_free(found.name)
        made, digests = staging / _file_name(found), {}
        try:
            for remote in found.files:
                target, is_last = _target(staging, found, remote), remote is found.files[-1]
                digests[remote.path or made.name] = self._fetch_file(client, remote, target, tell, is_last=is_last)
        finally:
            with suppress(OSError):
                staging.rmdir()  # where nothing has come, nothing is left
        tell(VERIFYING, "", 0, 0)
        tell("writing manifest", "", 0, 0)
        try:
            checkpoint = self._installed.adopt_any(made, digests)
        except OSError as error:
            raise _unwritable(self._folder, error) from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # it has its place, or it can't be used
        return checkpoint

    def _fetch_file(self, client: httpx.Client, remote: Remote, target: Path, tell: Tell, *, is_last: bool) -> str:
        """The file's hash. One that is there as a whole came with an earlier pull that broke off."""
        status, digest = _line_of(remote)
        if target.is_file() and remote.size in (None, target.stat().st_size):
            size = target.stat().st_size
            tell(status, digest, size, size)
            return self._hashes.compute(target)

        def on_progress(done: int, total: int | None) -> None:
            tell(status, digest, total or 0, done)
            if is_last and done == total:
                tell(VERIFYING, "", 0, 0)

        tell(status, digest, remote.size or 0, 0)
        headers = self._hub.headers if self._hub.opens(remote.url) else {}
        return Download(client, headers).fetch(remote, target, on_progress)

    def _require_same(self, client: httpx.Client, found: Source, place: Path, tell: Tell) -> None:
        """Raises InvalidParam where what lies there is known to be something else."""
        if not self._is_there(client, found, place):
            raise InvalidParam(
                f"there is a checkpoint '{found.name}' already, with other content; delete it first", params="model"
            )
        for remote in found.files:
            size = _path_in(place, found, remote).stat().st_size
            tell(*_line_of(remote), size, size)

    def _is_there(self, client: httpx.Client, found: Source, place: Path) -> bool:
        """Whether it lies at that place: by its hashes as far as they are told, else by its sizes."""
        return all(self._is_file(client, remote, _path_in(place, found, remote)) for remote in found.files)

    def _is_file(self, client: httpx.Client, remote: Remote, file: Path) -> bool:
        if not file.is_file():
            return False
        expected = remote.size if remote.size is not None else _announced(client, remote)
        is_as_long = expected in (None, file.stat().st_size)
        return is_as_long and (not remote.sha256 or self._hashes.compute(file) == remote.sha256)


def _target(staging: Path, found: Source, remote: Remote) -> Path:
    """Where a file lies until all have come."""
    return _path_in(staging / _file_name(found), found, remote)


def _path_in(place: Path, found: Source, remote: Remote) -> Path:
    """A file of what lies at that place, which is a folder or the one file itself."""
    return place / remote.path if found.is_folder else place


def _unwritable(folder: Path, error: OSError) -> Unavailable:
    return Unavailable(f"{folder} can't be written: {error.strerror or error}.")


def _line_of(remote: Remote) -> tuple[str, str]:
    """What its lines say: where nobody tells its hash beforehand, that of its address stands for it."""
    sha256 = remote.sha256 or hashlib.sha256(remote.url.encode()).hexdigest()
    return f"pulling {sha256[:12]}", f"sha256:{sha256}"


def _announced(client: httpx.Client, remote: Remote) -> int | None:
    """How many bytes the server says that the file has; None where it does not say."""
    try:
        with client.stream("GET", remote.url, follow_redirects=True) as answer:
            said = answer.headers.get("content-length", "")
            return int(said) if answer.status_code == 200 and said.isdigit() else None
    except httpx.HTTPError as error:
        raise Unavailable(f"{remote.filename} can't be asked for: {error or type(error).__name__}.") from None


def _file_name(source: Source) -> str:
    """The name of the file or folder, which leads nowhere else. Raises InvalidParam."""
    suffix = "" if source.is_folder else PurePosixPath(source.files[0].filename).suffix
    if not source.is_folder and suffix.lower() not in WEIGHTS:
        raise InvalidParam(f"{source.files[0].filename or 'the address'} does not look like weights", params="model")
    name = f"{source.name}{suffix}"
    if name != PurePosixPath(name).name or name.startswith("."):
        raise InvalidParam(f"{name!r} can't be the name of a file", params="model")
    return name


def _named(text: str) -> ModelName | None:
    try:
        return parse_name(text)
    except InvalidParam:
        return None
