"""The files that a request for a run names: found, fetched and checked before there is a run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from app.artifacts.incoming import Incoming, read_filename
from app.artifacts.urls import UrlSigner
from app.domain.artifact import Upload
from app.domain.request import RunRequest
from app.errors import FileTooLarge, InvalidParam
from app.graph.files import SYSTEM_FILES, GivenFile, app_rules, given_files, place_files, read_app_files
from app.graph.graph import Graph
from app.graph.inputs import file_rules
from app.outbound.downloads import fetched, fetching_client
from app.outbound.reach import reach_of
from app.outbound.transport import GuardedTransport
from app.outbound.urls import check_url
from app.runs.uploads import Owner, Uploads
from app.settings import Settings
from app.store import uploads as upload_rows
from app.store.engine import Tx
from app.store.store import Store

# One request whose files come slowly must not hold up all others.
_AT_ONCE, _OF_ONE_REQUEST = 32, 4


class GivenFiles:
    """Puts files in the places where a request names them. A remote one is fetched here, once: its run reads our copy.

    A user's files are nobody else's: another's are as little there as those that never were.
    """

    def __init__(self, store: Store, uploads: Uploads, signer: UrlSigner, settings: Settings) -> None:
        self._store = store
        self._uploads = uploads
        self._signer = signer
        self._settings = settings
        self._client: httpx.AsyncClient | None = None
        self._fetches = asyncio.Semaphore(_AT_ONCE)

    async def place(self, request: RunRequest, graph: Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The read inputs with files for what they name, and those of the whole app under `SYSTEM_FILES`.

        Raises InvalidParam in Dify's words for a file that is not there or does not fit, FileTooLarge, Unavailable.
        """
        features = graph.document.features
        named = dict(inputs)
        if request.files:
            named[SYSTEM_FILES] = read_app_files(features, request.files)
        asked = list(dict.fromkeys(given_files(named)))
        known = await self._store.read(lambda tx: _find(tx, request, asked)) if asked else {}
        remote = [each for each in asked if each not in known]
        fetched = dict(zip(remote, await self._fetch_all(remote, request), strict=True))
        found = {each: self._signer.stamped(file) for each, file in (known | fetched).items()}
        return place_files(named, found, {**file_rules(graph), SYSTEM_FILES: app_rules(features)})

    async def _fetch_all(self, remote: list[GivenFile], request: RunRequest) -> list[dict[str, Any]]:
        """A few at a time; the first that fails ends the others."""
        if not remote:
            return []
        turns = asyncio.Semaphore(_OF_ONE_REQUEST)
        try:
            async with asyncio.TaskGroup() as fetching:
                tasks = [fetching.create_task(self._fetch(each, request, turns)) for each in remote]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _fetch(self, given: GivenFile, request: RunRequest, turns: asyncio.Semaphore) -> dict[str, Any]:
        settings = self._settings
        reach = reach_of(settings)
        check_url(given.name, given.variable, reach)
        if self._client is None:
            self._client = fetching_client(GuardedTransport(reach))
        async with (
            turns,
            self._fetches,
            fetched(self._client, given.name, given.variable, settings.remote_file_timeout_s) as answer,
        ):
            if answer.announced is not None and answer.announced > self._uploads.limits.largest:
                raise FileTooLarge(f"The remote file has {answer.announced} bytes, more than any file may have.")
            name, extension = read_filename(answer.filename)
            with Incoming(extension, self._uploads.limits) as incoming:
                async for chunk in answer.body:
                    await incoming.write(chunk)
                owner = Owner(request.caller.app_id, request.user)
                return (await self._uploads.keep(incoming, name, owner, source_url=given.name)).to_value()


def _find(tx: Tx, request: RunRequest, asked: list[GivenFile]) -> dict[GivenFile, dict[str, Any]]:
    """What is here already; remote files are left out."""
    app_id, user = request.caller.app_id, request.user
    found = {}
    for given in asked:
        if given.method == "local_file":
            found[given] = _required(upload_rows.find_upload_of(tx, app_id, user, given.name), given)
        elif given.method == "tool_file":
            made = upload_rows.find_artifact_for(tx, app_id, user, given.name)
            if made is None:
                raise InvalidParam(f"ToolFile {given.name} not found", params=given.variable)
            found[given] = made.to_value()
    return found


def _required(upload: Upload | None, given: GivenFile) -> dict[str, Any]:
    if upload is None:
        raise InvalidParam("Invalid upload file", params=given.variable)
    return {**upload.to_value(), "transfer_method": "local_file"}
