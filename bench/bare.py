"""The server that runs are measured on: Atelier's own, with one bare route beside it.

    python -m bench.bare PORT       (in an environment that points ATELIER_DATA_DIR to a prepared folder)

The bare route reads the JSON and does one committed insert of what was asked, as a row of the same table that runs
lie in: the least that any durable endpoint must do. Same store, same loop, same middleware.
"""

from __future__ import annotations

import sys

import uvicorn
from sqlalchemy import insert
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app import clock, ids
from app.api.body import read_object
from app.domain.run import Run, RunStatus
from app.main import create_app
from app.settings import load_settings
from app.store.rows import run_row
from app.store.schema import runs
from app.store.store import Store

_insert = insert(runs)


def main(port: int) -> None:
    settings = load_settings()
    store = Store(settings)

    no_log = {
        "first_entries": "[]",
        "first_last_seq": 0,
        "deadline_at": None,
        "deadline_s": None,
        "updated_at": None,
        "paused_at": None,
    }

    async def bare(request: Request) -> Response:
        body = await read_object(request, settings.max_body_bytes)
        run_id = ids.new_id()
        run = Run(
            id=run_id,
            task_id=run_id,
            app_id="bench",
            workflow_id="bench",
            user=body["user"],
            status=RunStatus.SUCCEEDED,
            inputs=body["inputs"],
            outputs={},
            error=None,
            total_steps=0,
            exceptions_count=0,
            last_seq=0,
            created_at=clock.time(),
        )
        await store.commit(lambda tx: tx.put(_insert, run_row(run) | no_log))
        return Response(b'{"result":"success"}', media_type="application/json")

    app = create_app(settings)
    app.router.routes.insert(0, Route("/bare", bare, methods=["POST"]))
    uvicorn.run(app, port=port, log_level="warning", access_log=False, server_header=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
