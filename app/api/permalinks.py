"""`GET /v1/files/{file_id}`: the address of a file that stays, for whoever has a key of its app."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.api.files import is_uuid
from app.api.operation import Operation
from app.artifacts.urls import UrlSigner
from app.domain.artifact import Upload
from app.domain.request import Caller, Scope
from app.errors import FileNotFound
from app.runs.uploads import Uploads


class Permalinks:
    """Sends a caller on to a freshly signed URL, however long ago the one that it was told has expired."""

    def __init__(self, uploads: Uploads, signer: UrlSigner) -> None:
        self._uploads = uploads
        self._signer = signer

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="GET",
                path="/v1/files/{file_id}",
                handler=self._file,
                scope=Scope.READ,
                summary="Fetching a file",
                description="One that a run made, or that was uploaded; its URL is signed anew each time.",
                raises=(FileNotFound,),
                answers={302: "The file's address, signed a moment ago."},
            )
        ]

    async def _file(self, request: Request, caller: Caller) -> Response:
        file_id = request.path_params["file_id"]
        if not is_uuid(file_id):
            raise FileNotFound("File not found.")
        file = await self._uploads.find(caller, file_id)
        url = self._signer.upload(file.id) if isinstance(file, Upload) else self._signer.sign(file.id, file.extension)
        return RedirectResponse(url, 302, {"cache-control": "no-store"})
