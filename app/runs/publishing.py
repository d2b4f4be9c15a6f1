"""A document becomes the version that an app runs: checked before the transaction, published within one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Self

import msgspec

from app import clock, ids
from app.domain.key import KeyTerms
from app.errors import InvalidParam
from app.graph.document import Document, parse_document, with_environment
from app.graph.graph import Graph, build_graph
from app.runs.keyring import Minted, make_key, mint
from app.store import accounts
from app.store.accounts import PublishedWorkflow, Publishing
from app.store.engine import Tx


class Edition(msgspec.Struct, frozen=True):
    """A checked document on its way to an app, with the ids it gets: a transaction that is done again makes no second.

    `environment` are the values given for its environment variables; those of the version before stay, if the document
    still declares them.
    """

    text: str
    graph: Graph
    environment: Mapping[str, str]
    workflow_id: str
    app_id: str
    key: Minted

    @classmethod
    def of(cls, text: str, environment: Mapping[str, str] | None = None) -> Self:
        """Raises DocumentInvalid with every problem of the document and of the values given."""
        graph = build_graph(with_environment(parse_document(text), environment or {}))
        return cls(text, graph, environment or {}, ids.new_id(), ids.new_id(), mint())


def publish(tx: Tx, app_name: str, edition: Edition) -> Publishing:
    """Makes it the version that the app runs; a new app is created. Runs under way keep the version they have."""
    app = accounts.find_app(tx, app_name)
    current = accounts.find_workflow(tx, app[1]) if app else None
    kept = _still_declared(edition.graph.document, current.environment if current else None)
    environment = {**kept, **edition.environment} or None
    version = datetime.fromtimestamp(clock.time(), UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    row = PublishedWorkflow(edition.workflow_id, edition.app_id, version, edition.text, environment)
    return accounts.publish(tx, app_name, row, clock.time())


def publish_with_key(tx: Tx, app_name: str, edition: Edition) -> tuple[Publishing, str | None]:
    """The same; (what was published, a key, if the app is new)."""
    done = publish(tx, app_name, edition)
    if done.app_id != edition.app_id:
        return done, None
    make_key(tx, done.app_id, edition.key, KeyTerms(app_name[:200]))
    return done, edition.key.token


def exported(tx: Tx, app_name: str, workflow_id: str | None = None) -> str:
    """The document of an app's current version, or of one by its id, as it was published. Raises InvalidParam."""
    app = accounts.find_app(tx, app_name)
    if app is None:
        names = ", ".join(each for each, _, _ in accounts.list_apps(tx)) or "none"
        raise InvalidParam(f"There is no app named {app_name}. Apps: {names}.")
    found = accounts.find_workflow(tx, workflow_id or app[1])
    if found is None or found.app_id != app[0]:
        raise InvalidParam(f"The app {app_name} has no version {workflow_id}: see atelier workflows list --app.")
    return found.document


def _still_declared(document: Document, before: Mapping[str, str] | None) -> dict[str, str]:
    """Of the values given for the version before, those that still fit."""
    declared = {variable.name for variable in document.variables}
    return {name: value for name, value in (before or {}).items() if name in declared}
