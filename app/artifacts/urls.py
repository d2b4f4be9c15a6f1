"""The only place where a URL is signed, and where a signature is checked.

Dify's scheme: HMAC-SHA256 over `file-preview|id|timestamp|nonce`, base64url with padding; in the query it is unescaped
for what a run made, and escaped for what a caller gave.
Better than there: compared in constant time, and a timestamp from the future is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from app import clock, ids
from app.domain.artifact import MARK, is_artifact
from app.errors import Forbidden, InvalidParam
from app.settings import Settings

_CLOCK_SKEW_S = 60

Purpose = Literal["file-preview", "image-preview"]


class SignedUrl(NamedTuple):
    url: str
    expires_at: int  # seconds since 1970; whoever comes later is refused


class UrlSigner:
    """Signs URLs under `/files`. Whoever has the URL may read the file until it expires.

    Every URL of an answer begins with `public_base_url`; without one it is relative to the server's address.
    """

    def __init__(self, secret: bytes, public_base_url: str, valid_s: int) -> None:
        self._secret = secret
        self._public_base_url = public_base_url
        self._valid_s = valid_s

    def sign(self, artifact_id: str, extension: str) -> str:
        """The URL of an artifact from now on for as long as the settings say; `extension` begins with a dot."""
        return self.signed(artifact_id, extension).url

    def signed(self, artifact_id: str, extension: str) -> SignedUrl:
        """The same, and when it expires."""
        now_s, query = self._query("file-preview", artifact_id)
        return SignedUrl(self.absolute(f"/files/tools/{artifact_id}{extension}?{query}"), now_s + self._valid_s)

    def upload(self, upload_id: str, purpose: Purpose = "file-preview") -> str:
        """The URL of a file that a caller gave."""
        _, query = self._query(purpose, upload_id)
        return self.absolute(f"/files/{upload_id}/{purpose}?{query[:-1]}%3D")  # a signature ends with one =

    def of_file(self, file: Mapping[str, Any]) -> str:
        """Where a file as a value can be fetched: at its own address, if it came from one."""
        match file.get("transfer_method"):
            case "remote_url":
                return str(file["remote_url"])
            case "local_file":
                return self.upload(file[MARK])
        return self.sign(file[MARK], file["extension"])

    def stamped(self, value: Any) -> Any:
        """The value with each file's URL of now beside it, which a workflow reads as the file's `url`.

        A text that a workflow makes of it expires as the URL does. Answers show files with a fresh one.
        """
        if is_artifact(value):
            return {**value, "url": self.of_file(value)}
        if isinstance(value, dict):
            return {name: self.stamped(item) for name, item in value.items()}
        return [self.stamped(item) for item in value] if isinstance(value, list) else value

    def permalink(self, artifact_id: str) -> str:
        """Where a caller with a key of the app finds the artifact for as long as it exists."""
        return self.absolute(f"/v1/files/{artifact_id}")

    def absolute(self, path: str) -> str:
        """A path of this server as clients are told it."""
        return f"{self._public_base_url}{path}"

    def check(self, file_id: str, signed: tuple[str, str, str], purpose: Purpose = "file-preview") -> None:
        """`signed`: (timestamp, nonce, sign).

        Raises InvalidParam for a timestamp that is none, Forbidden for a wrong or expired signature.
        """
        timestamp, nonce, signature = signed
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            raise InvalidParam("timestamp must be a number of seconds since 1970", params="timestamp")
        expected = self._signature(purpose, file_id, timestamp, nonce)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise Forbidden("Invalid request.")
        age_s = clock.time() - int(timestamp)
        if age_s > self._valid_s or age_s < -_CLOCK_SKEW_S:
            raise Forbidden("Invalid request.")

    def _query(self, purpose: Purpose, file_id: str) -> tuple[int, str]:
        """(now, the query of a URL that is signed now)."""
        now_s, nonce = int(clock.time()), ids.new_nonce()
        return now_s, f"timestamp={now_s}&nonce={nonce}&sign={self._signature(purpose, file_id, str(now_s), nonce)}"

    def _signature(self, purpose: Purpose, file_id: str, timestamp: str, nonce: str) -> str:
        message = f"{purpose}|{file_id}|{timestamp}|{nonce}".encode()
        return base64.urlsafe_b64encode(hmac.digest(self._secret, message, hashlib.sha256)).decode()


def open_signer(settings: Settings) -> UrlSigner:
    """The signer of these settings; without a secret key one is made on first use and kept in the data folder."""
    secret = settings.secret_key.encode() or _kept_secret(settings.data_dir / "secret")
    return UrlSigner(secret, settings.public_base_url, settings.files_access_timeout_s)


def _kept_secret(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    secret = secrets.token_urlsafe(32).encode()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    return secret
