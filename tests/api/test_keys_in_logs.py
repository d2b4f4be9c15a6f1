"""No token in what a server or a command writes, whatever goes well or badly, and wherever the caller put it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.servers import ROOT, Atelier, running

NEVER_MADE = "app-" + "Zeppelin" * 3
RUN = "/v1/workflows/run"


def command(server: Atelier, *words: str) -> subprocess.CompletedProcess[str]:
    env = server.env | {"ATELIER_LOG_LEVEL": "debug"}
    line = [sys.executable, "-m", "app", *words]
    return subprocess.run(line, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)


def misuse(http: httpx.Client, token: str) -> list[int]:
    """Sends the token in every place where it does not belong; the answers' statuses."""
    bearer = {"authorization": f"Bearer {token}"}
    body = {"inputs": {"prompt": token}, "user": token, token: token}
    asked = [
        http.get("/v1/info", headers=bearer),
        http.get(f"/v1/info?key={token}&limit={token}", headers=bearer),
        http.get(f"/v1/workflows/logs?limit={token}", headers=bearer),
        http.get(f"/{token}"),
        http.get(f"/v1/workflows/run/{token}", headers=bearer),
        http.get(f"/files/tools/{token}.png?timestamp={token}&nonce={token}&sign={token}"),
        http.post(RUN, json=body | {"response_mode": token}, headers=bearer),
        http.post(RUN, json={"inputs": {"prompt": "x", "width": token}, "user": token}, headers=bearer),
        http.post(RUN, content=token, headers=bearer | {"content-type": "application/json"}),
        http.post(RUN, content=token, headers=bearer | {"content-type": token}),
        http.post("/v1/keys", json={"name": token, "scopes": [token]}, headers=bearer),
        http.delete(f"/v1/keys/{token}", headers=bearer),
        http.get("/v1/info", headers={"authorization": f"Basic {token}"}),
        http.get("/v1/info", headers={"authorization": token}),
        http.get("/v1/info", headers={"authorization": f"bearer  {token} {token}"}),
        http.get("/v1/info", headers=bearer | {"x-request-id": token, "traceparent": token, "user-agent": token}),
        http.request(token, "/v1/info", headers=bearer),
    ]
    return [answer.status_code for answer in asked]


def surprise(server: Atelier, token: str) -> None:
    """Makes an error that nobody foresaw, and that quotes the token."""
    started = {"inputs": {"prompt": "x"}, "user": "u", "response_mode": "streaming"}
    with server.http.stream("POST", RUN, json=started, headers=server.bearer(token)) as stream:
        run_id = stream.headers["x-workflow-run-id"]
    with sqlite3.connect(server.data_dir / "atelier.db", timeout=10) as db:
        db.execute("UPDATE runs SET status = ?", (token,))
    assert server.http.get(f"{RUN}/{run_id}", headers=server.bearer(token)).status_code == 500


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_of_a_server_holds_a_token(tmp_path: Path, form: str) -> None:
    log = tmp_path / "log"
    with running(tmp_path, log, worker="none", log_format=form, log_level="debug") as server:
        assert misuse(server.http, server.key)[:3] == [200, 200, 400]
        assert misuse(server.http, NEVER_MADE)[:3] == [401, 401, 401]
        surprise(server, server.key)
    assert server.process.stdout is not None
    told = log.read_text() + server.process.stdout.read()
    assert "ValueError" in told, "the error that nobody foresaw is not told at all"
    assert not any(token[8:] in told for token in (server.key, NEVER_MADE))


def test_a_command_shows_a_token_once(web: Atelier) -> None:
    made = command(web, "keys", "create", "--name", "shown once")
    listed = command(web, "keys", "list")
    key_id = next(line.split()[0] for line in listed.stdout.splitlines() if "shown once" in line)
    rotated = command(web, "keys", "rotate", key_id)
    mistaken = command(web, "keys", "revoke", made.stdout.strip())
    assert (made.stderr, rotated.stderr) == ("", "")
    assert len(made.stdout) == len(rotated.stdout) == 29
    told = "".join(each.stdout + each.stderr for each in (listed, mistaken))
    assert not any(each.stdout.strip()[8:] in told for each in (made, rotated))
