"""Identifiers, keys, nonces and seeds: one of the two sources of chance (the other is `clock`)."""

from __future__ import annotations

import base64
import os
import random
import secrets
import string
from time import time_ns
from uuid import NAMESPACE_OID, uuid5

_ALPHABET = string.ascii_letters + string.digits
_VARIANTS = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
_TAILS = 64
_differ = random.Random()
_random_bits = _differ.getrandbits
_head = (0, "")  # the last millisecond, and how an id of it begins
_tails: list[str] = []  # 20 random digits each, for the next ids: made by the dozen they cost a quarter


def _begin_anew() -> None:
    _differ.seed()
    _tails.clear()


os.register_at_fork(after_in_child=_begin_anew)


def new_id() -> str:
    """A UUIDv7 as text: it sorts by its millisecond of birth (RFC 9562, section 5.7).

    Ids need to differ, not to be secret: 74 random bits of a generator of our own, no system call each.
    """
    global _head
    now, (millisecond, head) = time_ns() // 1_000_000, _head
    if now != millisecond:
        text = f"{now:012x}"
        head = f"{text[:8]}-{text[8:]}-7"
        _head = (now, head)
    try:
        tail = _tails.pop()
    except IndexError:
        tail = _more_tails()
    return f"{head}{tail[:3]}-{_VARIANTS[tail[3]]}{tail[4:7]}-{tail[7:19]}"


def _more_tails() -> str:
    """One to use now; the others are put by. Safe in any thread: each takes what nobody else has."""
    digits = _random_bits(80 * _TAILS).to_bytes(10 * _TAILS, "big").hex()
    first, *others = (digits[i : i + 20] for i in range(0, 20 * _TAILS, 20))
    _tails.extend(others)
    return first


def end_user_id(app_id: str, user: str) -> str:
    """The stable UUID of an app's end-user: derived from the two names, so nothing is stored or looked up."""
    return str(uuid5(NAMESPACE_OID, f"{app_id}/{user}"))


def new_key() -> str:
    """A bearer token: `app-` and 24 letters or digits (143 bits)."""
    return "app-" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


def new_traceparent() -> str:
    """The W3C trace context of a new trace: version 00, a trace id, a parent id, and no word about sampling."""
    return f"00-{_random_bits(128):032x}-{_random_bits(64):016x}-00"


def new_nonce() -> str:
    """32 hex characters for a signed URL."""
    return secrets.token_hex(16)


def new_webhook_secret() -> str:
    """A signing secret as Standard Webhooks writes it: `whsec_` and 32 random bytes in base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def new_token() -> str:
    """A secret for a URL: whoever has it may open what it names."""
    return secrets.token_urlsafe(24)


def new_seed() -> int:
    """A seed for noise: 32 bits, as people know them from other image servers."""
    return secrets.randbits(32)
