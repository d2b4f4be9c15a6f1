"""The dialects as tests ask for pictures in them, and what their runs were given."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from typing import Any

import httpx
from PIL import Image

from tests.servers import Atelier

Json = dict[str, Any]


def png(mode: str = "RGB", color: Any = "red", size: tuple[int, int] = (64, 64)) -> bytes:
    """A picture of one colour."""
    return written(Image.new(mode, size, color))


def half(mode: str = "L", left: Any = 255, right: Any = 0, size: tuple[int, int] = (64, 64)) -> bytes:
    """A picture of two halves."""
    picture = Image.new(mode, size, right)
    picture.paste(left, (0, 0, size[0] // 2, size[1]))
    return written(picture)


def written(picture: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def painting_step(server: Atelier, answer: httpx.Response) -> Json:
    """What the worker was asked for by the run of an answer: the inputs of its step, files by their SHA-256."""
    run = server.http.get(f"/v1/workflows/run/{answer.headers['x-workflow-run-id']}").json()
    user = json.loads(run["inputs"])["sys.user_id"]
    told = server.http.get(f"/v1/workflow/{run['id']}/events", params={"user": user, "after": 0}).text
    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: {")]
    (done,) = [e["data"] for e in events if e["event"] == "node_finished" and e["data"]["node_type"] == "tool"]
    return {name: _plain(server, value) for name, value in done["inputs"].items()}


def _plain(server: Atelier, value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(server, each) for each in value]
    if isinstance(value, dict) and "url" in value:
        return hashlib.sha256(server.http.get(value["url"]).content).hexdigest()
    return value


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
