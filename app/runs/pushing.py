"""A checkpoint's files to a repository of the hub, or to a server that takes them by PUT.

To the hub goes what `huggingface_hub` sends, without the guard: which server that is the keeper has said (HF_ENDPOINT),
and a caller chooses the repository's name alone. A server that a caller names is asked through the guard.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from threading import Lock

import httpx
import msgspec

from app.checkpoints.checkpoint import Checkpoint
from app.checkpoints.hashes import Hashes
from app.checkpoints.identify import files_of
from app.domain.model_name import LATEST, ModelName
from app.errors import AtelierError, InvalidParam, Unavailable
from app.outbound.blocking import BlockingGuardedTransport
from app.outbound.reach import Reach, reach_of
from app.outbound.urls import check_url
from app.runs.pulling import HUB_HOSTS, WEIGHTS, Tell, server_url
from app.settings import Settings

_AT_ONCE = 1 << 20
_CONNECT_S, _SILENCE_S = 30.0, 120.0


class Destination(msgspec.Struct, frozen=True):
    """Where to: a repository of the hub's, and what a single file is to be called there (empty: as here); or a URL."""

    repository: str = ""
    file: str = ""
    url: str = ""


class Sent(msgspec.Struct, frozen=True):
    """A file to send: where it lies, and its path in a diffusers folder or its name."""

    source: Path
    path: str
    sha256: str

    @property
    def size(self) -> int:
        return self.source.stat().st_size

    @property
    def line(self) -> tuple[str, str]:
        return f"pushing {self.sha256[:12]}", f"sha256:{self.sha256}"


def read_destination(named: ModelName, reach: Reach, *, insecure: bool = False) -> Destination:
    """Where a model of that name goes. Raises InvalidParam for a name that says of no place."""
    if named.host and named.host.lower() not in HUB_HOSTS:
        url = server_url(named, insecure=insecure)
        check_url(url, "model", reach)
        return Destination(url=url)
    if not named.namespace:
        raise InvalidParam(
            f"'{named.shown}' says of no place: copy it to owner/name or to server/folder/name first, and push that",
            params="model",
        )
    file = "" if named.tag.lower() == LATEST else named.tag
    if file and Path(file).suffix.lower() not in WEIGHTS:
        file = f"{named.model}-{file}.safetensors"
    return Destination(f"{named.namespace}/{named.model}", file)


class Pusher:
    """Sends one checkpoint at a time for each thread that asks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hashes = Hashes(settings.hashes_file)

    def push(self, checkpoint: Checkpoint, to: Destination, tell: Tell) -> None:
        """Raises InvalidParam for what the other side refuses, Unavailable, and what `tell` raises."""
        try:
            files = self._files(checkpoint)
            if to.url:
                self._put(files, to.url, Path(checkpoint.path).is_dir(), tell)
            else:
                self._commit(files, to, tell)
        except OSError as error:
            raise Unavailable(f"{checkpoint.name} can't be read: {error.strerror or error}.") from None

    def _files(self, checkpoint: Checkpoint) -> list[Sent]:
        path = Path(checkpoint.path)
        if not path.is_dir():
            return [Sent(path, path.name, self._hashes.compute(path))]
        tokenizers = sorted(file for file in path.glob("tokenizer*/*") if file.is_file())
        found = [*files_of(path), *tokenizers]
        return [Sent(file, str(file.relative_to(path)), self._hashes.compute(file)) for file in found]

    def _put(self, files: list[Sent], url: str, is_folder: bool, tell: Tell) -> None:
        transport = BlockingGuardedTransport(reach_of(self._settings))
        timeout = httpx.Timeout(_CONNECT_S, read=_SILENCE_S, write=_SILENCE_S)
        base = url.removesuffix(".safetensors")
        with httpx.Client(transport=transport, timeout=timeout, trust_env=False) as client:
            for file in files:
                _put(client, file, f"{base}/{file.path}" if is_folder else url, tell)
            tell("pushing manifest", "", 0, 0)

    def _commit(self, files: list[Sent], to: Destination, tell: Tell) -> None:
        """All files in one commit of the repository, which is made, and private, where it is not there yet."""
        # A quarter of a second and 20 MiB, which only servers need that push.
        import httpx2  # noqa: PLC0415 - what the hub's library speaks with
        import huggingface_hub as hub  # noqa: PLC0415
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

        with _SETTING_UP:
            _set_up_hub()
        api = hub.HfApi(self._settings.hub_url, token=self._settings.hub_token or False)
        try:
            api.create_repo(to.repository, private=True, exist_ok=True)
            with ExitStack() as opened:
                additions = []
                for file in files:
                    content = opened.enter_context(_Counted(file, tell))
                    path = to.file if to.file and len(files) == 1 else file.path
                    addition = hub.CommitOperationAdd(path, content)
                    content.begin()
                    api.preupload_lfs_files(to.repository, [addition])
                    content.end()
                    additions.append(addition)
                tell("pushing manifest", "", 0, 0)
                api.create_commit(to.repository, additions, commit_message="Pushed with Atelier")
        except HfHubHTTPError as error:
            raise _refusal(to.repository, error.response.status_code, self._settings) from None
        except (httpx2.HTTPError, RuntimeError, ValueError, OSError) as error:
            reason = error.__cause__ or error
            raise Unavailable(f"{to.repository} can't be pushed to {self._settings.hub_url}: {reason}") from None


_SETTING_UP = Lock()


@cache
def _set_up_hub() -> None:
    """Once: its clients wait no longer than others do, and what it tells a terminal nobody is told here."""
    import httpx2  # noqa: PLC0415
    import huggingface_hub as hub  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    timeout = httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S)
    hub.set_client_factory(lambda: httpx2.Client(follow_redirects=True, timeout=timeout))
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # that it is no quicker is no news


class _Counted(io.BufferedReader):
    """A file that tells how much of it has been read, once it is said that from now on that is for sending it."""

    def __init__(self, file: Sent, tell: Tell) -> None:
        super().__init__(io.FileIO(file.source))
        self._file = file
        self._tell = tell
        self._size = file.size
        self._counts = False

    def begin(self) -> None:
        self._counts = True
        self._tell(*self._file.line, self._size, 0)

    def end(self) -> None:
        self._counts = False
        self._tell(*self._file.line, self._size, self._size)

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if self._counts:
            self._tell(*self._file.line, self._size, self.tell())
        return content


def _put(client: httpx.Client, file: Sent, url: str, tell: Tell) -> None:
    def content() -> Iterator[bytes]:
        with file.source.open("rb") as opened:
            done = 0
            while chunk := opened.read(_AT_ONCE):
                yield chunk
                done += len(chunk)
                tell(*file.line, file.size, done)

    tell(*file.line, file.size, 0)
    host = httpx.URL(url).host
    headers = {"content-length": str(file.size), "content-type": "application/octet-stream"}
    try:
        answer = client.put(url, content=content(), headers=headers)
    except httpx.HTTPError as error:
        raise Unavailable(f"{file.path} can't be sent to {host}: {error or type(error).__name__}.") from None
    if not answer.is_success:
        kind: Callable[[str], AtelierError] = InvalidParam if 400 <= answer.status_code < 500 else Unavailable
        raise kind(f"{host} did not take {file.path}: it answered {answer.status_code}.")


def _refusal(repository: str, status: int, settings: Settings) -> AtelierError:
    if status in (401, 403, 404):
        token = "the token in HF_TOKEN may not write there" if settings.hub_token else "it takes a token in HF_TOKEN"
        return InvalidParam(f"{settings.hub_url} did not take {repository}: it answered {status}; {token}.")
    return Unavailable(f"{settings.hub_url} did not take {repository}: it answered {status}.")
