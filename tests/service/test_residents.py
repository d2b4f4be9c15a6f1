"""A step goes to the worker that has its checkpoint in memory, for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path

import pytest

from app.checkpoints.catalogue import SHIPPED, SHIPPED_FOLDER, Catalogue
from app.domain.resident import Resident
from app.runs import residency
from app.runs.residency import Residency, together
from app.store import residents, steps
from app.store.residents import Housed
from tests.clusters import until
from tests.service.house import House, new_house
from workers.link import WorkerSide
from workers.nodes.keep_checkpoint import Housing

PATIENT = {"patience_s": 60.0}  # every step of this house needs the checkpoint "c"


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with new_house(tmp_path, database_url) as house:
        yield house


def houses(house: House, worker: str, *checkpoints: str) -> None:
    held = [Resident(name, 2_000_000_000, 2_000_000_000, 5.0, None) for name in checkpoints]
    house.store.commit_blocking(lambda tx: residents.replace_residents(tx, worker, held))


def elsewhere(house: House, worker: str, **more: float) -> str | None:
    claimer = steps.Claimer(worker, "gpu", 60, **more)
    return house.store.read_blocking(lambda tx: steps.first_elsewhere(tx, claimer))


def test_a_step_is_left_to_the_worker_that_has_its_checkpoint(house: House) -> None:
    houses(house, "w2", "c")
    run_id = house.submit()
    assert house.claim("w1", **PATIENT) is None
    assert elsewhere(house, "w1", **PATIENT) is not None
    held = house.claim("w2", resident=("c",), **PATIENT)
    assert held is not None
    assert held.run_id == run_id
    assert elsewhere(house, "w1", **PATIENT) is None


def test_what_two_workers_have_is_one_checkpoint_with_all_its_bytes(house: House) -> None:
    houses(house, "w1", "b", "c")
    houses(house, "w2", "c")
    held = together(house.store.read_blocking(residents.list_residents))
    assert [(each.checkpoint, each.size) for each in held] == [("b", 2_000_000_000), ("c", 4_000_000_000)]


def test_but_no_longer_than_the_bound(house: House) -> None:
    houses(house, "w2", "c")
    house.submit()
    house.sql("UPDATE steps SET ready_at = ready_at - 61")
    assert house.claim("w1", **PATIENT) is not None


def test_who_has_it_too_need_not_wait(house: House) -> None:
    houses(house, "w2", "c")
    house.submit()
    assert house.claim("w1", resident=("b", "c"), **PATIENT) is not None


def test_a_step_that_nobody_has_in_memory_is_anybodys(house: House) -> None:
    houses(house, "w2", "b")
    house.submit()
    assert house.claim("w1", **PATIENT) is not None


def test_a_worker_that_holds_a_step_is_loading_what_it_needs(house: House) -> None:
    house.submit()
    assert house.claim("w2", **PATIENT) is not None, "nobody had it"
    house.submit()
    assert house.claim("w1", **PATIENT) is None
    assert house.claim("w2", **PATIENT) is not None


def test_what_waits_for_another_is_passed_over_whatever_its_priority(house: House) -> None:
    houses(house, "w2", "c")
    urgent, other = house.submit(), house.submit()
    house.sql("UPDATE steps SET priority = 5 WHERE run_id = :run", run=urgent)
    house.sql("UPDATE steps SET checkpoint = 'b' WHERE run_id = :run", run=other)
    first = house.claim("w1", **PATIENT)
    assert first is not None
    assert first.run_id == other
    house.sql("UPDATE steps SET ready_at = ready_at - 61")
    second = house.claim("w1", **PATIENT)
    assert second is not None
    assert second.run_id == urgent


def test_the_checkpoint_that_is_needed_next_is_known(house: House) -> None:
    houses(house, "w2", "b")
    for age_s, checkpoint in ((3, "b"), (2, "d"), (1, "e")):
        change = "UPDATE steps SET checkpoint = :name, ready_at = ready_at - :age_s WHERE run_id = :run"
        house.sql(change, name=checkpoint, age_s=age_s, run=house.submit())

    def next_cold(*resident: str) -> str | None:
        claimer = steps.Claimer("w1", "gpu", 60, resident, **PATIENT)
        return house.store.read_blocking(lambda tx: steps.next_cold(tx, claimer))

    assert (next_cold("a"), next_cold("d"), next_cold("d", "e")) == ("d", "e", None)


def test_a_worker_that_is_gone_has_nothing_in_memory(house: House) -> None:
    houses(house, "w2", "c")
    house.submit()
    house.store.commit_blocking(lambda tx: residents.forget_residents(tx, "w2"))
    assert house.claim("w1", **PATIENT) is not None


def test_nobody_waits_for_a_worker_that_has_let_a_lease_run_out(house: House) -> None:
    houses(house, "w2", "c")
    houses(house, "w3", "b")
    house.submit()
    assert house.claim("w2", lease_s=-1, **PATIENT) is not None
    house.store.commit_blocking(residents.forget_silent)
    assert [each.worker_id for each in house.store.read_blocking(residents.list_residents)] == ["w3"]


def test_all_others_that_have_a_checkpoint_are_asked_once_to_let_go_of_it(house: House) -> None:
    for worker, *checkpoints in (("w1", "a", "b"), ("w2", "a", "b"), ("w3", "b")):
        houses(house, worker, *checkpoints)

    def dismissed() -> list[list[str]]:
        workers = ("w1", "w2", "w3")
        return [house.store.read_blocking(lambda tx, of=each: residents.dismissed(tx, of)) for each in workers]

    house.store.commit_blocking(lambda tx: residents.dismiss(tx, "a", "w1"))
    assert dismissed() == [[], ["a"], []]
    house.store.commit_blocking(lambda tx: residents.heard(tx, "w2"))
    assert dismissed() == [[], [], []]
    holders = house.store.read_blocking(lambda tx: residents.who_has(tx, "a"))
    assert {each.worker_id for each in holders} == {"w1", "w2"}


async def test_whoever_tells_late_of_a_deleted_checkpoint_is_asked_again_unless_there_is_a_new_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residency, "_AGAIN_S", 0.01)
    deleted, installed = "gone", SHIPPED
    of_all = Residency(house.store, Catalogue([SHIPPED_FOLDER]))
    for each in (deleted, installed):
        await of_all.dismiss(each)
    houses(house, "w1", deleted, installed)
    watching = asyncio.create_task(of_all.watch())

    def asked() -> list[str]:
        return house.store.read_blocking(lambda tx: residents.dismissed(tx, "w1"))

    found = await asyncio.to_thread(until, "it is asked again", asked)
    watching.cancel()
    assert found == [deleted]


def test_what_is_in_memory_is_listed_by_name(house: House) -> None:
    houses(house, "w2", "c", "a")
    houses(house, "w1", "b")
    houses(house, "w2", "c", "d")
    brief = Resident("b", 10, 0, 1.0, 300.0)
    house.store.commit_blocking(lambda tx: residents.replace_residents(tx, "w1", [brief]))
    found = house.store.read_blocking(residents.list_residents)
    assert [(each.worker_id, each.resident.checkpoint) for each in found] == [("w1", "b"), ("w2", "c"), ("w2", "d")]
    assert isinstance(found[0], Housed)
    assert found[0].resident.left_s == pytest.approx(300, abs=5)
    assert found[1].resident.left_s is None
    assert sorted(house.store.read_blocking(steps.holders)) == ["w1", "w2"]


def test_a_checkpoint_is_told_of_when_all_know_how_long_it_stays(house: House) -> None:
    def resident(left_s: float | None) -> Resident:
        return Resident("c", 1, 0, 5.0, left_s)

    def tells(*held: Resident) -> None:
        house.store.commit_blocking(lambda tx: residents.replace_residents(tx, "w1", held))

    houses(house, "w2", "c")
    _, end = Pipe()
    housing = Housing(house.store, WorkerSide(end), "w1")
    assert housing.have_told("c", None)
    assert not housing.have_told("c", resident(300.0)), "only of another worker that has it"
    tells(resident(300.0))
    assert housing.have_told("c", resident(300.0))
    assert not housing.have_told("c", resident(None)), "it stays for ever now, and they know of five minutes"
    assert not housing.have_told("c", resident(600.0))
    tells(resident(None))
    assert housing.have_told("c", resident(None))
    assert not housing.have_told("c", None), "it has left, and they don't know"
