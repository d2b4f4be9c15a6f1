"""The server that streams and polls are measured on: Atelier's own, with bare Starlette routes beside it.

    python -m bench.teller PORT       (in an environment that points ATELIER_DATA_DIR to a prepared folder)

`POST /tell` commits one more fact to each of the runs that the body names, as a worker's commit would, and tells of it.
`GET /bare/events` streams from memory what `POST /bare/tell` says, `GET /bare/304` answers 304. Each thing that is told
is the time, by the machine's monotonic clock, which its processes share.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import uvicorn
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from app.api.connection import Connection
from app.domain.event import Entry, EventKind
from app.main import create_app
from app.runs.advance import Notice
from app.runs.companion import Companion
from app.settings import load_settings
from app.store import runs as run_rows
from app.store.engine import Tx


class Teller(Companion):
    """Instead of a worker: moves runs on when it is asked to."""

    def start(self, store: Any, advance: Any, announcer: Any, child_bell: Any) -> None:
        self.store, self.announcer = store, announcer

    async def tell(self, request: Request) -> Response:
        run_ids = await request.json()
        told = {"selector": ["node", "text"], "value": f"@{time.monotonic():.6f}@"}
        notices = await asyncio.gather(
            *(self.store.commit(lambda tx, run_id=run_id: _moved(tx, run_id, told)) for run_id in run_ids)
        )
        for notice in notices:
            self.announcer.tell(notice)
        return Response(status_code=204)


def _moved(tx: Tx, run_id: str, told: dict[str, Any]) -> Notice:
    run = run_rows.lock_run(tx, run_id)
    if run is None:
        raise LookupError(run_id)
    run = msgspec.structs.replace(run, last_seq=run.last_seq + 1)
    run_rows.save_run(tx, run)
    run_rows.insert_entries(tx, run, [Entry(EventKind.TEXT_CHUNK, None, told)])
    return Notice(run_id)


class Bare:
    """The least that could stream: a queue a listener, and Starlette's own response."""

    def __init__(self) -> None:
        self._listeners: list[asyncio.Queue[bytes]] = []

    async def events(self, request: Request) -> Response:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._listeners.append(queue)

        async def frames() -> AsyncIterator[bytes]:
            yield b"event: ping\n\n"
            while True:
                yield await queue.get()

        return StreamingResponse(frames(), media_type="text/event-stream")

    async def tell(self, request: Request) -> Response:
        """To the listeners of these numbers, or to all."""
        chosen = await request.json()
        frame = b'data: {"event":"text_chunk","workflow_run_id":"%s","text":"@%.6f@"}\n\n' % (
            b"x" * 150,
            time.monotonic(),
        )
        for queue in [self._listeners[i] for i in chosen] or self._listeners:
            queue.put_nowait(frame)
        return Response(status_code=204)

    async def not_modified(self, request: Request) -> Response:
        return Response(status_code=304, headers={"etag": 'W/"4"'})


def main(port: int) -> None:
    teller, bare = Teller(), Bare()
    app = create_app(load_settings(), teller)
    app.router.routes[:0] = [
        Route("/tell", teller.tell, methods=["POST"]),
        Route("/bare/tell", bare.tell, methods=["POST"]),
        Route("/bare/events", bare.events),
        Route("/bare/304", bare.not_modified),
    ]
    uvicorn.run(app, port=port, http=Connection, log_level="warning", access_log=False, server_header=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
