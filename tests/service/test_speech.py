"""What a step says while it works, on a real database: in its turn, by its holder, each word once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.event import EventKind
from app.domain.run import Step, Succeeded
from app.graph.graph import load_graph
from app.runs.advance import Said
from app.store import runs, steps
from tests.service.house import House, new_house
from tests.unit.drawing import draw, end, llm, start

GRAPH = draw([start(), llm(prompt="x"), end(text=["llm", "text"])], ["start > llm", "llm > end"])
WHOLE = Succeeded({"text": "one two three"}, metadata={"total_tokens": 3})


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with new_house(tmp_path, database_url) as house:
        yield House(house.settings, load_graph(GRAPH), house.store)


def claim(house: House, worker: str = "w1") -> Step:
    held = house.store.commit_blocking(lambda tx: steps.claim(tx, steps.Claimer(worker, "cpu", 60)))
    assert held is not None
    return held


def say(house: House, held: Step, text: str, before: Said | None = None) -> Said | None:
    done = house.store.commit_blocking(lambda tx: house.advance.say(tx, held, text, before))
    return done[0] if done else None


def told(house: House, run_id: str) -> list[str]:
    events = house.store.read_blocking(lambda tx: runs.events_after(tx, run_id, 0))
    return [(event.payload or {})["value"] for event in events if event.kind is EventKind.TEXT_CHUNK]


def test_each_word_is_told_once_and_the_rest_with_the_end(house: House) -> None:
    run_id = house.submit()
    held = claim(house)
    said = say(house, held, "one ")
    said = say(house, held, "one two ", said)
    assert say(house, held, "one two ", said) == said
    assert house.complete(held, WHOLE) is not None
    assert told(house, run_id) == ["one ", "two ", "three"]
    assert house.run(run_id).total_tokens == 3


def test_a_word_whose_commit_was_in_doubt_is_not_told_twice(house: House) -> None:
    """Done again with what was known before, as after a lost connection."""
    run_id = house.submit()
    held = claim(house)
    said = say(house, held, "one ")
    say(house, held, "one two ", said)
    say(house, held, "one two ", said)
    assert told(house, run_id) == ["one ", "two "]


def test_who_has_lost_the_step_says_nothing_and_the_next_one_begins_again(house: House) -> None:
    run_id = house.submit()
    first = claim(house)
    said = say(house, first, "uno dos ")
    house.give_back(first)
    second = claim(house, "w2")
    assert say(house, first, "uno dos tres ", said) is None
    say(house, second, "one two ")
    house.complete(second, WHOLE)
    assert told(house, run_id) == ["uno dos ", "one two ", "three"]


def test_an_end_that_does_not_go_on_with_what_was_told_is_told_whole(house: House) -> None:
    run_id = house.submit()
    held = claim(house)
    say(house, held, "two ")
    house.complete(held, WHOLE)
    assert told(house, run_id) == ["two ", "one two three"]


def test_nothing_is_said_after_a_stop(house: House) -> None:
    run_id = house.submit()
    held = claim(house)
    house.stop(run_id)
    assert say(house, held, "late") is None
    assert told(house, run_id) == []
