"""The worker of the cpu class does several steps side by side; what befalls one of them befalls no other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Atelier, running
from tests.sites import Page, Site, site
from tests.unit.drawing import draw, end, field, node, start

PAINTER = "tests.chaos.painter"
Run = Future[dict[str, Any]]


class Office:
    """A server whose worker asks a site, and the site, which answers when a page's hour has come."""

    def __init__(self, server: Atelier, pages: Site) -> None:
        self.server = server
        self.site = pages
        self._threads = ThreadPoolExecutor(16)
        ask = node("ask", "http-request", method="get", url="{{#start.url#}}")
        document = server.data_dir / "ask.yml"
        document.write_text(draw([start(field("url")), ask, end(body=["ask", "body"])], ["start > ask", "ask > end"]))
        self.key = server.app_key(document)

    def ask(self, path: str) -> Run:
        """A run that asks for the page; its answer is its name."""
        self.site.pages.setdefault(path.partition("#")[0], Page(path.encode(), after=threading.Event()))
        body = {"url": self.site.url(path)}
        return self._threads.submit(lambda: self.server.run(body, self.key).json()["data"])

    def answer(self, *paths: str) -> None:
        for path in paths:
            after = self.site.pages[path].after
            assert after is not None
            after.set()

    def asked(self) -> list[str]:
        return [visit.path for visit in self.site.visits]

    def until_asked(self, *paths: str) -> None:
        self.server.until(f"{paths} are asked for", lambda: sorted(self.asked()) == sorted(paths))


Open = Callable[..., Any]


@pytest.fixture
def office(tmp_path: Path) -> Open:
    @contextmanager
    def opened(module: str = PAINTER, **settings: str) -> Iterator[Office]:
        with site() as pages:
            allowed = {"outbound_allow": f"127.0.0.1:{pages.port}"}
            with running(tmp_path, worker_module=module, **allowed, **settings) as server:
                server.until_ready()
                yield Office(server, pages)

    return opened


def outcome(run: Run) -> tuple[str, Any]:
    ended = run.result(60)
    return ended["status"], ended["outputs"].get("body") or ended["error"]


def test_steps_run_side_by_side_as_far_as_there_are_lanes(office: Open) -> None:
    with office(cpu_lanes="2") as open_office:
        runs = [open_office.ask(path) for path in ("/1", "/2")]
        open_office.until_asked("/1", "/2")
        third = open_office.ask("/3")
        open_office.answer("/2")
        open_office.until_asked("/1", "/2", "/3")
        open_office.answer("/1", "/3")
        assert [outcome(run) for run in (*runs, third)] == [("succeeded", f"/{n}") for n in (1, 2, 3)]


def test_pictures_and_requests_do_not_wait_for_each_other(office: Open) -> None:
    with office(cpu_lanes="1") as open_office:
        run = open_office.ask("/1")
        open_office.until_asked("/1")
        assert open_office.server.run({"prompt": "p", "steps": 1}).json()["data"]["status"] == "succeeded"
        open_office.answer("/1")
        assert outcome(run) == ("succeeded", "/1")


def test_the_cpu_worker_is_started_by_its_first_step(office: Open) -> None:
    with office() as open_office:
        server = open_office.server
        assert server.run({"prompt": "p", "steps": 1}).json()["data"]["status"] == "succeeded"
        assert server.worker_pid(PAINTER, "cpu") is None
        run = open_office.ask("/1")
        open_office.until_asked("/1")
        assert server.worker_pid(PAINTER, "cpu")
        open_office.answer("/1")
        assert outcome(run) == ("succeeded", "/1")


def test_a_stop_ends_one_step_and_spares_its_neighbour(office: Open) -> None:
    with office() as open_office:
        server, key = open_office.server, open_office.key
        stopped = open_office.ask("/1")
        open_office.until_asked("/1")
        spared = open_office.ask("/2")
        open_office.until_asked("/1", "/2")
        worker = server.worker_pid(PAINTER, "cpu")
        headers = server.bearer(key)
        entries = server.http.get("/v1/workflows/logs", headers=headers).json()["data"]
        task_id = entries[-1]["id"]  # the latest comes first
        server.http.post(f"/v1/workflows/tasks/{task_id}/stop", json={"user": "abc-123"}, headers=headers)
        assert stopped.result(60)["status"] == "stopped"
        open_office.answer("/2")
        assert outcome(spared) == ("succeeded", "/2")
        assert server.worker_pid(PAINTER, "cpu") == worker


def test_what_dies_with_a_worker_is_done_again_in_small_company(office: Open) -> None:
    """One of them may be what killed it: it is not to take the others with it again. Of three lanes that leaves one."""
    with office(cpu_lanes="3") as open_office:
        runs = [open_office.ask(path) for path in ("/1", "/2", "/3")]
        open_office.until_asked("/1", "/2", "/3")
        open_office.site.visits.clear()
        os.kill(open_office.server.worker_pid(PAINTER, "cpu") or 0, signal.SIGKILL)
        for count in (1, 2, 3):
            open_office.server.until("one more is asked for", lambda count=count: len(open_office.asked()) == count)
            last = open_office.asked()[-1]
            assert open_office.server.run({"prompt": "p", "steps": 1}).json()["data"]["status"] == "succeeded"
            assert len(open_office.asked()) == count, "a neighbour was started beside it"
            open_office.answer(last)
        assert sorted(map(outcome, runs)) == [("succeeded", f"/{n}") for n in (1, 2, 3)]


@pytest.mark.slow
def test_a_step_that_hangs_costs_its_neighbour_no_attempt(office: Open) -> None:
    settings = {"step_stall_s": "2", "max_attempts": "1"}
    with office("tests.workers.stubborn", **settings) as open_office:
        neighbour = open_office.ask("/1")
        open_office.until_asked("/1")
        hanging = open_office.ask("/2#hang")
        assert outcome(hanging) == ("failed", "The worker was lost. (1 attempts)")
        open_office.answer("/1")
        assert outcome(neighbour) == ("succeeded", "/1")


def test_waiting_for_an_answer_is_no_stall(office: Open) -> None:
    with office(step_stall_s="2", max_attempts="1") as open_office:
        run = open_office.ask("/1")
        open_office.until_asked("/1")
        ended = threading.Event()
        run.add_done_callback(lambda _: ended.set())
        assert not ended.wait(3)
        open_office.answer("/1")
        assert outcome(run) == ("succeeded", "/1")
