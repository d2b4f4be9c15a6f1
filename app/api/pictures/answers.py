"""Answers that hold pictures as base64, sent as they are read: no picture is in memory as a whole, or twice."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import ids
from app.api.answer import Header
from app.api.connection import connection_of
from app.api.files import FileReader
from app.api.sse import unless_gone
from app.domain.artifact import Picture
from app.errors import AtelierError

Piece = bytes | Picture
"""A part of a body: as it is, or a picture whose bytes come as base64."""

_AT_ONCE = 192 * 1024  # bytes of a picture; divisible by 3, so that what is made of it can be put together


class Places:
    """Marks where pictures go in a JSON text, which is cut there once it is encoded."""

    def __init__(self) -> None:
        self._nonce = ids.new_nonce()
        self._pictures: list[Picture] = []

    def of(self, picture: Picture) -> str:
        """The text that stands for the picture's base64."""
        self._pictures.append(picture)
        return f"{self._nonce}-{len(self._pictures) - 1}-"

    def cut(self, encoded: bytes) -> list[Piece]:
        """Without a pattern: one that is new each time would be compiled each time."""
        first, *marked = encoded.split(self._nonce.encode())
        pieces: list[Piece] = [first]
        for part in marked:
            _, number, rest = part.split(b"-", 2)
            pieces += [self._pictures[int(number)], rest]
        return pieces


class PicturesAnswer:
    """A body in pieces, with its length told beforehand."""

    def __init__(self, pieces: Sequence[Piece], reader: FileReader, headers: Iterable[Header] = ()) -> None:
        self._pieces = pieces
        self._reader = reader
        length = sum(map(length_of, pieces))
        self._is_small = length <= _AT_ONCE
        self._headers = [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"content-length", b"%d" % length),
            *headers,
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = written(self._pieces, self._reader)
        if self._is_small:
            body = b"".join([part async for part in sent])
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            await send({"type": "http.response.body", "body": body})
            return
        first = await anext(sent)  # what is wrong with a picture's file is found out before the answer has begun
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for part in sent:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def length_of(piece: Piece) -> int:
    """Bytes that the piece has in the body."""
    return len(piece) if isinstance(piece, bytes) else (piece.size + 2) // 3 * 4


async def written(pieces: Iterable[Piece], reader: FileReader) -> AsyncIterator[bytes]:
    """The pieces one after the other, pictures as base64. Raises NotFound, Unavailable.

    What stands before a picture comes once the picture's file has been read from: an error comes in its place.
    """
    before: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            before.append(piece)
            continue
        async for part in reader.pieces(piece.sha256, _AT_ONCE, piece.size):
            if before:
                yield b"".join(before)
                before.clear()
            yield base64.b64encode(part)
    if before:
        yield b"".join(before)


class LateAnswer:
    """An answer that is still to come; nothing is sent before it, as it may be an error. `ended` hears how it went.

    A client that has left before the last of it has no answer. `headers` are what it has if it is an error, too.
    """

    def __init__(
        self, wait: Callable[[], Awaitable[ASGIApp]], ended: Callable[[bool], None], headers: Iterable[Header] = ()
    ) -> None:
        self._wait = wait
        self._ended = ended
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False
        try:
            answer = await unless_gone(scope, receive, self._come())
            if answer is not None:
                await answer(scope, receive, _while_there(scope, send))
                answered = True
        except ClientDisconnect:
            pass
        except AtelierError as error:
            answered = True  # with an error
            error.headers = {**error.headers, **{name.decode(): said.decode() for name, said in self._headers}}
            raise
        except Exception:
            answered = True
            raise
        finally:
            self._ended(answered)

    async def _come(self) -> ASGIApp:
        return await self._wait()


def _while_there(scope: Scope, send: Send) -> Send:
    """Sends for as long as there is a client: a server takes what is sent to nobody without a word."""
    connection = connection_of(scope)

    async def send_on(message: Message) -> None:
        if connection is not None and connection.is_lost:
            raise ClientDisconnect
        await send(message)

    return send_on
