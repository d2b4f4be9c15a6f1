"""Wires the web process: routes, middleware, lifespan. Nothing here is decided, only connected."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from app.api.allm import errors as allm
from app.api.allm.routes import AllmApi
from app.api.dialects import ErrorShapes
from app.api.dify.again import AgainApi
from app.api.dify.app_pages import AppPages
from app.api.dify.errors import CrossOrigin, from_framework, render_error
from app.api.dify.events import RunEvents
from app.api.dify.forms import FormsApi
from app.api.dify.lists import RunLists
from app.api.dify.pages import DIFY_HEADERS
from app.api.dify.routes import DifyApi
from app.api.dify.uploads import UploadApi
from app.api.dify.wire import Wire
from app.api.documents.routes import document_operations
from app.api.doors import Door, Doors
from app.api.files import FileReader, SignedFiles
from app.api.health import health_operations
from app.api.keys import KeysApi
from app.api.llamago import errors as llamago
from app.api.llamago.models import LLAMAGO_HEADERS, LlamaModelsApi
from app.api.llamago.routes import GenerateApi
from app.api.metrics import metrics_operations
from app.api.middleware import RequestIds
from app.api.ollama import errors as ollama
from app.api.ollama.early import EarlyApi
from app.api.ollama.library import OllamaLibraryApi
from app.api.ollama.looks import Looks
from app.api.ollama.painting import Painting
from app.api.ollama.routes import OllamaApi
from app.api.ollama.text import TextApi
from app.api.ollama.transfers import OllamaTransfersApi
from app.api.openai import errors as openai
from app.api.openai.deletion import OpenAIDeletionApi
from app.api.openai.routes import OpenAIApi
from app.api.operation import header_names, routes
from app.api.permalinks import Permalinks
from app.api.pictures.runs import PictureRuns
from app.api.pictures.urls import PictureUrls
from app.api.sse import EventStreams, StreamingApp
from app.api.webhooks import WebhookApi
from app.artifacts.store import open_artifacts
from app.artifacts.urls import open_signer
from app.checkpoints.anatomy import Anatomies
from app.checkpoints.catalogue import open_catalogue
from app.checkpoints.digests import Digests
from app.checkpoints.hashes import Hashes
from app.checkpoints.leftovers import Leftovers
from app.errors import AtelierError
from app.events.feed import Feed
from app.events.line import open_line
from app.events.lookout import Lookout
from app.events.standings import Standings
from app.runs.advance import Advance
from app.runs.again import Again
from app.runs.calls import Calls
from app.runs.companion import Companion
from app.runs.end_users import EndUsers
from app.runs.forms import Forms
from app.runs.given import GivenFiles
from app.runs.keyring import Keyring
from app.runs.library import Library
from app.runs.models import Models
from app.runs.polls import Polls
from app.runs.publications import Publications
from app.runs.pulls import Pulls
from app.runs.pushes import Pushes
from app.runs.queue_view import QueueView
from app.runs.reaper import Reaper
from app.runs.residency import Residency
from app.runs.sender import Sender
from app.runs.service import Announcer, RunService
from app.runs.settle import SettleImages
from app.runs.sweep import OrphanSweep
from app.runs.transfers import Transfers
from app.runs.uploads import Uploads
from app.runs.webhooks import Webhooks
from app.settings import Settings
from app.store.locks import open_locks
from app.store.store import Store
from app.tally import Tally

# What a page of another origin may send, besides what the operations read, and what it may see.
_READ = ("Content-Type", "X-App-Code", "X-App-Passport", "Authorization", "X-Request-Id", "Traceparent")
_SENT_BY_SDKS = (
    *("User-Agent", "Accept", "X-Requested-With", "OpenAI-Beta", "X-Stainless-Arch", "X-Stainless-Async"),
    *("X-Stainless-Custom-Poll-Interval", "X-Stainless-Helper-Method", "X-Stainless-Lang", "X-Stainless-Os"),
    *("X-Stainless-Package-Version", "X-Stainless-Poll-Helper", "X-Stainless-Retry-Count", "X-Stainless-Runtime"),
    *("X-Stainless-Runtime-Version", "X-Stainless-Timeout", "OpenAI-Organization", "OpenAI-Project"),
)
_WRITTEN = (
    *("X-Request-Id", "X-Workflow-Run-Id", "X-Task-Id", "Location", "Retry-After", "ETag"),
    *("Idempotency-Replayed", "Preference-Applied", "X-Should-Retry", "X-Version", "X-Env", "X-Trace-Id"),
)


_ERRORS = ErrorShapes(
    render_error,
    by_prefix={
        "/v1/images/": openai.render_error,
        "/v1/models": openai.render_error,
        "/v1/allm/": allm.render_error,
        "/llamago/": llamago.render_text_error,
        "/llamago/v1/": llamago.render_object_error,
        "/api/": ollama.render_error,
        "/ollama/v1/": ollama.render_early_error,
        **dict.fromkeys(
            ("/v1/chat/", "/v1/completions", "/v1/embeddings", "/v1/responses"), ollama.render_compatible_error
        ),
    },
    by_door={"ollama": ollama.render_error},
)


def create_app(
    settings: Settings, companion: Companion | None = None, doors: Mapping[int, Door] | None = None
) -> Starlette:
    """The web application of one process. The database must be there and up to date. `doors`: by port."""
    companion = companion or Companion()
    store = Store(settings)
    catalogue = open_catalogue(settings)
    line, tally = open_line(settings), Tally()
    announcer = Announcer(line.doorbell, line.wakeups, tally)
    publications = Publications(store)
    settle = SettleImages(catalogue, settings.checkpoint_names)
    advance = Advance(publications.graph_of, settle, settings, publications.find_app)
    lookout = Lookout(store, line.wakeups)
    feed = Feed(store, lookout, tally.event_lag)
    queue_view = QueueView(store, line.wakeups)
    locks = open_locks(settings)
    calls = Calls(store, advance, locks, settings)
    service = RunService(store, advance, publications, feed, announcer, calls)
    reaper = Reaper(store, advance, announcer, line.doorbell, locks, settings)
    signer, content = open_signer(settings), open_artifacts(settings)
    uploads = Uploads(store, content, settings)
    reader = FileReader(content, is_near=settings.is_embedded and not settings.s3_bucket)
    service.given = GivenFiles(store, uploads, signer, settings)
    render, streams = Wire(signer), EventStreams(settings.slow_listener_s)
    sender = Sender(store, locks, announcer, render.told, settings)
    events = RunEvents(service, render, streams, settings.ping_s)
    polls = Polls(service, feed, Standings(lookout), queue_view)
    users = EndUsers(store)
    models = Models(catalogue, settings.checkpoint_names, store)
    residency = Residency(store, catalogue)
    library, transfers = Library(store, models, catalogue, residency, settings), Transfers()
    pulls = Pulls(settings, models, library.presets, library.installed, transfers)
    pictures = PictureRuns(service, models, uploads, users, settings.ping_s)
    dify = DifyApi(service, polls, users, render, events, settings)
    urls = PictureUrls(signer)
    looks = Looks(Digests(Hashes(settings.hashes_file)), Anatomies())
    ollama_painting = Painting(pictures, reader, streams, settings)
    operations = [
        *dify.operations(),
        *AgainApi(dify, Again(store, content), uploads, settings).operations(),
        *events.operations(),
        *AppPages(publications, users, settings).operations(),
        *RunLists(service, render).operations(),
        *UploadApi(uploads, reader, signer).operations(),
        *Permalinks(uploads, signer).operations(),
        *OpenAIApi(pictures, reader, urls, streams, settings).operations(),
        *GenerateApi(pictures, reader, urls, streams, settings).operations(),
        *AllmApi(pictures, reader, urls, settings).operations(),
        *LlamaModelsApi(models, residency, settings).operations(),
        *OllamaApi(ollama_painting, models, residency, looks, settings).operations(),
        *TextApi(ollama_painting, settings).operations(),
        *EarlyApi(pictures, reader, streams, settings).operations(),
        *OpenAIDeletionApi(library).operations(),
        *OllamaLibraryApi(library, settings).operations(),
        *OllamaTransfersApi(pulls, Pushes(settings, models, transfers), settings).operations(),
        *FormsApi(Forms(store, advance, announcer), settings).operations(),
        *KeysApi(Keyring(store), settings).operations(),
        *WebhookApi(Webhooks(store, announcer, settings), publications, settings).operations(),
        *SignedFiles(store, reader, signer).operations(),
        *health_operations(store, catalogue, companion.state),
        *(metrics_operations(store, tally) if settings.metrics == "on" else ()),
    ]
    sweep = OrphanSweep(store, content, settings.orphan_age_s)
    leftovers = Leftovers(settings.checkpoints_dir)
    duties = (reaper, sweep, leftovers, residency, publications, users, calls, sender, streams, queue_view)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        line.wakeups.bind(asyncio.get_running_loop())
        _spare_the_collector()
        companion.start(store, advance, announcer, line.child_bell)
        await calls.begin()
        try:
            async with _watching(*duties):
                yield
        finally:
            await calls.close()
            for close in (companion.stop, line.close, locks.close, store.close):
                await asyncio.to_thread(close)

    web = StreamingApp(
        routes=routes([*operations, *document_operations(operations)], publications),
        middleware=_middleware(tally if settings.metrics == "on" else None, header_names(operations), doors),
        exception_handlers={AtelierError: _on_error, HTTPException: _on_framework_error},
        lifespan=lifespan,
    )
    web.router.redirect_slashes = False  # a path with a slash too many is unknown, as all others are
    # For the server, which waits for open answers before it ends the lifespan.
    web.state.end_streams = partial(_each, feed.close, transfers.end)
    return web


def _each(*steps: Callable[[], None]) -> None:
    for step in steps:
        step()


class Duty(Protocol):
    """Something that a process does all the time beside its requests."""

    async def watch(self) -> None:
        """Until it is cancelled."""


@asynccontextmanager
async def _watching(*duties: Duty) -> AsyncIterator[None]:
    """The duties are done for the length of a block."""
    upkeep = asyncio.gather(*(each.watch() for each in duties))
    try:
        yield
    finally:
        upkeep.cancel()
        with suppress(asyncio.CancelledError):
            await upkeep


def _spare_the_collector() -> None:
    """What is imported by now stays: the collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _middleware(tally: Tally | None, header_names: Iterable[str], doors: Mapping[int, Door] | None) -> list[Middleware]:
    """What every request passes. `header_names`: those that the operations read."""
    return [
        *([Middleware(Doors, doors=doors)] if doors else ()),
        Middleware(
            RequestIds, render=_ERRORS.render, tally=tally, always=DIFY_HEADERS, below={"/llamago/": LLAMAGO_HEADERS}
        ),
        Middleware(
            CrossOrigin,
            allow_origins=["*"],
            allow_methods=["GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"],
            allow_headers=[*_READ, *_SENT_BY_SDKS, *header_names],
            expose_headers=_WRITTEN,
        ),
    ]


async def _on_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, AtelierError):
        raise error
    return _ERRORS.render(error, request.scope)


async def _on_framework_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _ERRORS.render(from_framework(error, request.url.path, request.method), request.scope)
