"""`/metrics` and `atelier top`: what was done is counted, what waits and runs is shown, and nothing grows for ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as strict_parser

from app import ids
from app.api.middleware import read_traceparent
from tests.chaos.test_deaths import LONG, PAINTER, painting
from tests.servers import ROOT, Atelier, running

IDS = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Atelier]:
    """A server without a worker that has done nothing yet."""
    with running(tmp_path, worker="none") as server:
        yield server


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server whose worker paints without torch."""
    with running(tmp_path_factory.mktemp("painter"), worker_module=PAINTER) as server:
        server.until_ready()
        yield server


def failing_key(server: Atelier, folder: Path) -> str:
    """A key of an app whose runs fail."""
    text = (ROOT / "workflows/echo.yml").read_text().replace("{{ text }}", "{{ text / 2 }}")
    (folder / "halve.yml").write_text(text)
    return server.app_key(folder / "halve.yml")


def value(server: Atelier, name: str, **labels: str) -> float | None:
    """The sample of this name with (at least) these labels, their sum when there are several; None for none."""
    families = parser.text_string_to_metric_families(server.http.get("/metrics").text)
    found = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else None


def begin(server: Atelier, **inputs: object) -> str:
    """Begins a run and leaves; its task's id."""
    body = {"inputs": LONG | inputs, "response_mode": "streaming", "user": "u"}
    with server.http.stream("POST", "/v1/workflows/run", json=body) as stream:
        return stream.headers["x-task-id"]


def test_runs_and_answers_are_counted(fresh: Atelier, tmp_path: Path) -> None:
    key, bad_key = fresh.app_key(ROOT / "workflows/echo.yml"), failing_key(fresh, tmp_path)
    for each in (key, key, key, bad_key):
        run_id = fresh.run({"text": "hello"}, each).json()["workflow_run_id"]
        fresh.http.get(f"/v1/workflows/run/{run_id}", headers=fresh.bearer(each))
    fresh.http.get("/v1/workflows/run/nothing")
    assert value(fresh, "atelier_runs_accepted_total", dialect="dify", status="succeeded") == 3
    assert value(fresh, "atelier_runs_accepted_total", dialect="dify", status="failed") == 1
    answers = "atelier_http_request_seconds_count"
    assert value(fresh, answers, route="/v1/workflows/run", method="POST", status="200") == 4
    assert value(fresh, answers, route="/v1/workflows/run/{run_id}", status="200") == 4
    assert value(fresh, answers, route="/v1/workflows/run/{run_id}", status="404") == 1
    assert value(fresh, "atelier_http_request_seconds_bucket", route="/v1/workflows/run", le="+Inf") == 4


def test_what_a_caller_writes_into_a_url_is_no_label(fresh: Atelier) -> None:
    for _ in range(40):
        fresh.http.get(f"/{ids.new_id()}")
        fresh.http.get(f"/v1/workflows/run/{ids.new_id()}")
        fresh.http.request("PROPFIND", f"/v1/workflows/logs/{ids.new_id()}?q={ids.new_id()}")
    text = fresh.http.get("/metrics").text
    series = {line.partition(" ")[0] for line in text.splitlines() if "http_request_seconds_count" in line}
    assert len(series) < 8
    assert value(fresh, "atelier_http_request_seconds_count", route="unmatched", method="GET") == 40
    assert value(fresh, "atelier_http_request_seconds_count", route="unmatched", method="other") == 40


def test_the_queue_is_seen_with_its_age_and_a_stop_empties_it(fresh: Atelier) -> None:
    tasks = [begin(fresh) for _ in range(2)]
    labels = {"work_class": "gpu", "checkpoint": "atelier-shapes"}
    fresh.until("the age shows", lambda: (value(fresh, "atelier_oldest_ready_step_seconds", **labels) or 0) > 1)
    assert value(fresh, "atelier_steps_ready", **labels) == 2
    assert value(fresh, "atelier_runs_running") == 2
    for task_id in tasks:
        fresh.http.post(f"/v1/workflows/tasks/{task_id}/stop", json={"user": "u"})
    fresh.until("no run is left", lambda: value(fresh, "atelier_runs_running") == 0)
    assert value(fresh, "atelier_steps_ready") is None
    assert value(fresh, "atelier_runs_ended_last_hour", status="stopped") == 2


def test_both_formats_are_valid_and_every_metric_says_what_it_is(web: Atelier) -> None:
    families = list(parser.text_string_to_metric_families(web.http.get("/metrics").text))
    asked = {"accept": "application/openmetrics-text; version=1.0.0"}
    strict = web.http.get("/metrics", headers=asked)
    assert strict.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in strict_parser.text_string_to_metric_families(strict.text)}
    assert names == {family.name for family in families}
    for family in families:
        assert family.name.startswith("atelier_")
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")


def test_a_picture_shows_in_attempts_and_in_the_events_lag(painter: Atelier) -> None:
    before = value(painter, "atelier_event_lag_seconds_count") or 0
    assert painter.run({"prompt": "a red ring", "steps": 2}, response_mode="streaming").status_code == 200
    assert (value(painter, "atelier_event_lag_seconds_count") or 0) > before
    # The worker lets go of its step a moment after the run has ended.
    painter.until("the attempt is counted", lambda: value(painter, "atelier_attempt_seconds_count", kind="tool"))
    assert (value(painter, "atelier_attempt_seconds_sum", kind="tool") or 0) > 0


def test_a_lost_worker_shows_as_a_step_given_back(tmp_path: Path) -> None:
    with running(tmp_path, worker_module=PAINTER) as server:
        server.until_ready()
        with painting(server):
            os.kill(server.worker_pid(PAINTER) or 0, signal.SIGKILL)
        given_back = lambda: value(server, "atelier_steps_given_back_total", reason="worker_lost") == 1  # noqa: E731
        server.until("the loss is counted", given_back)


def test_metrics_can_be_switched_off(tmp_path: Path) -> None:
    with running(tmp_path, worker="none", metrics="off") as server:
        assert server.http.get("/metrics").status_code == 404


def test_top_shows_what_runs_what_waits_and_what_has_ended(painter: Atelier) -> None:
    ended = painter.run({"prompt": "a red ring", "steps": 2}).json()["workflow_run_id"]
    with ExitStack() as at_the_end:
        run_id = at_the_end.enter_context(painting(painter, prompt="hold top"))
        waiting = begin(painter)
        shown = painter.cli("top", "--once")
        for task_id in (waiting, painter.detail(run_id)["id"]):
            painter.http.post(f"/v1/workflows/tasks/{task_id}/stop", json={"user": "u"})
    assert "runs running 2   steps waiting 1   running 1" in shown
    (waits,) = [line.split() for line in shown.splitlines() if line.startswith("gpu ")]
    assert waits[:3] == ["gpu", "atelier-shapes", "1"]
    held = next(line for line in shown.splitlines() if line.startswith(run_id))
    assert "tool" in held
    assert " s" in held
    assert any(line.startswith(ended) and "succeeded" in line for line in shown.splitlines())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            f"00-{IDS}",
            f"00-{IDS}",
        ),
        (
            f"cc-{IDS}-later",
            f"00-{IDS}",
        ),
        (f"00-{IDS}-more", None),
        (f"ff-{IDS}", None),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None),
        ("", None),
    ],
)
def test_only_a_valid_traceparent_is_kept(text: str, kept: str | None) -> None:
    assert read_traceparent(text) == kept
