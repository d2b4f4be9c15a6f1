"""A store, what moves runs on, and one workflow with a step for a worker: runs without processes around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app import ids
from app.domain.event import Event, EventKind
from app.domain.request import Caller, RunRequest
from app.domain.run import Failed, Retry, Run, RunStatus, Step, Succeeded, Task
from app.graph.graph import Graph, load_graph
from app.runs.advance import Advance, Notice
from app.runs.movement import Movement, Settled
from app.runs.record import NOTHING_ELSE, Library
from app.settings import Settings, load_settings
from app.store import runs, steps
from app.store.migrate import upgrade
from app.store.store import Store
from tests.servers import ROOT

DONE = Succeeded({"text": "", "files": [], "json": []})
LOST = Retry("The worker was lost.", "worker_lost")


class House:
    """A store, what moves runs on, and one workflow with a step for a worker."""

    def __init__(
        self, settings: Settings, graph: Graph, store: Store | None = None, library: Library = NOTHING_ELSE
    ) -> None:
        self.settings, self.graph, self.library = settings, graph, library
        self.store = store or Store(settings)
        self.advance = Advance(
            lambda tx, workflow_id: graph if workflow_id == "w" else library.graph_of(workflow_id),
            lambda call: Settled(dict(call.inputs), "c"),
            settings,
            lambda tx, names: library.find(names),
        )

    def submit(
        self, key_id: str = "key", priority: int | None = None, posting: RunRequest | None = None, **more: Any
    ) -> str:
        """The id of a run that the key has asked for. `more`: of the caller or the request. Raises TooManyRequests."""
        of_caller = {name: more.pop(name) for name in Caller.__struct_fields__ if name in more}
        caller = Caller(key_id, "app", **{"priority": priority or 0, **of_caller})
        asked = RunRequest(caller, more.pop("inputs", {"prompt": "p"}), "user", priority=priority, **more)
        task, movement = self._begun(asked)
        movement.posting = posting
        self.store.commit_blocking(lambda tx: self.advance.insert(tx, task, movement, asked))
        return task.run_id

    def submit_many(self, key_id: str, count: int) -> list[str]:
        """The same so many times in one transaction, each a millisecond older than the next."""
        asked = RunRequest(Caller(key_id, "app"), {"prompt": "p"}, "user")
        made = [self._begun(asked) for _ in range(count)]
        self.store.commit_blocking(
            lambda tx: [self.advance.insert(tx, task, movement, asked) for task, movement in made]
        )
        run_ids = [task.run_id for task, _ in made]
        older = text("UPDATE steps SET ready_at = ready_at - :age_s WHERE run_id = :run")
        self.store.commit_blocking(
            lambda tx: [tx.put(older, {"age_s": n / 1000, "run": r}) for n, r in enumerate(reversed(run_ids))]
        )
        return run_ids

    def _begun(self, asked: RunRequest) -> tuple[Task, Movement]:
        run_id, key_id = ids.new_id(), asked.caller.key_id
        task = Task(ids.new_id(), run_id, "app", key_id, "user", "dify", "blocking", 1.0, None, asked.granted_priority)
        new = Run(
            run_id, task.id, "app", "w", "user", RunStatus.RUNNING, asked.inputs, {}, None, 0, 0, 0, 1.0, None, key_id
        )
        return task, self.advance.begin(self.graph, new, self.library)

    def claim(self, worker: str = "w1", **more: Any) -> Step | None:
        claimer = steps.Claimer(worker, "gpu", **{"lease_s": 60, **more})
        return self.store.commit_blocking(lambda tx: steps.claim(tx, claimer))

    def complete(self, held: Step, outcome: Succeeded | Failed | Retry = DONE) -> Notice | None:
        return self.store.commit_blocking(lambda tx: self.advance.complete(tx, held, outcome))

    def give_back(self, held: Step) -> Notice | None:
        return self.store.commit_blocking(lambda tx: self.advance.give_back(tx, held, LOST))

    def stop(self, run_id: str) -> Notice | None:
        return self.store.commit_blocking(lambda tx: self.advance.end_run(tx, run_id, RunStatus.STOPPED, "stop"))

    def add_key(self, key_id: str, priority: int = 0) -> None:
        """A row for a key: a claim remembers there when it was served."""
        self.sql(
            "INSERT INTO apps (id, name, workflow_id, created_at) VALUES ('app', 'app', 'w', 1) ON CONFLICT DO NOTHING"
        )
        columns = "id, app_id, label, prefix, hash, created_at, priority"
        self.sql(
            f"INSERT INTO keys ({columns}) VALUES (:id, 'app', '', '', :id, 1, :priority)", id=key_id, priority=priority
        )

    def sql(self, statement: str, **values: Any) -> None:
        self.store.commit_blocking(lambda tx: tx.put(text(statement), values))

    def told(self, run_id: str, kind: EventKind) -> list[Event]:
        """The run's facts of the kind."""
        events = self.store.read_blocking(lambda tx: runs.events_after(tx, run_id, 0))
        return [event for event in events if event.kind is kind]

    def run(self, run_id: str) -> Run:
        run = self.store.read_blocking(lambda tx: runs.find_run(tx, run_id))
        assert run is not None
        return run

    def facts(self, run_id: str) -> list[EventKind]:
        events = self.store.read_blocking(lambda tx: runs.events_after(tx, run_id, 0))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return [event.kind for event in events]


@contextmanager
def new_house(folder: Path, database_url: str, **more: Any) -> Iterator[House]:
    settings = load_settings(data_dir=folder, database_url=database_url, retry_delay_s=0, max_attempts=3, **more)
    upgrade(settings)
    house = House(settings, load_graph((ROOT / "workflows/text-to-image.yml").read_text()))
    yield house
    house.store.close()
