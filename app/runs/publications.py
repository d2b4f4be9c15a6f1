"""Published workflows, ready to run: who may run which, and the checked graph of each version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from threading import Lock
from typing import Any

import msgspec

from app import clock
from app.domain.request import Caller, RunRequest
from app.errors import AppUnavailable, NotFound, Unauthorized
from app.graph.calls import Callee
from app.graph.document import parse_document, with_environment
from app.graph.graph import Graph, build_graph
from app.runs.record import Library
from app.runs.revision import Revision
from app.runs.shipped import shipped
from app.runs.uses import Uses
from app.store import accounts
from app.store.accounts import OpenedApp, PublishedWorkflow, token_hash
from app.store.engine import Tx
from app.store.store import Store

_MOST_KEYS = 10_000


class Publication(msgspec.Struct, frozen=True):
    """One version of an app's workflow with its graph."""

    app_id: str
    workflow_id: str
    version: str
    graph: Graph


class Publications:
    """Looks up keys and workflows, and remembers them.

    Keys are remembered while the revision stands still, so a request costs no statement for its key; versions for
    ever, because they never change.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, OpenedApp] = {}
        self._workflow_of: dict[str, str] = {}
        self._versions: dict[str, Publication] = {}
        self._lock = Lock()
        self._revision = Revision(store, self._known.clear)
        self._uses = Uses(store)

    async def watch(self) -> None:
        """Keeps what is remembered of keys true, and writes down when they were used, until cancelled."""
        await asyncio.gather(self._revision.watch(), self._uses.watch())

    async def caller(self, token: str) -> Caller:
        """Whom the token stands for. Raises Unauthorized, Unavailable.

        A key that was revoked is refused from then on; an expired one by the database's clock. Tokens are looked up by
        a hash (Python's own here, SHA-256 in the database), so how long it takes tells nothing about them.
        """
        revision = self._revision
        now_s = clock.monotonic()
        if now_s > revision.sure_until_s:
            await revision.be_sure()
            now_s = clock.monotonic()
        known = self._known.get(token) or await self._opened(token)
        if known.expires_at <= now_s + revision.database_ahead_s:
            raise Unauthorized("Access token has expired")
        self._uses.last_s[known.caller.key_id] = now_s
        return known.caller

    async def _opened(self, token: str) -> OpenedApp:
        hashed, before = token_hash(token), self._revision.number
        found = await self._store.read(lambda tx: accounts.find_key(tx, hashed))
        if found is None:
            raise Unauthorized("Access token is invalid")
        self._workflow_of[found.caller.app_id] = found.workflow_id
        if self._revision.number == before:  # else it may be older than what was forgotten meanwhile
            if len(self._known) >= _MOST_KEYS:
                self._known.clear()
            self._known[token] = found
        return found

    def forget_callers(self) -> None:
        """What is known of keys and their apps is to be read again: it has been changed here."""
        self._known.clear()

    async def current(self, caller: Caller) -> Publication:
        """What the caller's app runs now. Raises AppUnavailable."""
        workflow_id = self._workflow_of.get(caller.app_id)
        if workflow_id is None:
            raise AppUnavailable("App unavailable, please check your app configurations.")
        known = self._versions.get(workflow_id)
        if known is not None:
            return known
        return await self._store.read(lambda tx: self.version(tx, workflow_id))

    def asked_for(self, request: RunRequest) -> Awaitable[Publication]:
        """The version that a request names, or else the current one. Raises NotFound, AppUnavailable."""
        if request.shipped:
            return self._shipped(request)
        workflow_id = request.workflow_id
        return self.current(request.caller) if workflow_id is None else self._named(request, workflow_id)

    async def _named(self, request: RunRequest, workflow_id: str) -> Publication:
        known = self._versions.get(workflow_id)
        if known is None:
            known = await self._store.read(lambda tx: self._find_version(tx, workflow_id))
        if known is None or known.app_id != request.caller.app_id:
            raise NotFound(f"Workflow not found with id: {workflow_id}")
        return known

    async def _shipped(self, request: RunRequest) -> Publication:
        """The app's version of a document that ships, made when it is first asked for."""
        document = shipped(request.shipped)
        row = document.version_of(request.caller.app_id)
        known = self._versions.get(row.id)
        if known is None:
            await self._store.commit(lambda tx: accounts.add_version(tx, row, clock.time()))
            publication = Publication(row.app_id, row.id, row.version, document.graph)
            with self._lock:
                known = self._versions.setdefault(row.id, publication)
        return known

    async def site(self, caller: Caller) -> Mapping[str, Any]:
        """What the page of the caller's app shows where it differs from the document."""
        return await self._store.read(lambda tx: accounts.find_site(tx, caller.app_id))

    def graph_of(self, tx: Tx, workflow_id: str) -> Graph:
        """The graph that a run is pinned to."""
        return self.version(tx, workflow_id).graph

    def find_app(self, tx: Tx, names: Sequence[str]) -> Callee | None:
        """The app that has the first of the names that any has, with its current workflow."""
        for name in names:
            found = accounts.find_app(tx, name)
            if found is not None:
                return Callee(found[0], found[1], self.graph_of(tx, found[1]))
        return None

    async def library(self, graph: Graph) -> Library:
        """Whatever apps a new run of the graph may call, and those that these call, as they are now."""
        return await self._store.read(lambda tx: _Called(self, tx, graph))

    def version(self, tx: Tx, workflow_id: str) -> Publication:
        """A published version, old or current. Called by several threads."""
        found = self._versions.get(workflow_id) or self._find_version(tx, workflow_id)
        if found is None:
            raise AppUnavailable("App unavailable, please check your app configurations.")
        return found

    def _find_version(self, tx: Tx, workflow_id: str) -> Publication | None:
        published = accounts.find_workflow(tx, workflow_id)
        if published is None:
            return None
        with self._lock:
            return self._versions.setdefault(workflow_id, _publication(published))


class _Called(Library):
    """Looked up once, because a run is begun outside of any transaction."""

    def __init__(self, publications: Publications, tx: Tx, graph: Graph) -> None:
        self._found: dict[tuple[str, ...], Callee | None] = {}
        graphs = [graph]
        while graphs:
            for names in graphs.pop().calls - self._found.keys():
                callee = self._found[names] = publications.find_app(tx, names)
                if callee is not None:
                    graphs.append(callee.graph)

    def find(self, names: Sequence[str]) -> Callee | None:
        return self._found.get(tuple(names))


def _publication(published: PublishedWorkflow) -> Publication:
    document = with_environment(parse_document(published.document), published.environment or {})
    return Publication(published.app_id, published.id, published.version, build_graph(document))
