"""The engine as a worker's steps find it, and what others are told of its memory."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from app import clock
from app.artifacts.disk import DiskArtifacts
from app.checkpoints.catalogue import Catalogue
from app.domain.resident import Resident
from app.errors import CheckpointUnavailable
from workers.diffusion.request import Resident as InEngine
from workers.memory import Told
from workers.nodes.image_request import ImageRequests
from workers.studio import Studio

ONE = Resident("one", 100, 0, 5.0, 300.0)


def test_what_is_in_memory_is_news_once():
    told = Told()
    assert not told.is_news(())
    assert [told.is_news((ONE,)) for _ in range(2)] == [True, False]
    assert told.is_news(())


@pytest.mark.parametrize(("left_s", "is_news"), [(303.0, False), (330.0, True), (None, True)])
def test_an_end_that_moves_on_a_little_is_no_news(left_s, is_news):
    told = Told()
    told.is_news((ONE,))
    assert told.is_news((Resident("one", 100, 0, 6.0, left_s),)) is is_news


def test_a_checkpoint_that_is_there_twice_is_told_once():
    now_s = clock.monotonic()
    residents = (
        InEngine("a", 10, 1, now_s - 5, None),
        InEngine("b", 7, 0, now_s, now_s + 9),
        InEngine("a", 20, 2, now_s, 1),
    )
    both, other = Studio(SimpleNamespace(residents=residents), Catalogue([])).residents()
    assert (both.checkpoint, both.size, both.vram_size, both.left_s) == ("a", 30, 3, None)
    assert both.age_s == pytest.approx(5, abs=2)
    assert 0 < other.left_s <= 9


def test_a_step_that_ended_before_it_came_to_the_engine_is_not_waited_for():
    ended = Future()
    ended.set_result(None)
    Studio(SimpleNamespace(), Catalogue([])).until_inside(ended)


def test_a_step_for_an_unknown_checkpoint_loads_nothing(engine, tmp_path):
    before, catalogue = engine.residents, Catalogue([tmp_path])
    requests = ImageRequests(catalogue, DiskArtifacts(tmp_path / "artifacts", 60))
    Studio(engine, catalogue).expect("unknown")
    with pytest.raises(CheckpointUnavailable, match="There is no checkpoint 'unknown'"):
        requests.painting({"prompt": "p", "model_name": "unknown"})
    assert engine.residents == before
