"""uvicorn's HTTP protocol, with a way for a long answer to its connection: to see it stuck or lost, and to end it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

from starlette.types import Scope

from app.api.unreadable import Protocol

_NAME = "atelier.connection"
_AT_ONCE = struct.pack("ii", 1, 0)
_HEAD = b"HTTP/1.1 "


class Connection(Protocol):
    """One client's connection. uvicorn waits for ever until what was written to it has been taken; `abort` does not."""

    # Beside uvicorn's own attributes, which fill a dictionary of the shared kind: one more would cost 1.5 KB.
    __slots__ = ("_extensions", "is_lost", "on_lost")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """`on_lost` is called once when the connection is gone: cheaper than a task that waits for it."""
        super().connection_made(cast("asyncio.Transport", _Together(transport, self.loop)))
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


class _Together:
    """A transport that sends the head of an answer with the beginning of its body: each write is a system call.

    A head waits for the next write, or for the next turn of the loop. All else is the transport's own.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, content: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, content))
        elif content.startswith(_HEAD):
            self._head = content
            self._loop.call_soon(self._send_head)
        else:
            self._transport.write(content)

    def close(self) -> None:
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)


def connection_of(scope: Scope) -> Connection | None:
    """The connection of a request; None under a server that does not give it."""
    found: Connection | None = (scope.get("extensions") or {}).get(_NAME)
    return found
