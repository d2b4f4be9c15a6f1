"""`atelier cluster`: one address, what dies is started again, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cluster.supervise import Cluster, Plan, Watched
from tests.clusters import PATIENCE_S, RunningCluster, running_cluster, start_cluster, until
from tests.servers import ROOT
from tests.sites import Page, site
from tests.unit.drawing import draw, end, node, start


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster without workers: everything that needs no picture."""
    with running_cluster(tmp_path_factory.mktemp("cluster"), "--workers", "0", max_body_bytes="1000") as running:
        yield running


def alive(pids: list[int | None]) -> list[int]:
    return [pid for pid in pids if pid and Path(f"/proc/{pid}/cwd").exists()]


def test_one_address_and_one_key_open_the_first_app(cluster: RunningCluster) -> None:
    with cluster.http() as http:
        assert http.get("/v1/info").status_code == 200
    assert list(cluster.pids()) == ["postgres", "redis", "api-1", "api-2", "nginx"]
    assert oct((cluster.folder / "state.json").stat().st_mode)[-3:] == "600"
    assert len(list((cluster.folder / "logs").glob("api-*.log"))) == 2


def test_a_setting_reaches_the_api_processes(cluster: RunningCluster) -> None:
    with cluster.http() as http:
        answer = http.post("/v1/workflows/run", json={"inputs": {"prompt": "x" * 2000}, "user": "u"})
    assert answer.status_code == 413


@pytest.mark.parametrize("name", ["api-1", "redis", "nginx", "postgres"])
def test_what_is_killed_is_started_again(cluster: RunningCluster, name: str) -> None:
    killed = cluster.kill(name)
    assert cluster.until_replaced(name, killed) != killed
    with cluster.http() as http:
        until(f"requests are answered after {name}", lambda: http.get("/v1/parameters").status_code == 200)


def test_one_dead_api_process_is_noticed_by_nobody(cluster: RunningCluster) -> None:
    cluster.until_answers_itself("api-1")
    cluster.kill("api-2")
    with cluster.http() as http:
        assert [http.get("/v1/info").status_code for _ in range(20)] == [200] * 20
    until("it is back", lambda: cluster.pids()["api-2"])


def test_a_revoked_key_is_refused_by_every_process_at_once(cluster: RunningCluster) -> None:
    for name in ("api-1", "api-2"):
        cluster.until_answers_itself(name)
    ports = [process["port"] for process in cluster.state()["processes"] if process["name"].startswith("api-")]
    addresses = [cluster.url, *(f"http://127.0.0.1:{port}" for port in ports)]
    admin = bearer(command(cluster, "keys", "create", "--name", "admin", "--scope", "all"))
    with httpx.Client(timeout=60) as http:

        def statuses(key: dict[str, str], tries: int) -> set[int]:
            return {http.get(url + "/v1/info", headers=key).status_code for url in addresses for _ in range(tries)}

        made = [http.post(cluster.url + "/v1/keys", json={"name": "short"}, headers=admin).json() for _ in range(2)]
        by_command, by_http = (bearer(each["token"]) for each in made)
        assert (statuses(by_command, 2), statuses(by_http, 2)) == ({200}, {200})
        command(cluster, "keys", "revoke", made[0]["id"])
        assert (statuses(by_command, 50), statuses(by_http, 2)) == ({401}, {200})
        assert http.delete(f"{addresses[1]}/v1/keys/{made[1]['id']}", headers=admin).status_code == 200
        assert (statuses(by_http, 50), statuses(admin, 2)) == ({401}, {200})


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def command(cluster: RunningCluster, *words: str) -> str:
    """What the `atelier` command prints with the cluster's database."""
    env = os.environ | {name.upper(): cluster.state()[name] for name in ("database_url", "redis_url")}
    env["ATELIER_DATA_DIR"] = str(cluster.folder / "data")
    done = subprocess.run([sys.executable, "-m", "app", *words], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_second_cluster_in_the_folder_gets_one_sentence(cluster: RunningCluster) -> None:
    command = [sys.executable, "-m", "app", "cluster", "--folder", str(cluster.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"atelier: A cluster runs in {cluster.folder} already: stop it, or use --folder.\n"
    cluster.until_answers()


def test_a_stopped_cluster_leaves_no_process_and_keeps_its_key(tmp_path: Path) -> None:
    slow = {"worker_module": "tests.chaos.never_ready", "shutdown_grace_s": "600"}
    with running_cluster(tmp_path, "--workers", "1", "--api", "1", **slow) as first:
        state = first.state()
        until("its worker is starting", lambda: starting(state))
        assert first.stop() == 0
    assert "killed" not in (tmp_path / "supervisor.log").read_text()
    assert alive([process["pid"] for process in state["processes"]]) == []
    assert not (tmp_path / "state.json").exists()
    with running_cluster(tmp_path, "--workers", "0", "--api", "1") as again:
        assert again.state()["key"] == state["key"]
        with again.http() as http:
            assert http.get("/v1/info").status_code == 200


def starting(state: dict[str, Any]) -> bool:
    """Whether the worker has a child, which is not ready yet."""
    (parent,) = (process["pid"] for process in state["processes"] if process["name"] == "worker-1")
    return subprocess.run(["pgrep", "-P", str(parent)], capture_output=True).returncode == 0


def test_a_killed_supervisor_takes_everything_along(tmp_path: Path) -> None:
    cluster = start_cluster(tmp_path, "--workers", "0", "--api", "1")
    pids = list(cluster.pids().values())
    os.kill(cluster.supervisor.pid, signal.SIGKILL)
    cluster.supervisor.wait()
    until("all of them have ended", lambda: not alive(pids))
    (tmp_path / "state.json").unlink()
    with running_cluster(tmp_path, "--workers", "0", "--api", "1") as again:
        again.until_answers()


def test_what_a_killed_supervisor_left_ends_with_the_next_start(tmp_path: Path) -> None:
    marks = {"ATELIER_CLUSTER": str(tmp_path), "ATELIER_CLUSTER_PART": "worker-9"}
    forgotten = subprocess.Popen(["sleep", "300"], env=os.environ | marks)
    foreign = subprocess.Popen(["sleep", "300"], env=os.environ | marks | {"ATELIER_CLUSTER": "/elsewhere"})
    with running_cluster(tmp_path, "--workers", "0", "--api", "1"):
        assert forgotten.wait(PATIENCE_S) == -signal.SIGKILL
        assert foreign.poll() is None
    foreign.kill()
    foreign.wait()


def test_pauses_between_starts_grow_to_five_seconds(tmp_path: Path) -> None:
    watched = Watched(Cluster(Plan(tmp_path), print).redis)
    for pause_s in (0, 0.25, 0.5, 1, 2, 4, 5, 5):
        before_s = watched.started_s = time.monotonic()
        watched.died()
        assert before_s + pause_s <= (watched.due_s or 0) <= time.monotonic() + pause_s
    watched.started_s = time.monotonic() - 11
    watched.died()
    assert (watched.due_s or 0) <= time.monotonic()


def test_a_picture_is_made_although_its_worker_is_killed(tmp_path: Path) -> None:
    with running_cluster(tmp_path, "--workers", "1", "--api", "1") as cluster, cluster.http() as http:
        body = {"inputs": {"prompt": "a red ring", "steps": 5}, "response_mode": "blocking", "user": "u"}
        killed = cluster.kill("worker-1")
        answer = http.post("/v1/workflows/run", json=body)
        assert answer.json()["data"]["status"] == "succeeded"
        assert cluster.until_replaced("worker-1", killed)
        (file,) = answer.json()["data"]["outputs"]["files"]
        assert http.get(file["url"]).content.startswith(b"\x89PNG")


def test_other_steps_are_done_while_a_picture_is_painted(tmp_path: Path) -> None:
    settings = {"worker_module": "tests.chaos.painter", "cpu_lanes": "2"}
    with (
        site({"/": Page(b"hello")}) as pages,
        running_cluster(
            tmp_path, "--workers", "1", "--api", "1", outbound_allow=f"127.0.0.1:{pages.port}", **settings
        ) as cluster,
        cluster.http() as http,
    ):
        asks = node("ask", "http-request", method="get", url=pages.url())
        (tmp_path / "ask.yml").write_text(
            draw([start(), asks, end(body=["ask", "body"])], ["start > ask", "ask > end"])
        )
        command(cluster, "workflows", "publish", str(tmp_path / "ask.yml"), "--app", "ask")
        headers = bearer(command(cluster, "keys", "create", "--app", "ask"))
        held = {"inputs": {"prompt": "hold it", "steps": 1}, "response_mode": "streaming", "user": "u"}
        with http.stream("POST", "/v1/workflows/run", json=held) as stream:
            next(line for line in stream.iter_lines() if "node_progress" in line)
            run = http.post("/v1/workflows/run", json={"inputs": {}, "user": "u"}, headers=headers).json()["data"]
            assert run["outputs"] == {"body": "hello"}, run["error"]
            (cluster.folder / "data" / "release-it").touch()


def test_a_wrong_setting_ends_the_start_with_its_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "cluster", "--folder", str(tmp_path), "--setting", "ATELIER_LEASE_S=0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ATELIER_LEASE_S" in done.stderr
    assert "Traceback" not in done.stderr
    assert str(tmp_path) not in subprocess.check_output(["ps", "-eo", "args"], text=True)
