"""Whatever the document of the API allows, and much that it does not, gets an answer that the document knows.

ATELIER_FUZZ_SEED and ATELIER_FUZZ_CASES choose another day; the seed is printed.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.databases import PostgresDatabases
from tests.hub import hub_running
from tests.servers import IN_THE_TABLE, OTHER_SHAPES, ROOT, Atelier, running

SEED = int(os.environ.get("ATELIER_FUZZ_SEED", "20261121"))
CASES = int(os.environ.get("ATELIER_FUZZ_CASES", "1200"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ROUNDS = 2  # at least, so that ids which one operation tells reach all the others

BROKEN_BY_NATURE = {"POST /llamago/props", "GET /llamago/slots"}
"""What other servers answer as if it were a failure of theirs, and so do we."""

CALMLY = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)

PAINTER = "tests.chaos.painter"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresDatabases) -> Iterator[Atelier]:
    """On PostgreSQL, which is the stricter of the two about what is text and what is a number."""
    nobody_is_told = {"webhook_allow_private": "true", "webhook_retry_s": "3600"}
    folder = tmp_path_factory.mktemp("fuzz")
    with hub_running() as hub:  # which has no repositories
        env = {"DATABASE_URL": postgres.new(), "HF_ENDPOINT": hub.address, "ATELIER_PAINTER_STEP_S": "0"}
        with running(folder, folder / "log", env_too=env, worker_module=PAINTER, **nobody_is_told) as server:
            server.until_ready()
            yield server


@pytest.fixture(scope="module")
def echo_key(server: Atelier) -> str:
    """A key of the app `echo` that may do everything."""
    server.cli("workflows", "publish", str(ROOT / "workflows" / "echo.yml"), "--app", "echo")
    return server.cli("keys", "create", "--app", "echo", "--scope", "all")


@pytest.fixture(scope="module")
def document(server: Atelier) -> Json:
    return dict(server.http.get("/openapi.json", headers={"authorization": ""}).json())


def test_the_document_is_open_api_3_1(document: Json) -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert "/v1/workflows/run" in document["paths"]


def test_the_document_tells_each_field_and_each_error(document: Json) -> None:
    run = document["paths"]["/v1/workflows/run"]["post"]
    assert run["summary"]
    assert "`run`" in run["description"]
    assert run["security"] == [{"key": []}]
    assert {"400", "401", "403", "405", "413", "415", "422", "500", "503"} <= set(run["responses"])
    body = document["components"]["schemas"]["RunBody"]
    assert body["required"] == ["inputs", "user"]
    assert all("description" in field for field in body["properties"].values())


def test_the_page_shows_every_operation_and_loads_nothing(server: Atelier, document: Json) -> None:
    page = server.http.get("/docs", headers={"authorization": ""})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for path, operations in document["paths"].items():
        assert path in page.text
        assert all(f'id="{operation["operationId"]}"' in page.text for operation in operations.values())
    assert not any(word in page.text for word in ("<script", "<link", "<img", "src=", "@import"))


@pytest.mark.slow
def test_no_case_gets_an_answer_that_the_document_does_not_know(server: Atelier, document: Json, echo_key: str) -> None:
    print(f"ATELIER_FUZZ_SEED={SEED}")
    fuzz = Fuzz(server, document, echo_key)
    begun = 0
    while fuzz.cases < CASES:
        before = fuzz.cases
        fuzz.all_operations(SEED + begun)
        begun += 1
        assert fuzz.cases > before
    print(f"{fuzz.cases} cases:", *(f"{status}: {times}" for status, times in sorted(fuzz.statuses.items())))
    assert not fuzz.failures, "\n\n".join(fuzz.failures)
    accepted = sum(times for status, times in fuzz.statuses.items() if status < 300)
    assert accepted > CASES / 20, "hardly anything was accepted: look at the cases"


class Fuzz:
    """Asks for what the document describes and keeps what went wrong. Ids that answers tell are asked for again."""

    def __init__(self, server: Atelier, document: Json, echo_key: str) -> None:
        self._server = server
        self._document = document
        self._headers = server.bearer(echo_key)
        self._paints = server.bearer(server.cli("keys", "create", "--scope", "all"))
        self._session = requests.Session()
        self._ids: dict[str, None] = {}
        self._never = server.cli("keys", "list")  # our own keys stay as they are
        self.cases = 0
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []

    def all_operations(self, chance: int) -> None:
        each = CASES // ROUNDS // sum(has_input for *_, has_input in self._strategies()) + 1
        for label, cases, has_input in self._strategies():
            self._some(cases, label, chance, each if has_input else 1)

    def _strategies(self) -> Iterator[tuple[str, st.SearchStrategy[Case], bool]]:
        """For each operation what the document allows, and what it does not, if there is anything to say."""
        for found in schemathesis.openapi.from_dict(self._document).get_all_operations():
            operation = found.ok()
            if operation.label in BROKEN_BY_NATURE:
                continue
            has_input = bool(operation.definition.raw.get("requestBody") or operation.definition.raw["parameters"])
            for mode in GenerationMode if has_input else [GenerationMode.POSITIVE]:
                yield operation.label, operation.as_strategy(generation_mode=mode), has_input

    def _some(self, cases: st.SearchStrategy[Case], label: str, chance: int, most: int) -> None:
        @seed(chance)
        @settings(CALMLY, max_examples=most)
        @given(cases, st.integers(0, 2**16), st.text(max_size=40))
        def ask(case: Case, choice: int, word: str) -> None:
            self._aim(case, choice, word)
            self._ask(case, self._paints if choice % 8 == 0 else self._headers)

        try:
            ask()
        except (Exception, BaseExceptionGroup) as failure:
            self.failures.append(f"{label}: {failure}")

    def _aim(self, case: Case, choice: int, word: str) -> None:
        """Lets every other case get further than chance would: inputs that the workflow takes, ids that there are."""
        if choice % (
            8 if case.method == "DELETE" else 2
        ):  # a revoked key is ended in all processes, which takes a while
            return
        known = {
            "inputs": {"text": word, "prompt": word, "steps": 1 + choice % 3, "seed": choice},
            "url": f"http://127.0.0.1:9/{choice}",
            "webhook_url": f"http://127.0.0.1:9/{choice}",
        }
        if isinstance(case.body, dict):
            case.body.update((name, value) for name, value in known.items() if name in case.body)
        ids = list(self._ids)
        for name in case.path_parameters if ids and case.path_parameters else ():
            case.path_parameters[name] = ids[choice // 2 % len(ids)]

    def _ask(self, case: Case, headers: Mapping[str, str]) -> None:
        answer = case.call(
            base_url=self._server.url, session=self._session, headers=dict(headers), timeout=30, allow_redirects=False
        )
        self.cases += 1
        self.statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        assert answer.headers["x-request-id"]
        if not answer.content or not answer.headers["content-type"][0].startswith("application/json"):
            return
        said = json.loads(answer.content)
        if answer.status_code >= 400 and case.operation.path.startswith(OTHER_SHAPES):
            return  # what the document says of it has been looked at
        if answer.status_code >= 400:
            if case.path.startswith(OTHER_SHAPES):  # their schema has been checked
                return
            assert (said["code"], said["status"]) in IN_THE_TABLE, said
            assert said["status"] == answer.status_code
            return
        schema = case.operation.definition.raw["responses"][str(answer.status_code)]["content"]["application/json"]
        strange = list(self._undocumented(schema["schema"], said, "$"))
        assert not strange, f"fields that the document does not have: {strange}"
        self._remember(said)

    def _undocumented(self, schema: Json, said: Any, place: str) -> Iterator[str]:
        """Where an answer tells what its schema does not. Of several schemas one must know everything."""
        while "$ref" in schema:
            schema = self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        if "anyOf" in schema:
            found = [list(self._undocumented(choice, said, place)) for choice in schema["anyOf"]]
            yield from min(found, key=len)
        elif isinstance(said, list):
            for item in said:
                yield from self._undocumented(schema.get("items", {}), item, f"{place}[]")
        elif isinstance(said, dict) and "properties" in schema:
            for name, value in said.items():
                if name in schema["properties"]:
                    yield from self._undocumented(schema["properties"][name], value, f"{place}.{name}")
                else:
                    yield f"{place}.{name}"

    def _remember(self, said: Any) -> None:
        for name, value in said.items() if isinstance(said, dict) else enumerate(said):
            if isinstance(value, dict | list):
                self._remember(value)
            elif isinstance(value, str) and str(name).endswith("id") and value not in self._never:
                self._ids[value] = None
        while len(self._ids) > 50:
            del self._ids[next(iter(self._ids))]


DEEP = b'{"inputs": ' + b'{"a": ' * 50_000 + b"1" + b"}" * 50_000 + b', "user": "u"}'
RUBBISH = {
    "a NUL": b'{"inputs": {"text": "a\\u0000b"}, "user": "u\\u0000"}',
    "a lone surrogate": b'{"inputs": {"text": "\\ud800"}, "user": "u"}',
    "deep": DEEP,
    "a huge integer": b'{"inputs": {"text": "a", "n": 1' + b"0" * 5000 + b'}, "user": "u"}',
    "a huge user": b'{"inputs": {"text": "a"}, "user": 1' + b"0" * 5000 + b"}",
    "a huge float": b'{"inputs": {"text": "a", "n": 1e999}, "user": 1e400}',
    "NaN": b'{"inputs": {"text": "a", "n": NaN}, "user": "u"}',
    "infinity": b'{"inputs": {"text": "a", "n": -Infinity}, "user": "u"}',
    "keys twice": b'{"inputs": {"text": "a"}, "inputs": {"text": "b"}, "user": "u", "user": "v"}',
    "no UTF-8": b'{"inputs": {"text": "\xff\xfe"}, "user": "u"}',
    "UTF-16": '{"inputs": {"text": "a"}, "user": "u"}'.encode("utf-16"),
    "a mark of byte order": b'\xef\xbb\xbf{"inputs": {"text": "a"}, "user": "u"}',
    "two values": b'{"inputs": {"text": "a"}, "user": "u"} {}',
    "a comma too many": b'{"inputs": {"text": "a"}, "user": "u",}',
    "nothing but spaces": b" " * 1000,
    "a long user": b'{"inputs": {"text": "a"}, "user": "' + b"u" * 1_000_000 + b'"}',
}


@pytest.mark.parametrize("body", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_in_a_body_is_answered_or_refused(server: Atelier, echo_key: str, body: bytes) -> None:
    headers = server.bearer(echo_key) | {"content-type": "application/json"}
    answer = server.http.post("/v1/workflows/run", content=body, headers=headers)
    assert answer.status_code in (200, 400), answer.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("idempotency-key", "x" * 10_000),
        ("idempotency-key", "\u00e9"),
        ("idempotency-key", ""),
        ("prefer", "wait=99999999999999999999, respond-sometime;;;,,"),
        ("last-event-id", "-1"),
        ("last-event-id", "1" * 5000),
        ("x-request-id", "\x7f\u00ff" * 100),
        ("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-00"),
        ("accept", "*/*;q=NaN, text/\u00ff"),
        ("cookie", "=" * 5000),
        ("content-type", "application/json; charset=no-such-thing"),
    ],
)
def test_odd_headers_are_answered_or_refused(server: Atelier, echo_key: str, name: str, value: str) -> None:
    headers = {**server.bearer(echo_key), "content-type": "application/json", name: value.encode("latin-1")}
    body = b'{"inputs": {"text": "a"}, "user": "u"}'
    answer = server.http.post("/v1/workflows/run", content=body, headers=headers)
    assert answer.status_code in (200, 400), answer.text


@pytest.mark.parametrize(
    "query",
    ["limit=" + "9" * 5000, "page=%00", "created_at__after=%ff", "status=%00", "keyword=%00", "keyword=%F0%9F%98%80"],
)
def test_odd_queries_are_answered_or_refused(server: Atelier, query: str) -> None:
    answer = server.http.get(f"/v1/workflows/logs?{query}")
    assert answer.status_code in (200, 400), answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/keys", {"name": "a\0b"}),
        ("/v1/keys", {"name": "\ud800"}),
        ("/v1/webhooks", {"url": "http://127.0.0.1:9/\0"}),
        ("/v1/webhooks", {"url": "http://[::1"}),
        ("/v1/webhooks", {"url": "http://127.0.0.1:99999/"}),
        ("/v1/workflows/tasks/1/stop", {"user": "\0"}),
    ],
)
def test_odd_texts_are_answered_or_refused(server: Atelier, echo_key: str, path: str, body: Json) -> None:
    headers = server.bearer(echo_key) | {"content-type": "application/json"}
    answer = server.http.post(path, content=json.dumps(body), headers=headers)
    assert answer.status_code in (201, 400, 404), answer.text


@pytest.mark.parametrize("name", ["%00", "%ff", "a%00b", "..%2f..", "%F0%9F%98%80", "x" * 5000, "'", "%25"])
@pytest.mark.parametrize("path", ["/v1/workflows/run/{}", "/v1/files/{}", "/files/tools/{}", "/{}"])
def test_odd_ids_are_not_found(server: Atelier, path: str, name: str) -> None:
    answer = server.http.get(path.format(name))
    assert answer.status_code == 404, answer.text
