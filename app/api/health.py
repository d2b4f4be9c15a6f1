"""Is the process alive, and can it serve?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from starlette.requests import Request

from app.api.answer import Answer
from app.api.operation import OpenOperation
from app.checkpoints.catalogue import Catalogue
from app.errors import AtelierError
from app.store.accounts import list_apps
from app.store.store import Store

WorkerState = Callable[[], str]


class Liveness(msgspec.Struct, frozen=True):
    status: str


class Readiness(msgspec.Struct, frozen=True):
    """Whether the server can take a request for a picture, and why not."""

    status: str
    checkpoint: str | None
    checkpoints: list[str]
    worker: str
    problems: list[str]


def health_operations(store: Store, catalogue: Catalogue, worker_state: WorkerState) -> list[OpenOperation]:
    """`/livez`: the event loop turns. `/readyz`: the store answers, a worker is up, a checkpoint can serve."""

    async def livez(request: Request) -> Answer:
        return Answer(msgspec.json.encode(Liveness("ok")))

    async def readyz(request: Request) -> Answer:
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
        answer = Readiness(
            status="unavailable" if problems else "ready",
            checkpoint=checkpoint,
            checkpoints=[found.name for found in await asyncio.to_thread(catalogue.list) if found.problem is None],
            worker=worker,
            problems=problems,
        )
        return Answer(msgspec.json.encode(answer), status=503 if problems else 200)

    return [
        OpenOperation(
            method="GET",
            path="/livez",
            handler=livez,
            summary="Asking whether the server is alive",
            tag="Server",
            answers={200: Liveness},
        ),
        OpenOperation(
            method="GET",
            path="/readyz",
            handler=readyz,
            summary="Asking whether the server is ready",
            tag="Server",
            answers={200: Readiness, 503: Readiness},
        ),
    ]
