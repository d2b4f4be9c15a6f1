"""Wires the web process: routes, middleware, lifespan. Nothing here is decided, only connected."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from app.api.dify.errors import from_framework, render_error
from app.api.dify.events import RunEvents
from app.api.dify.lists import RunLists
from app.api.dify.routes import DifyApi
from app.api.dify.wire import Wire
from app.api.files import file_routes
from app.api.health import health_routes
from app.api.metrics import metrics_routes
from app.api.middleware import RequestIds
from app.api.operation import routes
from app.api.sse import EventStreams
from app.artifacts.store import open_artifacts
from app.artifacts.urls import open_signer
from app.checkpoints.catalogue import open_catalogue
from app.errors import AtelierError
from app.events.feed import Feed
from app.events.line import open_line
from app.events.lookout import Lookout
from app.events.standings import Standings
from app.runs.advance import Advance
from app.runs.companion import Companion
from app.runs.polls import Polls
from app.runs.publications import Publications
from app.runs.reaper import Reaper
from app.runs.service import Announcer, RunService
from app.runs.settle import SettleImages
from app.runs.sweep import OrphanSweep
from app.settings import Settings
from app.store.locks import open_locks
from app.store.store import Store
from app.tally import Tally


def create_app(settings: Settings, companion: Companion | None = None) -> Starlette:
    """The web application of one process. The database must be there and up to date."""
    companion = companion or Companion()
    store = Store(settings)
    catalogue = open_catalogue(settings.checkpoints_dir, settings.default_checkpoint)
    line, tally = open_line(settings), Tally()
    announcer = Announcer(line.doorbell, line.wakeups, tally)
    publications = Publications(store)
    advance = Advance(publications.graph_of, SettleImages(catalogue), settings)
    lookout = Lookout(store, line.wakeups)
    feed = Feed(store, lookout, tally.event_lag)
    service = RunService(store, advance, publications, feed, announcer, settings)
    polls = Polls(service, feed, Standings(lookout))
    locks = open_locks(settings)
    reaper = Reaper(store, advance, announcer, line.doorbell, locks, settings)
    signer, content = open_signer(settings), open_artifacts(settings)
    render, streams = Wire(signer.sign), EventStreams(settings.slow_listener_s)
    events = RunEvents(service, render, streams)
    groups = (DifyApi(service, polls, render, events, settings), events, RunLists(service, render))
    operations = [operation for group in groups for operation in group.operations()]
    sweep = OrphanSweep(store, content, settings.orphan_age_s)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        line.wakeups.bind(asyncio.get_running_loop())
        # What is imported by now stays: the collector need not walk through it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        companion.start(store, advance, announcer, line.child_bell)
        upkeep = asyncio.gather(reaper.watch(), sweep.watch(), streams.watch())
        try:
            yield
        finally:
            upkeep.cancel()
            with suppress(asyncio.CancelledError):
                await upkeep
            await asyncio.to_thread(companion.stop)
            await asyncio.to_thread(line.close)
            await asyncio.to_thread(locks.close)
            await asyncio.to_thread(store.close)

    web = Starlette(
        routes=[
            *routes(operations, publications),
            *file_routes(store, content, signer),
            *health_routes(store, catalogue, companion.state),
            *(metrics_routes(store, tally) if settings.metrics == "on" else ()),
        ],
        middleware=[
            Middleware(RequestIds, render=render_error, tally=tally if settings.metrics == "on" else None),
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"],
                allow_headers=[
                    "Content-Type",
                    "X-App-Code",
                    "X-App-Passport",
                    "Authorization",
                    "If-None-Match",
                    "Last-Event-ID",
                ],
                expose_headers=["X-Request-Id", "X-Workflow-Run-Id", "X-Task-Id", "ETag"],
            ),
        ],
        exception_handlers={AtelierError: _on_error, HTTPException: _on_framework_error},
        lifespan=lifespan,
    )
    web.state.end_streams = feed.close  # for the server, which waits for open answers before it ends the lifespan
    return web


async def _on_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, AtelierError):
        raise error
    return render_error(error)


async def _on_framework_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return render_error(from_framework(error, request.url.path, request.method))
