"""Artifacts as objects of a bucket behind an S3 API. The only module that knows boto3."""

from __future__ import annotations

import base64
import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
)

from app import clock, ids
from app.artifacts.objects import StoredObject, damaged, is_intact, missing, name_of, sha256_in
from app.errors import NotFound, SettingsInvalid, Unavailable
from app.settings import Settings

_PREFIX = "artifacts/"
_PROBE = "probes/"  # apart from the artifacts, so that no listing shows one
_CHUNK_BYTES = 256 * 1024
_CONNECTIONS = 16
# From a sweep's look at an object's age to its deletion no more than this may pass, ...
_DELETE_WITHIN_S = 1.0
# ... so a put that renewed an object that could be deleted at that moment looks again after this.
_SETTLE_S = 2.0

_GONE = frozenset({"404", "NoSuchKey", "NotFound"})
_REFUSED = frozenset(
    {"403", "401", "400", "AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken"}
)


class Patience(msgspec.Struct, frozen=True):
    """How long an S3 API may take: each try `connect_s` and then `read_s` of silence, `tries` times."""

    connect_s: float = 3.0
    read_s: float = 10.0
    tries: int = 3

    @property
    def whole_s(self) -> float:
        """A content that has not been read by then is given up, however steadily it trickles."""
        return (self.connect_s + self.read_s) * self.tries


class _Head(msgspec.Struct, frozen=True):
    size: int
    age_s: float


class S3Artifacts:
    """Artifacts as objects `artifacts/ab/cd/<sha256>` of one bucket.

    Ages are differences of the server's own times, so no two machines' clocks are compared.
    """

    def __init__(self, settings: Settings, patience: Patience) -> None:
        self._bucket = settings.s3_bucket
        self._orphan_age_s = settings.orphan_age_s
        self._patience = patience
        self._where = f"The bucket {self._bucket} at {_public(settings.s3_endpoint_url)}"
        self._client = _client(settings, patience, patience.tries)
        # A deletion that is tried again could meet an object that was put in between.
        self._once = _client(settings, Patience(connect_s=1.0, read_s=patience.read_s), tries=1)

    def put(self, content: bytes | memoryview) -> str:
        content = bytes(content)  # the SDK takes nothing else that it can send twice
        sha256 = hashlib.sha256(content).hexdigest()
        found = self._head(sha256)
        if found is not None and found.size == len(content) and found.age_s < self._orphan_age_s / 2:
            return sha256
        self._write(_PREFIX + name_of(sha256), content)
        if found is not None and found.age_s > self._orphan_age_s:
            # A sweep that had looked before us may delete it yet.
            time.sleep(_SETTLE_S)
            if self._head(sha256) is None:
                self._write(_PREFIX + name_of(sha256), content)
        return sha256

    def get(self, sha256: str) -> bytes:
        content = self._read(_PREFIX + name_of(sha256))
        if is_intact(content, sha256):
            return content
        raise damaged(f"{self._where} holds damaged bytes for this picture.", sha256)

    def open(self, sha256: str) -> BinaryIO:
        content = self.get(sha256)
        with self._translated():
            file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
            file.write(content)
            file.seek(0)
        return cast(BinaryIO, file)

    def listing(self) -> Iterator[list[StoredObject]]:
        """A page for each answer of the server: 1000 objects."""
        with self._translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=_PREFIX)
            for page in pages:
                named = ((sha256_in(each["Key"].removeprefix(_PREFIX)), each) for each in page.get("Contents", ()))
                yield [StoredObject(sha256, _age_s(page, each["LastModified"])) for sha256, each in named if sha256]

    def delete(self, sha256: str, older_than_s: float) -> bool:
        """As the protocol says. S3 has no deletion on a condition of age, so it comes right after the look or not at
        all, and a put that finds an object as old as that looks again (`_SETTLE_S`)."""
        looked_at = clock.monotonic()
        found = self._head(sha256)
        if found is None or found.age_s <= older_than_s:
            return False
        if clock.monotonic() - looked_at > _DELETE_WITHIN_S:
            return False
        with self._translated():
            self._once.delete_object(Bucket=self._bucket, Key=_PREFIX + name_of(sha256))
        return True

    def check(self) -> None:
        key, content = _PROBE + ids.new_id(), b"atelier"
        self._write(key, content)
        try:
            if not self._holds(key, content):
                raise Unavailable(f"{self._where} gives other bytes than were put.")
            with self._translated():
                self._client.list_objects_v2(Bucket=self._bucket, Prefix=_PREFIX, MaxKeys=1)
        finally:
            with self._translated():
                self._client.delete_object(Bucket=self._bucket, Key=key)

    def _head(self, sha256: str) -> _Head | None:
        with self._translated():
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=_PREFIX + name_of(sha256))
            except ClientError as error:
                if _code(error) in _GONE:
                    return None
                raise
        return _Head(answer["ContentLength"], _age_s(answer, answer["LastModified"]))

    def _write(self, key: str, content: bytes) -> None:
        """The digests go along, so that a server refuses what was torn on the way; one that can't is found out."""
        md5 = hashlib.md5(content, usedforsecurity=False)
        with self._translated():
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=content,
                ContentMD5=base64.b64encode(md5.digest()).decode(),
                ChecksumSHA256=base64.b64encode(hashlib.sha256(content).digest()).decode(),
            )
        # Only where nothing is encrypted is the tag the content's MD5: another one is a reason to look, no more.
        if answer.get("ETag", "").strip('"') != md5.hexdigest() and not self._holds(key, content):
            raise Unavailable(f"{self._where} stored other bytes than were sent.")

    def _holds(self, key: str, content: bytes) -> bool:
        try:
            return self._read(key) == content
        except NotFound:
            return False

    def _read(self, key: str, again: bool = True) -> bytes:
        """The object's bytes as the server gives them. Raises NotFound, Unavailable."""
        end = clock.monotonic() + self._patience.whole_s
        with self._translated():
            try:
                return _body(self._client.get_object(Bucket=self._bucket, Key=key), end)
            except ClientError as error:
                if _code(error) in _GONE:
                    raise missing() from None
                raise
            except (HTTPClientError, IncompleteReadError):
                # The SDK tries requests again, but not bodies that end too early.
                if not again or clock.monotonic() > end - self._patience.whole_s / 2:
                    raise
                return self._read(key, again=False)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns the SDK's trouble into Unavailable: one sentence with the bucket and the endpoint, and no secret."""
        try:
            yield
        except NoCredentialsError as error:
            raise Unavailable(
                f"{self._where} can't be used without a key: set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY."
            ) from error
        except ClientError as error:
            raise Unavailable(f"{self._where} {_why(error)}") from error
        except ParamValidationError as error:
            raise Unavailable(f"{self._where} can't be: S3_BUCKET is not a bucket's name.") from error
        except (BotoCoreError, OSError) as error:
            # The class alone: the text of these may hold URLs with signatures.
            raise Unavailable(f"{self._where} can't be reached ({type(error).__name__}).") from error


def open_s3(settings: Settings, patience: Patience | None = None) -> S3Artifacts:
    """The store of the bucket that the settings name. Nothing is asked of the network yet. Raises SettingsInvalid."""
    try:
        return S3Artifacts(settings, patience or Patience())
    except (BotoCoreError, ValueError) as error:
        raise SettingsInvalid(
            f"S3_ENDPOINT_URL or S3_REGION can't be used ({type(error).__name__}): the endpoint must look like "
            "https://host:port."
        ) from error


def _client(settings: Settings, patience: Patience, tries: int) -> Any:
    config = Config(
        connect_timeout=patience.connect_s,
        read_timeout=patience.read_s,
        retries={"mode": "standard", "total_max_attempts": tries},
        max_pool_connections=_CONNECTIONS,
        # Names of buckets are seldom names of hosts anywhere but at AWS.
        s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
        # Digests are sent and checked here; the SDK's own would be refused by servers that don't know them.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.s3_endpoint_url or None,
        aws_access_key_id=settings.s3_access_key_id or None,
        aws_secret_access_key=settings.s3_secret_access_key or None,
        region_name=settings.s3_region,
        config=config,
    )


def _body(answer: dict[str, Any], end: float) -> bytes:
    """The whole body; TimeoutError when it is not there at `end`, by the monotonic clock."""
    chunks = []
    for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
        chunks.append(chunk)
        if clock.monotonic() > end:
            raise TimeoutError("too slow")
    return b"".join(chunks)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _why(error: ClientError) -> str:
    code = _code(error)
    if code == "NoSuchBucket":
        return "does not exist: make it, or set S3_BUCKET to one that does."
    if code in _REFUSED:
        return f"refused the request ({code}): check S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY and what the key may do."
    return f"answered with an error ({code or 'without a code'})."


def _age_s(answer: dict[str, Any], modified: datetime) -> float:
    """How old an object was when the server answered, by the server's clock; by ours where it tells no time."""
    now = clock.time()
    with suppress(KeyError, TypeError, ValueError):
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
    return now - modified.timestamp()


def _public(endpoint_url: str) -> str:
    """The endpoint without a user and a password that may be part of it."""
    if not endpoint_url:
        return "AWS"
    parts = urlsplit(endpoint_url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
