"""Keys over HTTP and the command: scopes, ends, rotation, and what keys of other apps may not know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api.operation import Endpoint, Operation
from app.domain.request import Scope
from app.main import create_app
from app.settings import load_settings
from tests.servers import Atelier

SCOPES = ",".join(Scope)


def declared(folder: Path) -> list[Operation]:
    """Every operation that the server offers."""
    routes = create_app(load_settings(data_dir=folder)).routes
    endpoints = [getattr(route, "endpoint", None) for route in routes]
    return [endpoint._operation for endpoint in endpoints if isinstance(endpoint, Endpoint)]


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> list[Operation]:
    return declared(tmp_path_factory.mktemp("declared"))


@pytest.fixture(scope="module")
def admin(web: Atelier) -> Iterator[httpx.Client]:
    """Whoever holds a key of the app text-to-image that may do everything."""
    key = web.cli("keys", "create", "--name", "admin", "--scope", "all")
    with httpx.Client(base_url=web.url, headers=web.bearer(key), timeout=60) as http:
        yield http


@pytest.fixture(scope="module")
def foreign(web: Atelier, admin: httpx.Client, echo_key: str) -> Iterator[httpx.Client]:
    """The same for another app."""
    key = web.cli("keys", "create", "--name", "foreign", "--app", "echo", "--scope", "all")
    with httpx.Client(base_url=web.url, headers=web.bearer(key), timeout=60) as http:
        yield http


def make(admin: httpx.Client, **terms: Any) -> dict[str, Any]:
    answer = admin.post("/v1/keys", json={"name": "test", **terms})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def message(answer: httpx.Response) -> str:
    """What is wrong, in whichever dialect's shape."""
    said = answer.json()
    error = said.get("error", said.get("data", said))
    return str(error if isinstance(error, str) else error["message"])


def status(web: Atelier, key: str) -> int:
    return web.http.get("/v1/info", headers=web.bearer(key)).status_code


def test_each_operation_names_the_scope_that_a_key_lacks(
    web: Atelier, admin: httpx.Client, operations: list[Operation]
) -> None:
    assert {each.scope for each in operations} >= {Scope.RUN, Scope.READ, Scope.STOP, Scope.ADMIN}
    others = {scope: [other.value for other in Scope if other != scope] for scope in Scope}
    keys = {scope: make(admin, scopes=others[scope])["token"] for scope in {each.scope for each in operations}}
    for each in operations:
        answer = web.http.request(each.method, re.sub(r"{.*?}", "x", each.path), headers=web.bearer(keys[each.scope]))
        assert (answer.status_code, answer.json().get("code", "forbidden")) == (403, "forbidden"), each.path
        assert f"lacks the scope '{each.scope.value}'" in message(answer)
        assert f"it has {', '.join(others[each.scope])}." in message(answer)


def test_a_key_may_do_what_its_scopes_say(web: Atelier, admin: httpx.Client) -> None:
    reader = web.bearer(make(admin, scopes=["read"])["token"])
    assert web.http.get("/v1/workflows/logs", headers=reader).status_code == 200
    assert web.http.post("/v1/workflows/run", json={}, headers=reader).status_code == 403


def test_a_run_of_another_app_is_not_there_whatever_is_asked(
    web: Atelier, admin: httpx.Client, foreign: httpx.Client, operations: list[Operation]
) -> None:
    run = foreign.post("/v1/workflows/run", json={"inputs": {"text": "mine"}, "user": "u"}).json()
    known = {"run_id": run["workflow_run_id"], "task_id": run["task_id"], "key_id": make(foreign)["id"]}
    known["workflow_id"] = run["data"]["workflow_id"]
    filled = {"user": "u", "inputs": {}, "action": "approve"}
    nobodys = dict.fromkeys(known, "01a1fcd5-7a07-7838-8f08-8157208b2ecd")
    of_one = [each for each in operations if "{" in each.path]
    assert len(of_one) >= 4
    for each in of_one:
        body = {name: filled[name] for name in getattr(each.body, "__struct_fields__", ()) if name in filled}
        paths = [
            re.sub(r"{(\w+)(?::path)?}", lambda name, of=ids: of.get(name[1], of["run_id"]), each.path)
            for ids in (known, nobodys)
        ]
        query = {"user": "u"} if "user" in getattr(each.query, "__struct_fields__", ()) else {}
        answers = [admin.request(each.method, path, params=query, json=body) for path in paths]
        assert [answer.status_code for answer in answers] == [404, 404], (each.method, each.path, answers[0].text)
        said = [re.sub(r"[0-9a-f-]{36}", "", message(answer)) for answer in answers]
        assert said[0] == said[1], "it tells that there is something"
    stop_by_run = f"/v1/workflows/tasks/{known['run_id']}/stop"
    assert admin.post(stop_by_run, json={"user": "u"}).status_code == 404
    assert known["run_id"] not in admin.get("/v1/workflows/logs", params={"limit": 100}).text
    assert known["key_id"] not in admin.get("/v1/keys", params={"state": "all", "limit": 1000}).text


def test_keys_are_made_listed_and_revoked_over_http(web: Atelier, admin: httpx.Client) -> None:
    terms = {"name": "the shop", "scopes": ["read", "run"], "priority": -3, "max_active": 2, "max_queued": 9}
    made = make(admin, **terms, expires_in_s=3600)
    token = made.pop("token")
    assert re.fullmatch(r"app-[A-Za-z0-9]{24}", token)
    assert {name: made[name] for name in terms} == terms | {"scopes": ["run", "read"]}
    assert (made["prefix"], made["app"], made["state"]) == (token[:8], "text-to-image", "live")
    assert 3590 <= made["expires_at"] - made["created_at"] <= 3610
    assert status(web, token) == 200
    listed = admin.get("/v1/keys").json()
    assert (listed["limit"], listed["has_more"]) == (100, False)
    mine = next(key for key in listed["data"] if key["id"] == made["id"])
    assert mine | {"last_used_at": None} == made
    revoked = admin.delete(f"/v1/keys/{made['id']}")
    assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
    assert [status(web, token) for _ in range(50)] == [401] * 50
    assert made["id"] not in admin.get("/v1/keys").text
    ended = admin.get("/v1/keys", params={"state": "revoked", "limit": 1}).json()
    assert ended["data"][0]["revoked_at"] >= made["created_at"]


def test_a_use_is_shown(web: Atelier, admin: httpx.Client) -> None:
    made = make(admin)
    assert made["last_used_at"] is None
    assert status(web, made["token"]) == 200

    def used() -> bool:
        listed = admin.get("/v1/keys").json()["data"]
        return any(key["id"] == made["id"] and key["last_used_at"] is not None for key in listed)

    web.until("the use is written", used)


def test_an_expired_key_is_told_so(web: Atelier, admin: httpx.Client) -> None:
    token = make(admin, expires_in_s=1)["token"]
    web.until("the key has expired", lambda: status(web, token) == 401)
    answer = web.http.get("/v1/info", headers=web.bearer(token))
    assert (answer.json()["code"], answer.json()["message"]) == ("unauthorized", "Access token has expired")
    assert "test" in admin.get("/v1/keys", params={"state": "expired"}).text


def test_a_rotated_key_works_beside_the_new_one_until_the_overlap_ends(web: Atelier, admin: httpx.Client) -> None:
    old = make(admin, scopes=["read"], max_active=4)
    answer = admin.post(f"/v1/keys/{old['id']}/rotate", json={"overlap_s": 3})
    assert answer.status_code == 201
    new = answer.json()
    assert (new["name"], new["scopes"], new["max_active"], new["expires_at"]) == ("test", ["read"], 4, None)
    assert new["id"] != old["id"]
    assert (status(web, old["token"]), status(web, new["token"])) == (200, 200)
    web.until("the old key has ended", lambda: status(web, old["token"]) == 401)
    assert status(web, new["token"]) == 200


def test_without_an_overlap_the_old_key_ends_at_once(web: Atelier, admin: httpx.Client) -> None:
    old = make(admin)
    assert status(web, old["token"]) == 200
    new = admin.post(f"/v1/keys/{old['id']}/rotate", json={"overlap_s": 0}).json()
    assert [status(web, old["token"]) for _ in range(10)] == [401] * 10
    assert status(web, new["token"]) == 200
    assert admin.post(f"/v1/keys/{old['id']}/rotate", json={}).status_code == 404


def test_a_key_gives_no_more_than_it_has(web: Atelier, admin: httpx.Client) -> None:
    terms = {"scopes": ["admin", "read"], "max_active": 5}
    strong = make(admin)
    with httpx.Client(base_url=web.url, headers=web.bearer(make(admin, **terms)["token"]), timeout=60) as weak:
        for more, words in (
            ({}, "lacks the scope 'run' itself"),
            ({"scopes": ["read", "stop"]}, "lacks the scope 'stop' itself"),
            ({**terms, "priority": 1}, "a higher priority than its own, which is 0"),
            ({**terms, "max_active": 6}, "a looser max_active than its own, which is 5"),
            ({**terms, "max_active": 0}, "a looser max_active than its own"),
        ):
            answer = weak.post("/v1/keys", json={"name": "x", **more})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert words in answer.json()["message"]
        assert weak.post("/v1/keys", json={"name": "x", **terms, "max_active": 5, "priority": -1}).status_code == 201
        assert weak.post(f"/v1/keys/{strong['id']}/rotate", json={}).status_code == 403
        assert status(web, strong["token"]) == 200
        assert weak.delete(f"/v1/keys/{strong['id']}").status_code == 200, "an app's admin may end any of its keys"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": " \0 "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "x", "scopes": ["write"]}, "scopes[0]"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "priority": 1001}, "priority"),
        ({"name": "x", "max_active": -1}, "max_active"),
        ({"name": "x", "expires_in_s": 0}, "expires_in_s"),
        ({"name": "x", "expires_in_s": 10**12}, "expires_in_s"),
        ({"name": "x", "scope": ["run"]}, None),
    ],
)
def test_wrong_terms_are_named(admin: httpx.Client, body: dict[str, Any], field: str | None) -> None:
    answer = admin.post("/v1/keys", json=body)
    assert (answer.status_code, answer.json()["code"], answer.json().get("params")) == (400, "invalid_param", field)


@pytest.mark.parametrize("path", ["/v1/keys/%00", "/v1/keys/" + "9" * 5000, "/v1/keys/é"])
def test_an_id_that_can_be_nobodys_is_not_there(admin: httpx.Client, path: str) -> None:
    assert admin.delete(path).status_code == 404
    assert admin.get("/v1/keys", params={"state": "lost"}).status_code == 400


def row_of(web: Atelier, name: str) -> list[str]:
    return next(re.split(r"  +", line.strip()) for line in web.cli("keys", "list").splitlines() if name in line)


def test_keys_go_round_by_the_command(web: Atelier) -> None:
    limits = ("--priority", "2", "--max-active", "3", "--max-queued", "40")
    old = web.cli("keys", "create", "--name", "round trip", "--scope", "run,read", "--expires", "30d", *limits)
    assert status(web, old) == 200
    row = row_of(web, "round trip")
    assert row[1:8] == [f"{old[:8]}…", "round trip", "text-to-image", "run,read", "2", "3", "40"]
    assert row[-1] == "live"
    web.cli("keys", "change", row[0], "--scope", "read", "--max-active", "5", "--expires", "never")
    assert web.run({"prompt": "x"}, old).status_code == 403
    new = web.cli("keys", "rotate", row[0], "--overlap", "1h")
    assert (status(web, old), status(web, new)) == (200, 200)
    assert web.cli("keys", "revoke", row[0]) == f"Revoked: {old[:8]}… round trip"
    assert [status(web, old) for _ in range(50)] == [401] * 50
    assert status(web, new) == 200
    row = row_of(web, old[:8])
    assert (row[4], row[6], row[-1]) == ("read", "5", "revoked")
