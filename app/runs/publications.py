"""Published workflows, ready to run: who may run which, and the checked graph of each version."""

from __future__ import annotations

from threading import Lock

import msgspec

from app import clock
from app.domain.request import Caller
from app.errors import AppUnavailable, Unauthorized
from app.graph.graph import Graph, load_graph
from app.store import accounts
from app.store.accounts import PublishedWorkflow, token_hash
from app.store.engine import Tx
from app.store.store import Store

# A revoked key or a new version takes effect after this at the latest, in every process.
_FRESH_S = 2.0
_MOST_KEYS = 10_000


class Publication(msgspec.Struct, frozen=True):
    """One version of an app's workflow with its graph."""

    app_id: str
    workflow_id: str
    version: str
    graph: Graph


class _Known(msgspec.Struct, frozen=True):
    caller: Caller
    workflow_id: str
    until: float


class Publications:
    """Looks up keys and workflows, and remembers them: keys for seconds, versions for ever (they never change)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, _Known] = {}
        self._workflow_of: dict[str, str] = {}
        self._versions: dict[str, Publication] = {}
        self._lock = Lock()

    async def caller(self, token: str) -> Caller:
        """Whom the token stands for. Raises Unauthorized."""
        known = self._known.get(token)
        if known is not None and known.until > clock.monotonic():
            return known.caller
        hashed = token_hash(token)
        found = await self._store.read(lambda tx: accounts.find_key(tx, hashed))
        if found is None:
            self._known.pop(token, None)
            raise Unauthorized("Access token is invalid")
        caller, workflow_id = found
        if len(self._known) >= _MOST_KEYS:
            self._known.clear()
        self._known[token] = _Known(caller, workflow_id, clock.monotonic() + _FRESH_S)
        self._workflow_of[caller.app_id] = workflow_id
        return caller

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

    def graph_of(self, tx: Tx, workflow_id: str) -> Graph:
        """The graph that a run is pinned to."""
        return self.version(tx, workflow_id).graph

    def version(self, tx: Tx, workflow_id: str) -> Publication:
        """A published version, old or current. Called by several threads."""
        known = self._versions.get(workflow_id)
        if known is not None:
            return known
        published = accounts.find_workflow(tx, workflow_id)
        if published is None:
            raise AppUnavailable("App unavailable, please check your app configurations.")
        with self._lock:
            return self._versions.setdefault(workflow_id, _publication(published))


def _publication(published: PublishedWorkflow) -> Publication:
    return Publication(published.app_id, published.id, published.version, load_graph(published.document))
