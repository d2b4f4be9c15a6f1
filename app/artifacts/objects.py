"""What every artifact store agrees on: how an object is named, how old it is, and whether its bytes are its own."""

from __future__ import annotations

import hashlib
import logging
import re

import msgspec

from app.errors import NotFound, Unavailable

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(?P<a>[0-9a-f]{2})/(?P<b>[0-9a-f]{2})/(?P<sha256>(?P=a)(?P=b)[0-9a-f]{60})")


class StoredObject(msgspec.Struct, frozen=True):
    """An object as a listing shows it. `age_s`: since it was last put, by the clock of whoever holds it."""

    sha256: str
    age_s: float


def name_of(sha256: str) -> str:
    """The object's name below the store's root: `ab/cd/<sha256>`."""
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"


def sha256_in(name: str) -> str | None:
    """The sha256 that `name_of` made this name of; None for whatever else lies there."""
    match = _NAME.fullmatch(name)
    return match["sha256"] if match else None


def is_intact(content: bytes, sha256: str) -> bool:
    """True when the bytes are those that were put."""
    return hashlib.sha256(content).hexdigest() == sha256


def damaged(message: str, sha256: str) -> Unavailable:
    """The error for bytes that are not those that were put; somebody has to look, so it is logged as well."""
    logger.error("the bytes of an artifact have changed", extra={"action": "artifact_damaged", "sha256": sha256})
    return Unavailable(message)


def missing() -> NotFound:
    """The error for an object that is not there."""
    return NotFound("file is not found")
