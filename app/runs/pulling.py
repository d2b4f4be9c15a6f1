"""A checkpoint from a repository or an address into the folder, as callers of the API ask for it: through the guard.

What is coming lies in a hidden folder of its own, so that it is gone on with when it is asked for again, and is looked
at before it gets its place.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

import httpx
import msgspec

from app.checkpoints.checkpoint import Checkpoint
from app.checkpoints.download import Download
from app.checkpoints.hashes import Hashes
from app.checkpoints.identify import SUFFIXES
from app.checkpoints.installed import Installed
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


def server_url(named: ModelName, *, insecure: bool = False) -> str:
    """Where the file of a model lies whose name begins with a server: `host/namespace/model[:tag]`."""
    file = named.model if named.tag.lower() == LATEST else f"{named.model}-{named.tag}"
    suffix = "" if PurePosixPath(file).suffix.lower() in WEIGHTS else ".safetensors"
def is_plain(name: str) -> bool:
    """Whether a name says of no place that it could come from."""
    named = _named(name)
    return "/" not in (named.plain_model if named else name)


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
            place = self._folder / _file_name(found)
            if place.exists():
                self._require_same(client, found, place, tell)
                return self._installed.known(found.name)
            return self._fetch(client, found, wanted, tell)

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
        mark = hashlib.sha256(repr((self._hub.url, wanted)).encode()).hexdigest()[:16]
        staging = self._folder / PULLING / mark
        made, digests = staging / _file_name(found), {}
        try:
            for remote in found.files:
                target = made / remote.path if found.is_folder else made
                is_last = remote is found.files[-1]
                digests[remote.path or made.name] = self._fetch_file(client, remote, target, tell, is_last=is_last)
        finally:
            with suppress(OSError):
                staging.rmdir()  # where nothing has come, nothing is left
        tell(VERIFYING, "", 0, 0)
        tell("writing manifest", "", 0, 0)
        try:
            checkpoint = self._installed.adopt_any(made, digests)
        except OSError as error:
            raise Unavailable(f"{self._folder} can't be written: {error.strerror or error}.") from None
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
        for remote in found.files:
            file = place / remote.path if found.is_folder else place
            size = file.stat().st_size if file.is_file() else -1
            expected = remote.size if remote.size is not None else _announced(client, remote)
            if expected not in (None, size) or (remote.sha256 and self._hashes.compute(file) != remote.sha256):
                raise InvalidParam(
                    f"there is a checkpoint '{found.name}' already, with other content; delete it first", params="model"
                )
            tell(*_line_of(remote), size, size)


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
