"""uvicorn's HTTP protocol, with a way for a long answer to its connection: to see it stuck or lost, and to end it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from starlette.types import Scope

from app.api.unreadable import Protocol

_NAME = "atelier.connection"
_AT_ONCE = struct.pack("ii", 1, 0)


class Connection(Protocol):
    """One client's connection. uvicorn waits for ever until what was written to it has been taken; `abort` does not."""

    # Beside uvicorn's own attributes, which fill a dictionary of the shared kind: one more would cost 1.5 KB.
    __slots__ = ("_extensions", "is_lost", "on_lost")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """`on_lost` is called once when the connection is gone: cheaper than a task that waits for it."""
        super().connection_made(transport)
        self._extensions: dict[str, Any] = {_NAME: self}
        self.is_lost = False
        self.on_lost: Callable[[], None] | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.is_lost = True
        if self.on_lost is not None:
            self.on_lost()

    @property
    def is_closing(self) -> bool:
        return self.transport.is_closing()

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the socket has not taken."""
        return self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Ends the connection now; what was not taken is lost, in the kernel's buffer too."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()


def connection_of(scope: Scope) -> Connection | None:
    """The connection of a request; None under a server that does not give it."""
    found: Connection | None = (scope.get("extensions") or {}).get(_NAME)
    return found
