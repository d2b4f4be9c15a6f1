"""Is the process alive, and can it serve?"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.checkpoints.catalogue import Catalogue
from app.errors import AtelierError
from app.store.accounts import list_apps
from app.store.store import Store

WorkerState = Callable[[], str]


def health_routes(store: Store, catalogue: Catalogue, worker_state: WorkerState) -> list[Route]:
    """`/livez`: the event loop turns. `/readyz`: the store answers, a worker is up, a checkpoint can serve."""

    async def livez(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        problems = []
        try:
            apps = await store.read(list_apps)
            if not apps:
                problems.append("no app is published")
        except AtelierError as error:
            problems.append(error.message)
        try:
            checkpoint = catalogue.default().name
        except AtelierError as error:
            checkpoint = None
            problems.append(error.message)
        worker = worker_state()
        if worker == "starting":
            problems.append("the worker is starting")
        answer = {
            "status": "unavailable" if problems else "ready",
            "checkpoint": checkpoint,
            "checkpoints": [found.name for found in catalogue.list() if found.problem is None],
            "worker": worker,
            "problems": problems,
        }
        return JSONResponse(answer, status_code=503 if problems else 200)

    return [Route("/livez", livez), Route("/readyz", readyz)]
