"""The servers of the production form: each starts, answers, is killed, and starts again with what it must have kept."""

from __future__ import annotations

import http.server
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from app.cluster.daemon import free_port
from app.cluster.servers import Nginx, PostgreSQL, Redis


def test_postgres_keeps_what_it_committed_through_a_kill(tmp_path: Path) -> None:
    server = PostgreSQL(tmp_path / "pg")
    server.start()
    with psycopg.connect(server.url) as db:
        db.execute("CREATE TABLE kept AS SELECT 7 AS n")
        db.commit()
        backend = db.info.backend_pid
        assert backend in server.pids()
        server.kill()
    assert server.pids() == []
    assert server.pid is None
    server.start()
    with psycopg.connect(server.url) as db:
        assert db.execute("SELECT n FROM kept").fetchone() == (7,)
    assert server.stop() == 0
    assert server.pids() == []


def test_redis_starts_empty_after_a_kill(tmp_path: Path) -> None:
    server = Redis(tmp_path)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set("a", "b")
        server.kill()
        server.start()
        assert client.get("a") is None
    assert server.stop() == 0


def test_an_interrupt_at_any_moment_leaves_nothing_that_a_stop_would_wait_for(tmp_path: Path) -> None:
    server = Redis(tmp_path)
    server.start()
    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    try:
        for number in range(250):
            with suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_VIRTUAL, 0.001 + number % 7 * 0.0001)
                while server.exit_status() is None:
                    pass
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert server.stop() == 0


def test_nginx_passes_a_dead_process_over_and_comes_back_on_its_port(tmp_path: Path) -> None:
    with api() as living:
        server = Nginx(tmp_path, [free_port(), living.port])
        server.start()
        for _ in range(4):
            assert httpx.post(f"{server.url}/runs", content=b"x").status_code == 200
        assert len(living.posts) == 4
        server.kill()
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url)
        server.start()
        assert httpx.get(server.url).status_code == 200
        assert server.stop() == 0


def test_nginx_shows_nobody_the_metrics(tmp_path: Path) -> None:
    with api() as living:
        server = Nginx(tmp_path, [living.port])
        server.start()
        answer = httpx.get(f"{server.url}/metrics")
        of_ollama = httpx.get(f"http://127.0.0.1:{server.ports['Ollama']}/metrics")
        server.stop()
    assert answer.status_code == answer.json()["status"] == of_ollama.status_code == 404


def test_a_post_that_was_sent_is_not_sent_again(tmp_path: Path) -> None:
    with api(hangs_up=True) as first, api(hangs_up=True) as second:
        server = Nginx(tmp_path, [first.port, second.port])
        server.start()
        answer = httpx.post(f"{server.url}/runs", content=b"x")
        server.stop()
    assert answer.status_code == answer.json()["status"] == 503
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert len(first.posts) + len(second.posts) == 1


class Upstream(http.server.ThreadingHTTPServer):
    posts: list[bytes]
    hangs_up: bool

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Answer(http.server.BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.server.posts.append(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.server.hangs_up:
            self.do_GET()

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def api(hangs_up: bool = False) -> Iterator[Upstream]:
    """Stands for an API process behind nginx: keeps the bodies of POSTs, and answers them or hangs up."""
    server = Upstream(("127.0.0.1", 0), Answer)
    server.posts, server.hangs_up = [], hangs_up
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
