"""Webhooks through the door: real receivers, real signatures, receivers that fail, hang, and want no more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.domain.key import KeyTerms
from app.domain.request import Scope
from app.installation import grant_key
from app.runs.keyring import mint
from app.runs.publishing import Edition, publish
from app.settings import load_settings
from app.store.store import Store
from tests.chaos.test_deaths import LONG
from tests.databases import PostgresDatabases
from tests.receivers import Post, Receiver, receiving
from tests.servers import ROOT, Atelier, running

ECHO = ROOT / "workflows" / "echo.yml"
QUICK = {
    "worker": "none",
    "webhook_allow_private": "true",
    "webhook_retry_s": "0.05,0.05,0.05,0.05,0.05,0.05",
    "reaper_beat_s": "0.2",
}


PAINTS = {"worker": "embedded", "worker_module": "tests.chaos.painter"}


class Hooked:
    """An app of a server, with a key for its runs and its webhooks."""

    def __init__(self, server: Atelier, app: str, document: Path = ECHO) -> None:
        self.server, self.app = server, app
        new = mint()
        store = Store(load_settings(data_dir=server.data_dir, database_url=server.env.get("DATABASE_URL", "")))
        store.commit_blocking(lambda tx: publish(tx, app, Edition.of(document.read_text())))
        store.commit_blocking(lambda tx: grant_key(tx, app, new, KeyTerms("", frozenset(Scope))))
        store.close()
        self.key = new.token

    def ask(self, method: str, path: str, body: Any = None, *, status: int = 200, **query: Any) -> dict[str, Any]:
        answer = self.server.http.request(
            method, f"/v1/webhooks{path}", json=body, params=query, headers=self.server.bearer(self.key)
        )
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def hook(self, url: str, *events: str) -> dict[str, Any]:
        body = {"url": url, "events": events} if events else {"url": url}
        return self.ask("POST", "", body, status=201)

    def run(self, **more: Any) -> str:
        answer = self.server.run({"text": "hello"}, self.key, **more)
        assert answer.status_code in (200, 202), answer.text
        return str(answer.json()["workflow_run_id"])

    def deliveries(self, **query: Any) -> list[dict[str, Any]]:
        return list(self.ask("GET", "/deliveries", **query)["data"])

    def until(self, state: str, count: int = 1, **query: Any) -> list[dict[str, Any]]:
        """The deliveries, once so many of them are in the state."""
        found = lambda: len(self.deliveries(state=state, limit=100, **query)) >= count  # noqa: E731
        self.server.until(f"{count} deliveries are {state}", found)
        return self.deliveries(state=state, limit=100, **query)

    def verify(self, post: Post) -> dict[str, Any]:
        """The body, if the signature is right and recent."""
        return dict(Webhook(self.ask("GET", "/secret")["secret"]).verify(post.body, post.headers))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    with running(tmp_path_factory.mktemp("hooks"), **QUICK | PAINTS) as server:
        yield server


@pytest.fixture
def app(server: Atelier, request: pytest.FixtureRequest) -> Hooked:
    return Hooked(server, request.node.name)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def test_the_end_of_a_run_is_told_signed_and_with_the_run_object(app: Hooked, receiver: Receiver) -> None:
    hook = app.hook(receiver.url())
    run_id = app.run()
    (delivery,) = app.until("delivered")
    (post,) = receiver.posts
    told = app.verify(post)
    detail = app.server.http.get(f"/v1/workflows/run/{run_id}", headers=app.server.bearer(app.key)).json()
    assert told["type"] == "run.finished"
    assert told["timestamp"].startswith("20")
    assert told["data"].items() >= detail.items()
    assert told["data"]["task_id"]
    assert post.headers["content-type"] == "application/json"
    assert (delivery["id"], delivery["run_id"], delivery["webhook_id"]) == (post.id, run_id, hook["id"])
    assert (delivery["attempts"], delivery["last_status"], delivery["next_at"]) == (1, 200, None)


def test_a_receiver_that_fails_five_times_accepts_once(app: Hooked) -> None:
    with receiving(500, 502, 302, 404, 503, 204) as receiver:
        app.hook(receiver.url())
        app.run()
        (delivery,) = app.until("delivered")
        assert len(receiver.accepted) == 1
        assert len(receiver.posts) == delivery["attempts"] == 6
        assert {post.id for post in receiver.posts} == {delivery["id"]}
        assert len({post.body for post in receiver.posts}) == 1
        app.verify(receiver.posts[-1])


def test_a_receiver_that_always_fails_is_given_up_and_sent_again_when_asked(app: Hooked) -> None:
    with receiving(500) as receiver:
        app.hook(receiver.url())
        app.run()
        (failed,) = app.until("failed")
        assert (failed["attempts"], failed["last_status"]) == (7, 500)
        assert failed["last_error"] == "The receiver answered 500."
        receiver.script.statuses = [200]
        assert app.ask("POST", f"/deliveries/{failed['id']}/redeliver")["id"] == failed["id"]
        (delivered,) = app.until("delivered")
        assert delivered["attempts"] == 8
        assert receiver.accepted[0].id == failed["id"]


def test_an_altered_an_old_and_a_foreign_delivery_are_refused_by_the_library(app: Hooked, receiver: Receiver) -> None:
    app.hook(receiver.url())
    app.run()
    app.until("delivered")
    (post,) = receiver.posts
    secret = app.ask("GET", "/secret")["secret"]
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(post.body.replace(b"succeeded", b"failed"), post.headers)
    old = {**post.headers, "webhook-timestamp": str(int(time.time()) - 301)}
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(post.body, old)
    other = Hooked(app.server, f"{app.app}-other").ask("GET", "/secret")["secret"]
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(post.body, post.headers)


def test_while_a_secret_is_rotated_both_verify(app: Hooked, receiver: Receiver) -> None:
    old = app.ask("GET", "/secret")
    new = app.ask("POST", "/secret/rotate")
    assert (old["old_secret_until"], new["secret"] == old["secret"]) == (None, False)
    assert new["old_secret_until"] > time.time() + 86000
    app.hook(receiver.url())
    app.run()
    app.until("delivered")
    for secret in (old["secret"], new["secret"]):
        Webhook(secret).verify(receiver.posts[0].body, receiver.posts[0].headers)


def test_each_webhook_hears_what_it_asked_for(app: Hooked, receiver: Receiver) -> None:
    app.hook(receiver.url("/all"), "run.started", "run.finished", "run.succeeded", "run.failed", "run.stopped")
    app.hook(receiver.url("/good"), "run.succeeded")
    app.hook(receiver.url("/bad"), "run.failed", "run.stopped")
    app.run()
    app.until("delivered", 4)
    told = sorted((post.path, post.json["type"]) for post in receiver.posts)
    assert told == [
        ("/all", "run.finished"),
        ("/all", "run.started"),
        ("/all", "run.succeeded"),
        ("/good", "run.succeeded"),
    ]


def test_a_request_brings_a_webhook_for_its_own_run(app: Hooked, receiver: Receiver) -> None:
    run_id = app.run(webhook_url=receiver.url("/mine"), webhook_events=["run.started", "run.succeeded"])
    app.run()
    assert {each["webhook_id"] for each in app.until("delivered", 2)} == {None}
    assert sorted(post.json["type"] for post in receiver.posts) == ["run.started", "run.succeeded"]
    assert {app.verify(post)["data"]["id"] for post in receiver.posts} == {run_id}


def test_the_end_of_a_picture_is_told_with_its_urls(server: Atelier, receiver: Receiver) -> None:
    app = Hooked(server, "picture", ROOT / "workflows" / "text-to-image.yml")
    app.hook(receiver.url())
    asked = {"inputs": {"prompt": "a ring", "steps": 2}, "user": "u", "response_mode": "async"}
    assert server.http.post("/v1/workflows/run", json=asked, headers=server.bearer(app.key)).status_code == 202
    app.until("delivered")
    told = app.verify(receiver.posts[0])["data"]
    (file,), (artifact,) = told["outputs"]["files"], told["artifacts"]
    for url in (file["url"], artifact["url"]):
        assert server.http.get(url).headers["content-type"] == "image/png"
    assert (told["task_id"], told["error_code"], len(told["steps"])) == (told["task"]["id"], None, 3)


def test_a_webhook_made_while_a_run_is_under_way_hears_of_its_end(server: Atelier, receiver: Receiver) -> None:
    app = Hooked(server, "painting", ROOT / "workflows" / "text-to-image.yml")
    body = {"inputs": LONG, "user": "u", "response_mode": "async", "webhook_url": receiver.url("/own")}
    asked = server.http.post("/v1/workflows/run", json=body, headers=server.bearer(app.key)).json()
    app.hook(receiver.url("/app"), "run.started", "run.stopped")
    stop = f"/v1/workflows/tasks/{asked['task_id']}/stop"
    assert server.http.post(stop, json={"user": "u"}, headers=server.bearer(app.key)).status_code == 200
    app.until("delivered", 2)
    told = sorted((post.path, post.json["type"], post.json["data"]["status"]) for post in receiver.posts)
    assert told == [("/app", "run.stopped", "stopped"), ("/own", "run.finished", "stopped")]


def test_a_receiver_that_is_gone_disables_its_webhook(app: Hooked) -> None:
    with receiving(410) as receiver:
        hook = app.hook(receiver.url())
        app.run()
        (failed,) = app.until("failed")
        app.run()
        app.run(webhook_url=receiver.url())
        app.until("failed", 2)
        (shown,) = app.ask("GET", "")["data"]
        assert (failed["attempts"], failed["last_status"]) == (1, 410)
        assert shown["id"] == hook["id"]
        assert shown["disabled_at"] is not None
        assert len(receiver.posts) == 2
        app.ask("POST", f"/deliveries/{failed['id']}/redeliver", status=400)


def test_a_deleted_webhook_hears_no_more(app: Hooked) -> None:
    with receiving(hangs=True) as receiver:
        hook = app.hook(receiver.url())
        app.run()
        app.server.until("it is being sent", lambda: receiver.posts)
        assert app.ask("DELETE", f"/{hook['id']}") == {"result": "success"}
        app.run()
        (failed,) = app.until("failed")
        assert failed["last_error"] == "The webhook was deleted."
        assert app.ask("GET", "")["data"] == []
        app.ask("DELETE", f"/{hook['id']}", status=404)
        assert len(app.deliveries()) == 1


def test_a_receiver_that_hangs_holds_up_nobody_else(app: Hooked, receiver: Receiver) -> None:
    with receiving(hangs=True) as silent:
        app.hook(silent.url(host="localhost"))
        for _ in range(12):
            app.run()
        app.server.until("it has all that it gets at once", lambda: len(silent.posts) == 4)
        app.hook(receiver.url())
        run_id = app.run()
        (delivered,) = app.until("delivered")
        assert delivered["run_id"] == run_id
        assert len(silent.posts) == 4
        silent.script.open.set()
        app.until("delivered", 14)


def test_a_receiver_may_ask_for_more_time(app: Hooked) -> None:
    with receiving(429, 200, headers={"Retry-After": "100000"}) as receiver:
        app.hook(receiver.url())
        app.run()
        app.server.until("it was put off", lambda: app.deliveries()[0]["last_status"] == 429)
        (waiting,) = app.deliveries()
        assert 3500 < waiting["next_at"] - waiting["last_at"] <= 3601
        app.ask("POST", f"/deliveries/{waiting['id']}/redeliver")
        app.until("delivered")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "http://user:word@example.com/"}, "url"),
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": 7}, "url"),
        ({}, "url"),
        ({"url": "https://example.com/", "events": ["run.exploded"]}, "events[0]"),
        ({"url": "https://example.com/", "events": []}, "events"),
    ],
)
def test_a_webhook_that_can_not_be_is_refused_with_the_field(app: Hooked, body: dict[str, Any], field: str) -> None:
    assert app.ask("POST", "", body, status=400)["params"] == field


def test_an_app_sees_only_its_own(app: Hooked, receiver: Receiver) -> None:
    other = Hooked(app.server, f"{app.app}-other")
    hook = app.hook(receiver.url())
    app.run()
    (delivery,) = app.until("delivered")
    assert other.deliveries() == other.deliveries(run_id=delivery["run_id"]) == other.ask("GET", "")["data"] == []
    other.ask("POST", f"/deliveries/{delivery['id']}/redeliver", status=404)
    other.ask("DELETE", f"/{hook['id']}", status=404)
    assert other.deliveries(cursor=delivery["id"]) == []
    app.ask("POST", "/deliveries/%00/redeliver", status=404)
    for path in ("", "/secret", "/deliveries"):
        answer = app.server.http.get(f"/v1/webhooks{path}", headers=app.server.bearer(app.server.key))
        assert (answer.status_code, "admin" in answer.text) == (403, True)


def test_the_log_is_read_page_by_page(app: Hooked, receiver: Receiver) -> None:
    app.hook(receiver.url(), "run.started", "run.finished")
    run_ids = [app.run() for _ in range(3)]
    app.until("delivered", 6)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = app.ask("GET", "/deliveries", limit=4, **cursor)
        seen += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(set(seen)) == len(seen) == 6
    assert {each["event"] for each in app.deliveries(run_id=run_ids[0])} == {"run.started", "run.finished"}
    assert app.deliveries(run_id=run_ids[0], state="failed") == []


def test_the_command_line_does_the_same(app: Hooked, receiver: Receiver) -> None:
    cli = lambda *words: app.server.cli("webhooks", *words, "--app", app.app)  # noqa: E731
    hook_id = cli("create", receiver.url(), "--event", "run.succeeded")
    app.server.until("the server knows of it", lambda: app.run() and app.deliveries())
    (delivery, *_) = app.until("delivered")
    posts = len(receiver.posts)
    cli("redeliver", delivery["id"])
    app.server.until("it came again", lambda: len(receiver.posts) > posts)
    assert receiver.posts[-1].id == delivery["id"] in cli("deliveries", "--run", delivery["run_id"])
    assert cli("secret", "--rotate") == app.ask("GET", "/secret")["secret"]
    cli("delete", hook_id)
    assert app.ask("GET", "")["data"] == []


def test_a_private_address_is_refused_at_once_and_when_it_is_connected_to(tmp_path: Path) -> None:
    with receiving() as receiver:
        with running(tmp_path, **QUICK) as server:
            Hooked(server, "echo").hook(receiver.url(host="localhost"))
        log = tmp_path / "log"
        with running(tmp_path, log, worker="none", webhook_retry_s="") as server:
            app = Hooked(server, "echo")
            refused = app.ask("POST", "", {"url": receiver.url()}, status=400)
            asked = server.run({"text": "x"}, app.key, webhook_url="http://169.254.169.254/latest")
            assert (refused["params"], asked.json()["params"], asked.status_code) == ("url", "webhook_url", 400)
            app.run()
            (failed,) = app.until("failed")
            assert "not public" in failed["last_error"]
            assert failed["last_status"] is None
            secret = app.ask("GET", "/secret")["secret"]
        assert receiver.posts == []
        assert secret not in log.read_text()
        assert f"delivery {failed['id']} action=webhook_failed" in log.read_text()


def test_a_delivery_outlives_the_server(tmp_path: Path) -> None:
    with receiving(hangs=True) as receiver:
        with running(tmp_path, **QUICK) as server:
            app = Hooked(server, "echo")
            app.hook(receiver.url())
            run_ids = {app.run() for _ in range(6)}
            server.until("some are on their way", lambda: len(receiver.posts) == 4)
            server.kill()
        cut_short = {post.id for post in receiver.posts}
        receiver.script.open.set()
        with running(tmp_path, **QUICK) as server:
            app.server = server
            delivered = app.until("delivered", 6)
    assert {each["run_id"] for each in delivered} == run_ids
    assert {each["id"] for each in delivered if each["attempts"] == 2} == cut_short
    assert len(receiver.posts) == 10


@pytest.fixture
def two(tmp_path: Path, postgres: PostgresDatabases) -> Iterator[tuple[Atelier, Atelier]]:
    env = {"DATABASE_URL": postgres.new()}
    with (
        running(tmp_path / "one", env_too=env, **QUICK) as one,
        running(tmp_path / "two", env_too=env, **QUICK) as two,
    ):
        yield one, two


def test_two_servers_deliver_each_event_once(two: tuple[Atelier, Atelier], receiver: Receiver) -> None:
    one, other = Hooked(two[0], "echo"), two[1]
    one.hook(receiver.url(), "run.started", "run.finished")
    other.until("the other server knows of it", lambda: _told_by(other, one))
    for server in two * 5:
        assert server.run({"text": "hello"}, one.key).status_code == 200
    made = one.deliveries(limit=100)
    delivered = one.until("delivered", len(made))
    assert sorted(post.id for post in receiver.posts) == sorted(each["id"] for each in delivered)
    assert all(each["attempts"] == 1 for each in delivered)


def _told_by(server: Atelier, app: Hooked) -> bool:
    run_id = server.run({"text": "hello"}, app.key).json()["workflow_run_id"]
    return bool(app.deliveries(run_id=run_id))


def test_the_sample_of_the_documents_verifies(app: Hooked, receiver: Receiver) -> None:
    text = (ROOT / "docs" / "webhooks.md").read_text()
    sample = text.split("```python\n")[1].split("```")[0]
    app.hook(receiver.url())
    app.run()
    app.until("delivered")
    (post,) = receiver.posts
    names: dict[str, Any] = {}
    exec(sample, names)
    secret = app.ask("GET", "/secret")["secret"]
    assert names["read_delivery"](secret, post.headers, post.body) == json.loads(post.body)
    old = {**post.headers, "webhook-timestamp": str(int(time.time()) - 301)}
    for headers, body in ((post.headers, post.body + b" "), (old, post.body), ({}, post.body)):
        with pytest.raises(ValueError, match="webhook"):
            names["read_delivery"](secret, headers, body)
    with suppress(ValueError):
        names["read_delivery"]("whsec_AAAA", post.headers, post.body)
        pytest.fail("another secret verified it")
