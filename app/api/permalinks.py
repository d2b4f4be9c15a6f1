"""`GET /v1/files/{artifact_id}`: the address of a file that stays, for whoever has a key of its app."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.api.files import is_uuid
from app.api.operation import Operation
from app.artifacts.urls import UrlSigner
from app.domain.request import Caller, Scope
from app.errors import NotFound
from app.runs.service import RunService


class Permalinks:
    """Sends a caller on to a freshly signed URL, however long ago the one that it was told has expired."""

    def __init__(self, service: RunService, signer: UrlSigner) -> None:
        self._service = service
        self._signer = signer

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="GET",
                path="/v1/files/{artifact_id}",
                handler=self._file,
                scope=Scope.READ,
                summary="Fetching a file",
                answers={302: "The file's address, signed a moment ago."},
            )
        ]

    async def _file(self, request: Request, caller: Caller) -> Response:
        artifact_id = request.path_params["artifact_id"]
        if not is_uuid(artifact_id):
            raise NotFound("File not found.")
        artifact = await self._service.artifact(caller, artifact_id)
        url = self._signer.sign(artifact.id, artifact.extension)
        return RedirectResponse(url, 302, {"cache-control": "no-store"})
