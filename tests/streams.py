"""Reading event streams as a client does that keeps to the specification: fields by lines, events by empty lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.servers import Atelier


@dataclass
class Frame:
    """One block of a stream: its fields, its event decoded."""

    id: str | None
    retry: str | None
    ping: bool
    event: dict[str, Any] | None

    @property
    def name(self) -> str | None:
        return self.event["event"] if self.event else None


def frames(lines: Iterable[str]) -> Iterator[Frame]:
    """The blocks of a stream as they come."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, text = line.partition(":")
            fields[name] = text.removeprefix(" ")
        elif fields:
            said = json.loads(fields["data"]) if "data" in fields else None
            yield Frame(fields.get("id"), fields.get("retry"), fields.get("event") == "ping", said)
            fields = {}


def facts(lines: Iterable[str]) -> Iterator[Frame]:
    """The numbered events alone."""
    return (frame for frame in frames(lines) if frame.id is not None)


@contextmanager
def follow(
    server: Atelier,
    run_id: str,
    *,
    key: str | None = None,
    last_id: str | None = None,
    user: str = "abc-123",
    **query: Any,
) -> Iterator[httpx.Response]:
    """The events route, for the length of a block; then the socket is closed, whatever was read."""
    headers = server.bearer(key or server.key) | ({"Last-Event-ID": last_id} if last_id is not None else {})
    with httpx.Client(base_url=server.url, timeout=60, headers=headers) as http:
        asked = http.stream("GET", f"/v1/workflow/{run_id}/events", params={"user": user, **query})
        with asked as response:
            yield response


def begin(server: Atelier, inputs: dict[str, Any], key: str | None = None) -> tuple[str, str]:
    """Begins a run and leaves; its id and its task's."""
    body = {"inputs": inputs, "response_mode": "streaming", "user": "abc-123"}
    headers = server.bearer(key or server.key)
    with server.http.stream("POST", "/v1/workflows/run", json=body, headers=headers) as stream:
        assert stream.status_code == 200, stream.read()
        return stream.headers["x-workflow-run-id"], stream.headers["x-task-id"]


def stop(server: Atelier, task_id: str, key: str | None = None) -> None:
    path, headers = f"/v1/workflows/tasks/{task_id}/stop", server.bearer(key or server.key)
    assert server.http.post(path, json={"user": "abc-123"}, headers=headers).status_code == 200


_SIGNED = re.compile(r"\?timestamp=[^\")]*")


def told(seen: Iterable[Frame]) -> list[tuple[str | None, str]]:
    """(number, event) of each frame, without what is signed anew each time."""
    return [(frame.id, _SIGNED.sub("", json.dumps(frame.event))) for frame in seen]
