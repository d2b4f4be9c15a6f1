"""Where a picture of an answer can be fetched."""

from __future__ import annotations

from starlette.requests import Request

from app.artifacts.urls import UrlSigner
from app.domain.artifact import Picture


class PictureUrls:
    """Signed URLs that a program can open as they are: absolute, also where no public address is set."""

    def __init__(self, signer: UrlSigner) -> None:
        self._signer = signer

    def of(self, request: Request, picture: Picture) -> str:
        """Without ATELIER_PUBLIC_BASE_URL the address is the one by which the caller came."""
        url = self._signer.sign(picture.id, picture.extension)
        return url if url.startswith("http") else f"{request.url.scheme}://{request.url.netloc}{url}"
