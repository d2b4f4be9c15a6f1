"""Files of runs under signed URLs: whoever has the URL may read, for as long as it is valid."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.artifacts.store import ArtifactStore
from app.artifacts.urls import UrlSigner
from app.errors import InvalidParam, NotFound, Unavailable
from app.store.files import find_artifact
from app.store.store import Store

# Reading blocks, on threads of its own: an artifact store that hangs holds up nothing but its own files.
_READERS = 16
_READ_WITHIN_S = 30.0


def file_routes(store: Store, content: ArtifactStore, signer: UrlSigner) -> list[Route]:
    """`GET /files/tools/{id}.{ext}?timestamp&nonce&sign[&as_attachment=true]`."""
    readers = ThreadPoolExecutor(_READERS, thread_name_prefix="files")

    async def tool_file(request: Request) -> Response:
        artifact_id, dot, extension = request.path_params["name"].partition(".")
        if not is_uuid(artifact_id):
            raise NotFound("file is not found")
        signer.check(artifact_id, *(_required(request, name) for name in ("timestamp", "nonce", "sign")))
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
        if request.query_params.get("as_attachment") == "true":
            headers["content-disposition"] = f"attachment; filename*=UTF-8''{artifact.filename}"
        return Response(body, media_type=artifact.mime_type, headers=headers)

    return [Route("/files/tools/{name}", tool_file)]


def _required(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if not value:
        raise InvalidParam(f"{name} is required in the query of a file URL", params=name)
    return value


def is_uuid(text: str) -> bool:
    """True for the id of an artifact, written in any case."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
