"""Identifiers, keys, nonces and seeds: one of the two sources of chance (the other is `clock`)."""

from __future__ import annotations

import os
import secrets
import string
import time
from uuid import NAMESPACE_OID, uuid5

_ALPHABET = string.ascii_letters + string.digits


def new_id() -> str:
    """A UUIDv7 as text: it sorts by its millisecond of birth (RFC 9562, section 5.7)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def end_user_id(app_id: str, user: str) -> str:
    """The stable UUID of an app's end-user: derived from the two names, so nothing is stored or looked up."""
    return str(uuid5(NAMESPACE_OID, f"{app_id}/{user}"))


def new_key() -> str:
    """A bearer token: `app-` and 24 letters or digits (143 bits)."""
    return "app-" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


def new_nonce() -> str:
    """32 hex characters for a signed URL."""
    return secrets.token_hex(16)


def new_seed() -> int:
    """A seed for noise: 32 bits, as people know them from other image servers."""
    return secrets.randbits(32)
