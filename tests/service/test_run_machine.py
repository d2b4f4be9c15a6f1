"""Runs under everything that can happen to them, in any order: an ended run stays ended, and only the holder writes."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from app.domain.event import EventKind
from app.domain.run import Failed, Run, RunStatus, Step, StepStatus
from app.store import runs, steps
from tests.databases import PostgresDatabases
from tests.service.house import DONE, LOST, House, new_house

# Which one, modulo how many there are. Nothing is drawn inside a rule: what is there may depend on chance.
WHICH = st.integers(0, 1000)
KEYS = st.sampled_from(["key", "another"])
WORKERS = st.sampled_from(["w1", "w2", "w3"])
OUTCOMES = st.sampled_from([DONE, Failed("broken", "broken"), LOST])


class Runs(RuleBasedStateMachine):
    """Submit, claim, beat, finish, expire, stop and look again, by workers that may have lost what they hold."""

    postgres: PostgresDatabases | None = None

    def __init__(self) -> None:
        super().__init__()
        self.open = ExitStack()
        folder = Path(self.open.enter_context(tempfile.TemporaryDirectory()))
        url = self.postgres.new() if self.postgres else ""
        self.house: House = self.open.enter_context(new_house(folder, url))
        self.house.add_key("another")
        self.run_ids: list[str] = []
        self.claimed: list[Step] = []
        self.current: dict[str, int] = {}  # the attempt that may write, by run
        self.late: set[str] = set()
        self.ended: dict[str, tuple[Run, list[EventKind]]] = {}

    def teardown(self) -> None:
        self.open.close()

    @initialize()
    def submit_some(self) -> None:
        for _ in range(3):
            self.submit()
        self.claim("w1")

    @rule(key=KEYS)
    def submit(self, key: str = "key") -> None:
        self.run_ids.append(self.house.submit(key))

    @rule(worker=WORKERS)
    def claim(self, worker: str) -> None:
        step = self.house.claim(worker)
        if step is None:
            return
        assert step.run_id not in self.ended, "a step of an ended run was given to a worker"
        assert step.run_id not in self.late, "a step past its deadline was given to a worker"
        assert step.attempt == abs(self.current.get(step.run_id, 0)) + 1
        self.claimed.append(step)
        self.current[step.run_id] = step.attempt

    @rule(worker=WORKERS)
    def beat(self, worker: str) -> None:
        kept = self.house.store.commit_blocking(lambda tx: steps.renew_leases(tx, worker, 60))
        held = {step.id for step in self.house.store.read_blocking(lambda tx: steps.held_steps(tx, worker))}
        assert kept == held

    @rule(which=WHICH, outcome=OUTCOMES)
    def finish(self, which: int, outcome: object) -> None:
        """Any attempt that ever was may say how it ended; only the one that holds its step is heard."""
        if not self.claimed:
            return
        step = self.claimed[which % len(self.claimed)]
        holds = step.run_id not in self.ended and self.current[step.run_id] == step.attempt
        before = self.house.facts(step.run_id)
        notice = self.house.complete(step, outcome)  # type: ignore[arg-type]
        assert (notice is not None) == holds
        if not holds:
            assert self.house.facts(step.run_id) == before
        else:
            self.current[step.run_id] = -step.attempt  # nobody holds it now

    @rule(which=WHICH)
    def expire(self, which: int) -> None:
        """A lease runs out, and two reapers find it."""
        held = self.house.store.read_blocking(steps.held_steps)
        if not held:
            return
        lost = held[which % len(held)]
        self.house.sql("UPDATE steps SET lease_expires_at = 1 WHERE id = :id", id=lost.id)
        found = self.house.store.read_blocking(steps.expired_steps)
        assert lost.id in {step.id for step in found}
        for step in found:
            assert self.house.give_back(step) is not None
            assert self.house.give_back(step) is None
            self.current[step.run_id] = -step.attempt

    @rule(which=WHICH)
    def stop(self, which: int) -> None:
        run_id = self.run_ids[which % len(self.run_ids)]
        assert (self.house.stop(run_id) is not None) == (run_id not in self.ended)

    @rule(which=WHICH)
    def run_late(self, which: int) -> None:
        """The deadline of a run comes; a worker that has a step of it goes on until somebody looks."""
        run_id = self.run_ids[which % len(self.run_ids)]
        self.house.sql("UPDATE runs SET deadline_at = 1 WHERE id = :id", id=run_id)
        self.house.sql("UPDATE steps SET expires_at = 1 WHERE run_id = :id", id=run_id)
        self.late.add(run_id)

    @rule()
    def reap_the_late(self) -> None:
        found = self.house.store.read_blocking(runs.overdue_runs)
        assert {run_id for run_id, _ in found} == self.late - self.ended.keys()
        for run_id, _ in found:
            assert self.house.stop(run_id) is not None

    @rule()
    def look_again(self) -> None:
        """Ringing again for what is ready reads, and changes nothing."""
        waiting = self.house.store.read_blocking(lambda tx: steps.waiting_classes(tx, -1))
        assert waiting in ([], ["gpu"])

    @invariant()
    def an_ended_run_stays_as_it_ended(self) -> None:
        for run_id in self.run_ids:
            run, facts = self.house.run(run_id), self.house.facts(run_id)  # `facts` checks that there is no gap
            if run_id in self.ended:
                assert (run, facts) == self.ended[run_id]
                continue
            ends = facts.count(EventKind.RUN_FINISHED)
            assert ends == (run.status is not RunStatus.RUNNING)
            if ends:
                assert facts[-1] is EventKind.RUN_FINISHED
                self.ended[run_id] = (run, facts)

    @invariant()
    def nobody_holds_a_step_of_an_ended_run(self) -> None:
        for step in self.house.store.read_blocking(steps.held_steps):
            assert step.status is StepStatus.RUNNING
            assert step.run_id not in self.ended


EXAMPLES = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


def test_any_order_of_events_on_sqlite() -> None:
    run_state_machine_as_test(Runs, settings=EXAMPLES)


@pytest.mark.slow
def test_any_order_of_events_on_postgresql(postgres: PostgresDatabases) -> None:
    class OnPostgres(Runs):
        pass

    OnPostgres.postgres = postgres
    run_state_machine_as_test(OnPostgres, settings=EXAMPLES)
