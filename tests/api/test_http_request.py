"""http-request nodes through the door: a real server, its worker, and a real site that they ask."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Atelier, running
from tests.sites import Page, Site, redirect, site
from tests.unit.drawing import draw, end, field, node, start

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 100
# Everything that a request has is an input, so one document serves all tests.
FIELDS = ("url", "secret", "name", "body")
REQUEST: dict[str, Any] = {
    "method": "post",
    "url": "{{#start.url#}}",
    "authorization": {
        "type": "api-key",
        "config": {"type": "custom", "api_key": "{{#start.secret#}}", "header": "X-Key"},
    },
    "headers": "X-Name:{{#start.name#}}\nX-Empty:",
    "params": "a:1\na:{{#start.name#}}",
    "body": {"type": "json", "data": [{"id": "1", "key": "", "type": "text", "value": "{{#start.body#}}"}]},
    "timeout": {"connect": None, "read": 0, "write": "5", "max_connect_timeout": 0},
}


def document(**changes: Any) -> str:
    outputs = {name: ["ask", name] for name in ("status_code", "body", "headers", "files")}
    nodes = [
        start(*(field(name, "paragraph") for name in FIELDS)),
        node("ask", "http-request", **{**REQUEST, **changes}),
    ]
    return draw([*nodes, end(**outputs)], ["start > ask", "ask > end"])


@pytest.fixture(scope="module")
def shop() -> Iterator[Site]:
    pages = {
        "/json": Page(
            b'{"so": "it is"}', headers={"Content-Type": "application/json", "X-Mood": "good", "__artifact__": "x"}
        ),
        "/chinese": Page(
            "你好，世界，这是一个用国标码写的网页。".encode("gb18030"), headers={"Content-Type": "text/html"}
        ),
        "/packed": Page(gzip.compress(b"hello"), headers={"Content-Encoding": "gzip"}),
        "/picture": Page(PNG, headers={"Content-Type": "image/png"}),
        "/report": Page(b"a,b", headers={"Content-Disposition": 'attachment; filename="../../Q3 report.csv"'}),
        "/broken": Page(b"Out of order.", 500),
        "/moved": redirect("/json", 301),
        "/kept": redirect("/json", 307),
        "/long": Page(b"x" * (1024 * 1024 + 200 * 1024)),
        "/bomb": Page(gzip.compress(bytes(300 * 1024 * 1024)), headers={"Content-Encoding": "gzip"}),
        "/huge": Page(PNG + bytes(11 * 1024 * 1024), headers={"Content-Type": "image/png"}),
        "/slow": Page(b"at last", after=threading.Event()),
    }
    with site(pages) as server:
        yield server


@pytest.fixture(scope="module")
def asking(shop: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    folder = tmp_path_factory.mktemp("asking")
    settings = {"worker_module": "tests.chaos.painter", "outbound_allow": f"127.0.0.1:{shop.port}"}
    with running(folder, folder / "log", **settings) as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="module")
def key(asking: Atelier) -> str:
    return publish(asking, "ask")


def publish(server: Atelier, name: str, **changes: Any) -> str:
    path = server.data_dir / f"{name}.yml"
    path.write_text(document(**changes))
    return server.app_key(path)


def ask(server: Atelier, key: str, url: str, **inputs: str) -> dict[str, Any]:
    given = {"secret": "sk-secret", "name": "Ada", "body": '{"q": 1}', "url": url, **inputs}
    answer = server.run(given, key)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


def finished(told: str, node_id: str) -> dict[str, Any]:
    """The node's end, as a stream tells it."""
    events = (json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: {"))
    ends = (event["data"] for event in events if event["event"] == "node_finished")
    return next(dict(each) for each in ends if each["node_id"] == node_id)


def test_the_answer_is_the_nodes_outputs(asking: Atelier, key: str, shop: Site) -> None:
    run = ask(asking, key, shop.url("/json?z=9&a=0"))
    assert run["status"] == "succeeded", run["error"]
    assert run["outputs"]["status_code"] == 200
    assert run["outputs"]["body"] == '{"so": "it is"}'
    assert run["outputs"]["headers"]["x-mood"] == "good"
    assert "__artifact__" not in run["outputs"]["headers"], "a site makes no file of its headers"
    assert run["outputs"]["files"] == []
    visit = shop.visits[-1]
    assert (visit.method, visit.path, visit.body) == ("POST", "/json?z=9&a=1&a=Ada", b'{"q":1}')
    assert visit.headers["x-key"] == "sk-secret"
    assert (visit.headers["x-name"], visit.headers["x-empty"]) == ("Ada", "")
    assert visit.headers["content-type"] == "application/json"


def test_a_value_adds_no_header(asking: Atelier, key: str, shop: Site) -> None:
    ask(asking, key, shop.url("/json"), name="Ada\r\nX-Admin: yes\nHost: other")
    assert shop.visits[-1].headers["x-name"] == "Ada X-Admin: yes Host: other"
    assert "x-admin" not in shop.visits[-1].headers


def test_json_as_people_write_it_is_mended(asking: Atelier, key: str, shop: Site) -> None:
    ask(asking, key, shop.url("/json"), body="{'q': 'two\nlines',}")
    assert json.loads(shop.visits[-1].body) == {"q": "two\nlines"}
    run = ask(asking, key, shop.url("/json"), body="no json at all")
    assert (run["status"], run["error"]) == ("failed", "Failed to parse JSON: no json at all")


def test_redirects_are_followed(asking: Atelier, key: str, shop: Site) -> None:
    assert ask(asking, key, shop.url("/moved"))["outputs"]["body"] == '{"so": "it is"}'
    assert (shop.visits[-1].method, shop.visits[-1].headers["x-key"]) == ("GET", "sk-secret")
    ask(asking, key, shop.url("/kept"))
    assert (shop.visits[-1].method, shop.visits[-1].body) == ("POST", b'{"q":1}')


def test_text_is_read_in_its_own_charset(asking: Atelier, key: str, shop: Site) -> None:
    assert ask(asking, key, shop.url("/chinese"))["outputs"]["body"] == "你好，世界，这是一个用国标码写的网页。"
    assert ask(asking, key, shop.url("/packed"))["outputs"]["body"] == "hello"


def test_a_picture_becomes_a_file_of_the_run(asking: Atelier, key: str, shop: Site) -> None:
    outputs = ask(asking, key, shop.url("/picture"))["outputs"]
    (file,) = outputs["files"]
    assert (outputs["body"], file["mime_type"], file["extension"], file["size"]) == ("", "image/png", ".png", len(PNG))
    assert asking.http.get(file["url"]).content == PNG


def test_a_download_keeps_its_name_and_nothing_else_of_its_path(asking: Atelier, key: str, shop: Site) -> None:
    (file,) = ask(asking, key, shop.url("/report"))["outputs"]["files"]
    assert (file["filename"], file["extension"]) == ("Q3 report.csv", ".csv")
    assert asking.http.get(file["url"]).content == b"a,b"


def test_a_status_of_failure_is_an_output_unless_somebody_waits_for_it(asking: Atelier, key: str, shop: Site) -> None:
    run = ask(asking, key, shop.url("/broken"))
    assert (run["status"], run["outputs"]["status_code"]) == ("succeeded", 500)
    strict = publish(asking, "strict", retry_config={"retry_enabled": True, "max_retries": 0, "retry_interval": 1})
    run = ask(asking, strict, shop.url("/broken"))
    assert (run["status"], run["error"]) == ("failed", "Request failed with status code 500")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/long", "Text size is too large, max size is 1.00 MB, but current size is 1.20 MB."),
        ("/huge", "File size is too large, max size is 10.00 MB, but current size is 11.00 MB."),
        ("/bomb", "Text size is too large, max size is 1.00 MB, but current size is more than 10.00 MB."),
    ],
)
def test_what_is_too_large_is_refused(asking: Atelier, key: str, shop: Site, path: str, said: str) -> None:
    run = ask(asking, key, shop.url(path))
    assert (run["status"], run["error"]) == ("failed", said)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"url": ""}, "url is required"),
        ({"url": "example.com"}, "url should start with http:// or https://"),
        ({"secret": " "}, "API key is required for authorization but was empty. Please provide a valid API key."),
    ],
)
def test_a_request_that_can_not_be_written_fails_in_difys_words(
    asking: Atelier, key: str, shop: Site, inputs: dict[str, str], said: str
) -> None:
    visits = len(shop.visits)
    run = ask(asking, key, **{"url": shop.url("/json"), **inputs})
    assert (run["status"], run["error"]) == ("failed", said)
    assert len(shop.visits) == visits


def test_nothing_that_is_shown_or_logged_has_the_key(asking: Atelier, shop: Site) -> None:
    environment = [{"name": "KEY", "value": "sk-very-secret", "value_type": "secret"}]
    api_key = {"type": "api-key", "config": {"type": "bearer", "api_key": "{{#env.KEY#}}"}}
    ask_it = node("ask", "http-request", **{**REQUEST, "url": shop.url("/json"), "authorization": api_key})
    nodes, edges = [start(field("name"), field("body")), ask_it, end()], ["start > ask", "ask > end"]
    path = asking.data_dir / "hidden.yml"
    path.write_text(draw(nodes, edges, environment_variables=environment))
    key = asking.app_key(path)
    answer = asking.run({"name": "Ada", "body": "1"}, key, response_mode="streaming")
    assert shop.visits[-1].headers["authorization"] == "Bearer sk-very-secret"
    run_id = answer.headers["x-workflow-run-id"]
    shown = finished(answer.text, "ask")["process_data"]["request"]
    assert shown.startswith("POST /json?a=1&a=Ada HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "\r\nAuthorization: *********************\r\n" in shown
    detail = asking.http.get(f"/v1/workflows/run/{run_id}?include=steps", headers=asking.bearer(key)).text
    for text in (answer.text, detail, (asking.data_dir / "log").read_text()):
        assert "sk-very" not in text


def test_a_stop_ends_a_request_under_way(asking: Atelier, key: str, shop: Site) -> None:
    inputs = {"url": shop.url("/slow"), "secret": "k", "name": "n", "body": "1"}
    with asking.http.stream(
        "POST",
        "/v1/workflows/run",
        json={"inputs": inputs, "response_mode": "streaming", "user": "abc-123"},
        headers=asking.bearer(key),
    ) as stream:
        lines = stream.iter_lines()
        task_id = next(json.loads(line[6:])["task_id"] for line in lines if line.startswith("data: {"))
        asking.until("it is asked", lambda: any(visit.path.startswith("/slow") for visit in shop.visits))
        asking.http.post(f"/v1/workflows/tasks/{task_id}/stop", json={"user": "abc-123"}, headers=asking.bearer(key))
        last = [json.loads(line[6:]) for line in lines if line.startswith("data: {")][-1]
    assert last["data"]["status"] == "stopped"
    assert ask(asking, key, shop.url("/json"))["status"] == "succeeded", "the worker is free again"


def test_forms_are_sent_as_browsers_send_them(asking: Atelier, shop: Site) -> None:
    items = [{"key": "a b", "type": "text", "value": "{{#start.name#}}"}, {"key": "c", "type": "text", "value": "é"}]
    encoded = publish(asking, "encoded", body={"type": "x-www-form-urlencoded", "data": items})
    ask(asking, encoded, shop.url("/json"))
    assert shop.visits[-1].body == b"a+b=Ada&c=%C3%A9"
    several = publish(
        asking, "several", headers="Content-Type: multipart/form-data", body={"type": "form-data", "data": items}
    )
    ask(asking, several, shop.url("/json"))
    visit = shop.visits[-1]
    assert visit.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="a b"\r\n\r\nAda\r\n' in visit.body
    assert b"__multipart_placeholder__" in visit.body


def test_a_file_of_the_run_is_sent_on(asking: Atelier, shop: Site, tmp_path: Path) -> None:
    fetch = node("fetch", "http-request", method="get", url=shop.url("/picture"))
    form = [{"key": "image", "type": "file", "file": ["fetch", "files"]}, {"key": "t", "type": "text", "value": "x"}]
    send = node("send", "http-request", method="post", url=shop.url("/json"), body={"type": "form-data", "data": form})
    (tmp_path / "on.yml").write_text(
        draw([start(), fetch, send, end(code=["send", "status_code"])], ["start > fetch", "fetch > send", "send > end"])
    )
    run = asking.run({}, asking.app_key(tmp_path / "on.yml")).json()["data"]
    assert run["outputs"] == {"code": 200}, run["error"]
    assert b'name="image"; filename="' in shop.visits[-1].body
    assert PNG in shop.visits[-1].body


RETRIES = {"retry_enabled": True, "max_retries": 3, "retry_interval": 300}


def test_a_request_that_fails_is_sent_again_as_its_node_says(asking: Atelier, shop: Site) -> None:
    flaky = publish(asking, "flaky", retry_config=RETRIES)
    shop.pages["/flaky"] = Page(b"Not yet.", 503, after=threading.Event())
    with ThreadPoolExecutor(1) as aside:
        run = aside.submit(ask, asking, flaky, shop.url("/flaky"))
        asking.until("it is asked", lambda: [visit for visit in shop.visits if visit.path.startswith("/flaky")])
        held = shop.pages["/flaky"].after
        shop.pages["/flaky"] = Page(b"Here you are.")
        assert held is not None
        held.set()
        ended = run.result(60)
    assert (ended["status"], ended["outputs"]["body"]) == ("succeeded", "Here you are.")


def test_a_fail_branch_goes_on_with_the_reason(asking: Atelier, shop: Site) -> None:
    asks = node("ask", "http-request", method="get", url=shop.url("/broken"), error_strategy="fail-branch")
    nodes = [start(), asks, end("good"), end("bad", error=["ask", "error_message"], kind=["ask", "error_type"])]
    path = asking.data_dir / "branch.yml"
    path.write_text(draw(nodes, ["start > ask", "ask success-branch > good", "ask fail-branch > bad"]))
    run = asking.run({}, asking.app_key(path)).json()["data"]
    assert run["outputs"] == {"error": "Request failed with status code 500", "kind": "HTTPResponseCodeError"}
    assert run["status"] == "partial-succeeded"
