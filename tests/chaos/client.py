"""A client as Atelier hopes for: an Idempotency-Key for each request, and it comes back until it has its answer."""

from __future__ import annotations

import json
import random
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

PATIENCE_S = 120.0


@dataclass
class Wish:
    """One run that the client wants, and everything that it was told of it."""

    mode: str
    inputs: dict[str, Any]
    key: str
    name: str = field(default_factory=lambda: str(uuid.uuid4()))
    run_ids: set[str] = field(default_factory=set)
    statuses: set[int] = field(default_factory=set)
    events: list[tuple[int, str]] = field(default_factory=list)
    end: dict[str, Any] | None = None
    stopped: bool = False
    breaks: int = 0


class Client:
    """Blocking, streaming and asynchronous; `chance` lets it hang up in the middle now and then."""

    def __init__(self, url: str, key: str, chance: random.Random) -> None:
        self._chance = chance
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=httpx.Timeout(20))
        self._key = key
        self._until_s = 0.0

    def close(self) -> None:
        self._http.close()

    def wish(self, inputs: dict[str, Any], mode: str, *, stop: bool = False) -> Wish:
        """Asks until the run has ended, as far as the client was told; stops it on the way if that is wanted."""
        wish = Wish(mode, inputs, self._key)
        self._until_s = time.monotonic() + PATIENCE_S
        while wish.end is None:
            assert time.monotonic() < self._until_s, f"no end within {PATIENCE_S:g} s: {wish}"
            try:
                if stop and wish.run_ids and not wish.stopped:
                    self._stop(wish)
                self._go_on(wish)
            except (httpx.TransportError, json.JSONDecodeError):
                wish.breaks += 1
                time.sleep(0.1)
        return wish

    def _go_on(self, wish: Wish) -> None:
        if wish.mode == "streaming" and wish.events:
            self._resume(wish)
        elif wish.mode == "async" and wish.run_ids:
            self._poll(wish)
        else:
            self._post(wish)

    def _post(self, wish: Wish) -> None:
        body = {"inputs": wish.inputs, "response_mode": wish.mode, "user": "chaos"}
        headers = {"Idempotency-Key": wish.name}
        path, timeout = "/v1/workflows/run", self._timeout()
        with self._http.stream("POST", path, json=body, headers=headers, timeout=timeout) as answer:
            self._note(wish, answer)
            if answer.status_code not in (200, 202):
                answer.read()
                self._wait(answer)
            elif wish.mode == "streaming":
                self._hear(wish, answer)
            else:
                told = json.loads(answer.read())
                if wish.mode == "blocking" and told["data"]["status"] != "running":
                    wish.end = told["data"]

    def _resume(self, wish: Wish) -> None:
        (run_id,) = wish.run_ids
        headers = {"Last-Event-ID": str(wish.events[-1][0])}
        path = f"/v1/workflow/{run_id}/events"
        asked = {"params": {"user": "chaos"}, "headers": headers, "timeout": self._timeout()}
        with self._http.stream("GET", path, **asked) as answer:
            self._note(wish, answer)
            if answer.status_code == 200:
                self._hear(wish, answer)
            else:
                answer.read()
                self._wait(answer)

    def _hear(self, wish: Wish, answer: httpx.Response) -> None:
        """Reads events until the end, or until it leaves for no reason."""
        leave_after = self._chance.choice([None, None, 1, 3])
        number = 0
        for line in answer.iter_lines():
            if line.startswith("id: "):
                number = int(line.removeprefix("id: "))
            elif line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if event["event"] in ("node_progress", "queue_position"):
                    continue
                assert event["event"] != "error", event
                wish.events.append((number, event["event"]))
                if event["event"] == "workflow_finished":
                    wish.end = event["data"]
                    return
                if leave_after is not None and len(wish.events) >= leave_after:
                    wish.breaks += 1
                    return

    def _poll(self, wish: Wish) -> None:
        (run_id,) = wish.run_ids
        answer = self._http.get(f"/v1/workflows/run/{run_id}", params={"wait": 5})
        self._note(wish, answer)
        if answer.status_code == 200 and answer.json()["status"] != "running":
            wish.end = answer.json()
        elif answer.status_code != 200:
            self._wait(answer)

    def _stop(self, wish: Wish) -> None:
        (run_id,) = wish.run_ids
        answer = self._http.post(f"/v1/workflows/tasks/{run_id}/stop", json={"user": "chaos"})
        wish.statuses.add(answer.status_code)
        if answer.status_code == 200:
            wish.stopped = answer.json()["status"] == "stopped"
            assert answer.json()["status"] != "running", "a stop is over when it is answered"

    def _timeout(self) -> httpx.Timeout:
        """Now and then it loses its patience, or its network."""
        return httpx.Timeout(self._chance.choice([20.0, 20.0, 20.0, 0.1]), connect=5.0)

    def _note(self, wish: Wish, answer: httpx.Response) -> None:
        wish.statuses.add(answer.status_code)
        if answer.status_code == 503:
            assert "retry-after" in answer.headers, answer.headers
        if run_id := answer.headers.get("x-workflow-run-id"):
            wish.run_ids.add(run_id)

    @staticmethod
    def _wait(answer: httpx.Response) -> None:
        with suppress(ValueError):
            time.sleep(min(1.0, float(answer.headers.get("retry-after", "0.1"))))
