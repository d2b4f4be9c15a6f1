"""The workflow documents that ship, ready to run under any app.

A dialect's call is a run of one of them. Each app that makes one gets a version of its own, so that a run's
`workflow_id` can be read, exported and run again as any other; the graph is the same for all.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from uuid import UUID, uuid5

import msgspec

from app.graph.document import parse_document
from app.graph.graph import Graph, build_graph
from app.store.accounts import PublishedWorkflow

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"


class Shipped(msgspec.Struct, frozen=True):
    """A document of this version of Atelier: its name, text and graph."""

    name: str
    text: str
    digest: str
    graph: Graph

    def version_of(self, app_id: str) -> PublishedWorkflow:
        """The app's version of it; the same id wherever and whenever it is made."""
        version_id = str(uuid5(UUID(app_id), f"{self.name}@{self.digest}"))
        return PublishedWorkflow(version_id, app_id, f"{self.name}@{self.digest[:12]}", self.text)


@cache
def shipped(name: str) -> Shipped:
    """Raises KeyError for a name that no document has."""
    path = WORKFLOWS / f"{name}.yml"
    if not path.is_file():
        raise KeyError(name)
    text = path.read_text(encoding="utf-8")
    return Shipped(name, text, hashlib.sha256(text.encode()).hexdigest(), build_graph(parse_document(text)))
