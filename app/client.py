"""A client of the HTTP API, as anybody could write it: a streamed run, a progress bar, the picture on disk."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.errors import AtelierError, InvalidParam, NodeFailed, Unavailable

FIRST_PROMPT = "a big red heart on a white background"
KEY_FILE = "key"
LENT_KEY_FILE = "lent-key"
"""That of programs on this machine that bring none (ATELIER_OPEN_TO_LOOPBACK)."""
USER = "atelier"
"""Who runs of these commands are for."""

_READY_S = 120.0


class Asked(msgspec.Struct, frozen=True):
    """A picture that is to be made again, for a user. `given` are what it was made from, where the server lacks it."""

    picture: Path
    user: str = USER
    model_name: str = ""
    given: tuple[Path, ...] = ()


def kept_key(data_dir: Path) -> str:
    """The quickstart's key. Raises InvalidParam when there is none yet."""
    try:
        return (data_dir / KEY_FILE).read_text().strip()
    except OSError:
        raise InvalidParam("There is no key yet: give --key, or start the server once.") from None


def wait_until_ready(url: str, has_failed: Callable[[], bool]) -> None:
    """Waits for the server's worker and a checkpoint. Raises Unavailable with what is missing."""
    until = time.monotonic() + _READY_S
    problems = ["the server did not start"]
    with httpx.Client(base_url=url, timeout=5, trust_env=False) as http:
        while time.monotonic() < until and not has_failed():
            try:
                answer = http.get("/readyz")
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code == 200:
                return
            problems = answer.json()["problems"]
            time.sleep(0.1)
    raise Unavailable(f"Not ready: {'; '.join(problems)}.")


def paint(url: str, key: str, inputs: dict[str, Any], folder: Path) -> list[Path]:
    """Runs the key's workflow and saves its pictures; returns their paths, one at least. Raises AtelierError."""
    with _server(url, key) as http:
        body = {"inputs": inputs, "response_mode": "streaming", "user": USER}
        finished = _follow(http, "/v1/workflows/run", json=body)
        return [_save(http, file, folder / str(file["filename"])) for file in finished["files"]]


def paint_again(url: str, key: str, asked: Asked, out: Path | None) -> tuple[Path, dict[str, Any]]:
    """Has the picture of a file made again and saved, as `out` or beside the pictures of other runs; returns its path
    and the run's outputs. Raises AtelierError.
    """
    with _server(url, key) as http:
        for each in asked.given:
            _upload(http, each, asked.user)
        form = {"user": asked.user, "response_mode": "streaming", "model_name": asked.model_name}
        finished = _follow(http, "/v1/runs/from-image", data=form, files={"file": _part(asked.picture)})
        (file,) = finished["files"]
        path = out or Path("out") / f"{asked.picture.stem}-again{file['extension']}"
        return _save(http, file, path), finished["outputs"]


def curl(url: str, key: str, prompt: str) -> str:
    """The same request as a line for the shell."""
    body = {"inputs": {"prompt": prompt}, "response_mode": "blocking", "user": "me"}
    return (
        f"curl -X POST {url}/v1/workflows/run -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
    )


@contextmanager
def _server(url: str, key: str) -> Iterator[httpx.Client]:
    """Raises Unavailable for a server that can't be reached."""
    bounds, headers = httpx.Timeout(30, read=60), {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, timeout=bounds, headers=headers, trust_env=False) as http:
        try:
            yield http
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unavailable(f"{url} can't be reached: {str(error).rstrip('.')}.") from None


def _check(answer: httpx.Response, where: str = "") -> None:
    """Raises InvalidParam with what the server says, which may be another than Atelier's own port."""
    if answer.is_success:
        return
    answer.read()
    try:
        said = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        said = f"{answer.url} answered {answer.status_code}, and not as Atelier does. Is the address right?"
    raise InvalidParam(where + said)


def _follow(http: httpx.Client, path: str, **sent: Any) -> dict[str, Any]:
    """The fields of `workflow_finished` of a run that has made pictures. Raises NodeFailed for any other."""
    finished = _streamed(http, path, sent)
    if finished["status"] != "succeeded":
        raise NodeFailed(f"The run {finished['status']}: {finished['error']}")
    if not finished["files"]:
        raise NodeFailed(f"The run made no picture, but: {json.dumps(finished['outputs'])[:500]}")
    return finished


def _streamed(http: httpx.Client, path: str, sent: Mapping[str, Any]) -> dict[str, Any]:
    columns = TextColumn("painting"), BarColumn(), TaskProgressColumn(), TextColumn("step {task.completed}")
    with (
        http.stream("POST", path, **sent) as answer,
        Progress(*columns, TimeRemainingColumn()) as progress,
    ):
        _check(answer)
        bar = progress.add_task("", total=None)
        for event in _events(answer.iter_lines()):
            match event["event"]:
                case "node_progress":
                    progress.update(bar, completed=event["data"]["step"], total=event["data"]["steps"])
                case "node_finished" if event["data"]["node_type"] == "tool":
                    total = progress.tasks[0].total or 1
                    progress.update(bar, completed=total, total=total)
                case "workflow_finished":
                    finished: dict[str, Any] = event["data"]
                    return finished
                case "error":
                    raise AtelierError(event["message"])
    raise Unavailable("The stream ended before the run did; the run goes on and can be read by its id.")


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def _upload(http: httpx.Client, path: Path, user: str) -> None:
    answer = http.post("/v1/files/upload", data={"user": user}, files={"file": _part(path)})
    _check(answer, f"{path.name}: ")


def _part(path: Path) -> tuple[str, bytes, str]:
    """A file as the part of a form; what it is its bytes say. Raises InvalidParam."""
    try:
        return path.name, path.read_bytes(), "application/octet-stream"
    except OSError as error:
        raise InvalidParam(f"{path} can't be read: {error.strerror}.") from None


def _save(http: httpx.Client, file: dict[str, Any], path: Path) -> Path:
    answer = http.get(file["url"])
    _check(answer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer.content)
    except OSError as error:
        raise Unavailable(f"{path} can't be written: {error.strerror}.") from None
    return path
