"""Requests to make a picture again: what its file says, and the pictures that it was made from."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from app.artifacts.said import texts_of
from app.artifacts.store import ArtifactStore
from app.domain.artifact import Artifact, Upload
from app.domain.recipe import Recipe
from app.domain.request import RunRequest
from app.errors import InvalidParam
from app.graph.tools.recipe_text import preferred, read_said
from app.store.engine import Tx
from app.store.store import Store
from app.store.uploads import find_content_for

DOCUMENT = "again"
"""The document that ships for it."""

_READERS = 4

File = Upload | Artifact


class Again:
    """Makes requests for runs of pictures. A picture is looked for among the user's own files and no others: whoever
    knows a hash has no file by it."""

    def __init__(self, store: Store, content: ArtifactStore) -> None:
        self._store = store
        self._content = content
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="recipes")

    async def request(self, asked: RunRequest, picture: File, model_name: str) -> RunRequest:
        """`asked` with what the picture's file says, as a run of the document `again`; `model_name` is a checkpoint in
        place of its own, or empty.

        Raises InvalidParam for a file that is no picture or says nothing of itself, and for pictures that it was made
        from and that are not there; NotFound, Unavailable where its own bytes can't be read.
        """
        said = await asyncio.get_running_loop().run_in_executor(self._readers, self._said, picture)
        recipe, _ = read_said(said)
        files = [_as_named(file) for file in await self._given(asked, recipe)]
        inputs = {"recipe": said, "picture": _as_named(picture), "given": files, "model_name": model_name}
        return msgspec.structs.replace(
            asked,
            inputs=inputs,
            shipped=DOCUMENT,
            told=hashlib.sha256(f"{picture.sha256} {model_name}".encode()).hexdigest(),
        )

    def _said(self, picture: File) -> str:
        with self._content.open(picture.sha256) as file:
            return preferred(texts_of(file))

    async def _given(self, asked: RunRequest, recipe: Recipe) -> list[File]:
        """The pictures that the recipe names, each once. Raises InvalidParam, naming all that are not there."""
        wanted = recipe.pictures
        if not wanted:
            return []
        found = await self._store.read(lambda tx: _find(tx, asked, wanted))
        missing = [f"{name} (SHA-256 {sha256})" for name, sha256 in wanted.items() if sha256 not in found]
        if missing:
            raise InvalidParam(
                f"The picture was made from others that are not among the files of the user '{asked.user}': "
                f"{', '.join(missing)}. Upload them for this user (POST /v1/files/upload), and ask again.",
                params="file",
            )
        return list(found.values())


def _find(tx: Tx, asked: RunRequest, wanted: Mapping[str, str]) -> dict[str, File]:
    app_id, user = asked.caller.app_id, asked.user
    found = {sha256: find_content_for(tx, app_id, user, sha256) for sha256 in wanted.values()}
    return {sha256: file for sha256, file in found.items() if file is not None}


def _as_named(file: File) -> dict[str, str]:
    """As a run's inputs name files."""
    if isinstance(file, Upload):
        return {"type": "image", "transfer_method": "local_file", "upload_file_id": file.id}
    return {"type": "image", "transfer_method": "tool_file", "tool_file_id": file.id}
