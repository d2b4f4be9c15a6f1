"""A store, what moves runs on, and one workflow with a step for a worker: runs without processes around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from app import ids
from app.domain.event import EventKind
from app.domain.request import RunRequest
from app.domain.run import Failed, Retry, Run, RunStatus, Step, Succeeded, Task
from app.graph.graph import Graph, load_graph
from app.runs.advance import Advance, Notice
from app.runs.movement import Settled
from app.settings import Settings, load_settings
from app.store import runs, steps
from app.store.migrate import upgrade
from app.store.store import Store
from tests.servers import ROOT

DONE = Succeeded({"text": "", "files": [], "json": []})
LOST = Retry("The worker was lost.", "worker_lost")


class House:
    """A store, what moves runs on, and one workflow with a step for a worker."""

    def __init__(self, settings: Settings, graph: Graph) -> None:
        self.settings, self.graph = settings, graph
        self.store = Store(settings)
        self.advance = Advance(lambda tx, workflow_id: graph, lambda call: Settled(dict(call.inputs), "c"), settings)

    def submit(self, key_id: str = "key", posting: RunRequest | None = None) -> str:
        run_id = ids.new_id()
        task = Task(ids.new_id(), run_id, "app", key_id, "user", "dify", "blocking", 1.0)
        inputs = {"prompt": "p"}
        new = Run(run_id, task.id, "app", "w", "user", RunStatus.RUNNING, inputs, {}, None, 0, 0, 0, 1.0)
        movement = self.advance.begin(self.graph, new)
        movement.posting = posting
        self.store.commit_blocking(lambda tx: self.advance.insert(tx, task, movement))
        return run_id

    def claim(self, worker: str = "w1", lease_s: float = 60, resident: str | None = None) -> Step | None:
        return self.store.commit_blocking(lambda tx: steps.claim(tx, worker, "gpu", resident, lease_s))

    def complete(self, held: Step, outcome: Succeeded | Failed | Retry = DONE) -> Notice | None:
        return self.store.commit_blocking(lambda tx: self.advance.complete(tx, held, outcome))

    def give_back(self, held: Step) -> Notice | None:
        return self.store.commit_blocking(lambda tx: self.advance.give_back(tx, held, LOST))

    def stop(self, run_id: str) -> Notice | None:
        return self.store.commit_blocking(lambda tx: self.advance.end_run(tx, run_id, RunStatus.STOPPED, "stop"))

    def sql(self, statement: str, **values: str) -> None:
        self.store.commit_blocking(lambda tx: tx.put(text(statement), values))

    def run(self, run_id: str) -> Run:
        run = self.store.read_blocking(lambda tx: runs.find_run(tx, run_id))
        assert run is not None
        return run

    def facts(self, run_id: str) -> list[EventKind]:
        events = self.store.read_blocking(lambda tx: runs.events_after(tx, run_id, 0))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return [event.kind for event in events]


@contextmanager
def new_house(folder: Path, database_url: str) -> Iterator[House]:
    settings = load_settings(data_dir=folder, database_url=database_url, retry_delay_s=0, max_attempts=3)
    upgrade(settings)
    house = House(settings, load_graph((ROOT / "workflows/text-to-image.yml").read_text()))
    yield house
    house.store.close()
