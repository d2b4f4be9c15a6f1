"""Files that a request names by their URL: fetched once, through the guard, held to a size and a time."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import media
from tests.api.test_uploads import PICTURE, publish
from tests.servers import Atelier, running
from tests.unit.drawing import field

Page = Callable[[http.server.BaseHTTPRequestHandler], None]


def page(content: bytes, status: int = 200, announces: bool = True, **headers: str) -> Page:
    def answer(door: http.server.BaseHTTPRequestHandler) -> None:
        door.send_response(status)
        for name, value in headers.items():
            door.send_header(name.replace("_", "-"), value)
        if announces:
            door.send_header("Content-Length", str(len(content)))
        door.end_headers()
        door.wfile.write(content)

    return answer


def endless(door: http.server.BaseHTTPRequestHandler) -> None:
    door.send_response(200)
    door.end_headers()
    while True:
        door.wfile.write(b"words   " * 8192)


def silent(door: http.server.BaseHTTPRequestHandler) -> None:
    door.send_response(200)
    door.send_header("Content-Length", "10")
    door.end_headers()
    door.wfile.write(b"x")
    door.wfile.flush()
    door.server.open.wait(30)  # type: ignore[attr-defined]


class Site(http.server.ThreadingHTTPServer):
    """A site whose pages are functions; it keeps the paths that it was asked for."""

    daemon_threads = True

    def __init__(self, pages: dict[str, Page]) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.pages, self.asked, self.open = pages, list[str](), threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no trouble of ours."""


class _Door(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.pages[self.path.partition("?")[0]](self)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    server = Site(
        {
            "/cat.png": page(PICTURE, Content_Type="text/plain"),
            "/named": page(PICTURE, Content_Disposition='attachment; filename="../dog.png"'),
            "/quoted": page(PICTURE, Content_Disposition="attachment; filename*=UTF-8''d%C3%B6g.png"),
            "/nameless/": page(media.picture("JPEG")),
            "/cat.html.png": page(media.HTML, Content_Type="image/png"),
            "/moved": page(b"", 302, Location="/cat.png"),
            "/inside": page(b"", 302, Location="http://10.0.0.1/cat.png"),
            "/around": page(b"", 302, Location="/around"),
            "/file": page(b"", 302, Location="file:///etc/passwd"),
            "/gone": page(b"", 404),
            "/huge": page(b"", announces=False, Content_Length="999999999"),
            "/endless": endless,
            "/silent": silent,
            "/bomb.png": page(media.png_bomb()),
        }
    )
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.open.set()
    server.shutdown()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server that may fetch from this machine, and nothing else that is private."""
    folder = tmp_path_factory.mktemp("remote")
    allowed = {"outbound_allow": "127.0.0.1"}
    limits = {"upload_file_mb": "1", "upload_video_mb": "4", "remote_file_timeout_s": "2"}
    with running(folder, worker="none", **allowed, **limits) as server:
        yield server


@pytest.fixture(scope="module")
def key(house: Atelier) -> str:
    return publish(
        house, "remote", field("picture", "file", allowed_file_types=["image"]), field("several", "file-list")
    )


def remote(url: str, kind: str = "image") -> dict[str, Any]:
    return {"type": kind, "transfer_method": "remote_url", "url": url}


def test_a_remote_file_is_fetched_once_and_its_run_reads_our_copy(house: Atelier, key: str, site: Site) -> None:
    url, before = site.url("/cat.png"), site.asked.count("/cat.png")
    inputs = {"picture": remote(url), "several": [remote(url), remote(url)]}
    given = house.run(inputs, key).json()["data"]["outputs"]["picture"]
    assert site.asked.count("/cat.png") == before + 2  # once for each variable that names it
    assert (given["transfer_method"], given["url"], given["remote_url"]) == ("remote_url", url, url)
    assert (given["filename"], given["mime_type"], given["size"]) == ("cat.png", "image/png", len(PICTURE))
    copy = house.http.get(f"/v1/files/{given['related_id']}/preview", headers=house.bearer(key))
    assert copy.content == PICTURE


@pytest.mark.parametrize(
    ("path", "filename"),
    [("/named", "dog.png"), ("/quoted", "dög.png"), ("/nameless/", "file.jpg"), ("/moved", "cat.png")],
)
def test_a_remote_file_has_the_name_that_its_server_gives(
    house: Atelier, key: str, site: Site, path: str, filename: str
) -> None:
    given = house.run({"picture": remote(site.url(path))}, key).json()["data"]["outputs"]["picture"]
    assert given["filename"] == filename


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/gone", 400, "it answered 404"),
        ("/inside", 400, "not public"),
        ("/around", 400, "it redirects more than"),
        ("/file", 400, "could not be fetched"),
        ("/silent", 400, "it took more than 2 s"),
        ("/huge", 413, "more than any file may have"),
        ("/endless", 413, "may have 1 MB"),
        ("/bomb.png", 413, "60000 by 60000"),
        ("/cat.html.png", 400, "Detected file type does not match"),
    ],
)
def test_what_can_not_be_had_is_refused_before_there_is_a_run(
    house: Atelier, key: str, site: Site, path: str, status: int, words: str
) -> None:
    answer = house.run({"picture": remote(site.url(path))}, key)
    assert answer.status_code == status
    assert words in answer.json()["message"]
    logs = house.http.get("/v1/workflows/logs?status=failed", headers=house.bearer(key)).json()
    assert logs["total"] == 0


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/a", "http://", "http://169.254.169.254/latest", "http://[::1]/a", "http://u:p@example.com/"],
)
def test_an_address_that_is_nobodys_business_is_refused_at_once(house: Atelier, key: str, url: str) -> None:
    answer = house.run({"picture": remote(url)}, key)
    assert (answer.status_code, answer.json()["code"], answer.json()["params"]) == (400, "invalid_param", "picture")


def test_a_replay_fetches_nothing(house: Atelier, key: str, site: Site) -> None:
    url = site.url("/cat.png?replayed")
    body = {"inputs": {"picture": remote(url)}, "user": "abc-123"}
    headers = {**house.bearer(key), "idempotency-key": "again"}
    first, second = (house.http.post("/v1/workflows/run", json=body, headers=headers).json() for _ in "ab")
    assert first["workflow_run_id"] == second["workflow_run_id"]
    assert site.asked.count("/cat.png?replayed") == 1
