"""Files of runs under signed URLs: whoever has the URL may read, for as long as it is valid."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from app.api.operation import OpenOperation, read_query
from app.artifacts.store import ArtifactStore
from app.artifacts.urls import UrlSigner
from app.errors import Forbidden, NotFound, Unavailable
from app.store.files import find_artifact
from app.store.store import Store

# Reading blocks, on threads of its own: an artifact store that hangs holds up nothing but its own files.
_READERS = 16
_READ_WITHIN_S = 30.0


class FileQuery(msgspec.Struct, frozen=True):
    """What a signed URL says; see `app.artifacts.urls`."""

    timestamp: Annotated[str, Meta(description="when it was signed, in seconds since 1970", min_length=1)]
    nonce: Annotated[str, Meta(description="what makes each URL another one", min_length=1)]
    sign: Annotated[str, Meta(description="the signature", min_length=1)]
    as_attachment: Annotated[bool, Meta(description="as a download, with a file's name")] = False


def file_operations(store: Store, content: ArtifactStore, signer: UrlSigner) -> list[OpenOperation]:
    """`GET /files/tools/{id}.{ext}?timestamp&nonce&sign[&as_attachment=true]`."""
    readers = ThreadPoolExecutor(_READERS, thread_name_prefix="files")

    async def tool_file(request: Request) -> Response:
        artifact_id, dot, extension = request.path_params["name"].partition(".")
        if not is_uuid(artifact_id):
            raise NotFound("file is not found")
        query = read_query(request, FileQuery)
        signer.check(artifact_id, query.timestamp, query.nonce, query.sign)
        artifact = await store.read(lambda tx: find_artifact(tx, artifact_id))
        if artifact is None or dot + extension != artifact.extension:
            raise NotFound("file is not found")
        reading = asyncio.get_running_loop().run_in_executor(readers, content.get, artifact.sha256)
        try:
            body = await asyncio.wait_for(reading, _READ_WITHIN_S)
        except TimeoutError:
            raise Unavailable("The file could not be read in time.") from None
        headers = {
            "etag": f'"{artifact.sha256}"',
            "cache-control": "private, max-age=31536000, immutable",
            "x-content-type-options": "nosniff",
        }
        if query.as_attachment:
            headers["content-disposition"] = f"attachment; filename*=UTF-8''{artifact.filename}"
        return Response(body, media_type=artifact.mime_type, headers=headers)

    return [
        OpenOperation(
            method="GET",
            path="/files/tools/{name}",
            handler=tool_file,
            summary="Reading a picture",
            description="Answers hold signed URLs: whoever has one may read the file until it expires.",
            query=FileQuery,
            answers={200: "image/png"},
            raises=(NotFound, Forbidden, Unavailable),
        )
    ]


def is_uuid(text: str) -> bool:
    """True for the id of an artifact, written in any case."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
