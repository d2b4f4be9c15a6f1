"""Ports of a dialect's own beside the main one, for clients that know no path before theirs and often no key."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.dialects import DOOR
from app.domain.request import Dialect

_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})
_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "0.0.0.0"})  # noqa: S104 - a name in a header


class Door(msgspec.Struct, frozen=True):
    """A port: whose it is, what its paths lie under on the main one, and the key that it lends.

    `lends` is a token for callers of this very machine that bring none; empty: everybody needs a key.
    """

    dialect: Dialect
    prefix: str = ""
    lends: str = ""


class Doors:
    """Sends what comes in by a dialect's own port to where the dialect lives. `doors` are by port."""

    def __init__(self, app: ASGIApp, doors: Mapping[int, Door]) -> None:
        self._app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = self._doors.get((scope.get("server") or ("", 0))[1]) if scope["type"] == "http" else None
        if door is not None:
            scope[DOOR] = door.dialect
            if door.prefix and not scope["path"].startswith(("/files/", door.prefix + "/")):
                scope["path"] = door.prefix + scope["path"]
                scope["raw_path"] = door.prefix.encode() + scope["raw_path"]
            if door.lends and _is_from_here(scope):
                scope["headers"] = [*scope["headers"], (b"authorization", f"Bearer {door.lends}".encode())]
        await self._app(scope, receive, send)


def _is_from_here(scope: Scope) -> bool:
    """A program on this machine that brings no key, and speaks to no other name than this machine's own.

    A proxy on this machine is no such program, and neither is a page of a browser: it names its origin, and one that
    had its own host name point here would name that.
    """
    client = scope.get("client")
    if client is None or not ip_address(client[0]).is_loopback:
        return False
    headers = dict(scope["headers"])
    if b"authorization" in headers or b"origin" in headers or not _FORWARDED.isdisjoint(headers):
        return False
    host: str = headers.get(b"host", b"").decode("latin-1")
    return (host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host).lower() in _OWN_NAMES
