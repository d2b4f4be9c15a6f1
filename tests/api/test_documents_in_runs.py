"""Files all the way through a run: extracted, picked out of lists, painted and given back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import media
from tests.api.test_uploads import local, taken, upload
from tests.servers import Atelier, running
from tests.unit.drawing import draw, end, field, node, start, template

MARKED = {
    "__artifact__": "01a1fd65-0000-7000-8000-000000000000",
    "filename": "a.png",
    "extension": ".png",
    "mime_type": "image/png",
    "size": 1,
    "sha256": "0" * 64,
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    with running(tmp_path_factory.mktemp("documents"), worker_module="tests.chaos.painter") as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="module")
def key(house: Atelier) -> str:
    """An app that reads the papers among the files that it is given, and one paper more."""
    papers = {"key": "type", "comparison_operator": "in", "value": ["document"]}
    by_name = {"enabled": True, "key": "name", "value": "asc"}
    nodes = [
        start(field("several", "file-list"), field("one", "file")),
        node(
            "pick",
            "list-operator",
            variable=["start", "several"],
            filter_by={"enabled": True, "conditions": [papers]},
            order_by=by_name,
        ),
        node("read", "document-extractor", variable_selector=["pick", "result"], is_array_file=True),
        node("read_one", "document-extractor", variable_selector=["start", "one"]),
        end(texts=["read", "text"], text=["read_one", "text"], first=["pick", "first_record"], one=["start", "one"]),
    ]
    edges = ["start > pick", "pick > read", "read > read_one", "read_one > end"]
    document = house.data_dir / "papers.yml"
    document.write_text(draw(nodes, edges))
    return house.app_key(document, "papers")


def given(house: Atelier, key: str, name: str, content: bytes, kind: str = "document") -> dict[str, Any]:
    return local(taken(upload(house, key, name, content)), kind)


def test_papers_are_picked_out_and_read(house: Atelier, key: str) -> None:
    several = [
        given(house, key, "b.docx", media.docx("Two", [["x"], ["1"]])),
        given(house, key, "cat.png", media.picture(), "image"),
        given(house, key, "a.pdf", media.pdf("One")),
    ]
    one = given(house, key, "c.csv", b"a,b\n1,2\n")
    outputs = house.run({"several": several, "one": one}, key).json()["data"]["outputs"]
    assert outputs["texts"] == ["One", "Two\n| x |\n| --- |\n| 1 |\n"]
    assert outputs["text"] == "| a | b |\n| - | - |\n| 1 | 2 |\n"
    assert outputs["first"]["filename"] == "a.pdf"


def test_where_there_is_no_file_there_is_no_text(house: Atelier, key: str) -> None:
    run = house.run({"several": []}, key).json()["data"]
    assert (run["status"], run["outputs"]["texts"], run["outputs"]["text"]) == ("succeeded", [], [])


def test_a_document_that_can_not_be_read_fails_its_node(house: Atelier, key: str) -> None:
    one = given(house, key, "bad.pdf", b"%PDF-1.4 nothing")
    run = house.run({"several": [], "one": one}, key).json()["data"]
    assert run["status"] == "failed"
    assert run["error"].startswith("Failed to extract text from PDF: ")
    one = given(house, key, "cat.png", media.picture(), "image")
    assert house.run({"several": [], "one": one}, key).json()["data"]["error"] == "Unsupported Extension Type: .png"


def test_what_a_run_made_is_given_to_the_next(house: Atelier) -> None:
    """By its own app and user; a file as answers show it names itself."""
    nodes = [
        start(field("prompt"), field("before", "file", allowed_file_types=["document"])),
        node(
            "paint",
            "tool",
            provider_id="atelier/diffusion",
            tool_name="text_to_image",
            tool_configurations={"steps": 1},
            tool_parameters={"prompt": {"type": "mixed", "value": "{{#start.prompt#}}"}},
        ),
        end(files=["paint", "files"], before=["start", "before"]),
    ]
    document = house.data_dir / "again.yml"
    document.write_text(draw(nodes, ["start > paint", "paint > end"]))
    key = house.app_key(document, "again")
    (made,) = house.run({"prompt": "one"}, key).json()["data"]["outputs"]["files"]
    by_id = {"type": "image", "transfer_method": "tool_file", "tool_file_id": made["related_id"]}
    for mapping in (by_id, made):
        run = house.run({"prompt": "two", "before": mapping}, key).json()["data"]
        assert run["outputs"]["before"]["related_id"] == made["related_id"]
        assert run["outputs"]["before"]["transfer_method"] == "tool_file"
    refused = house.run({"prompt": "three", "before": by_id}, key, user="eve").json()
    assert refused["message"] == f"ToolFile {made['related_id']} not found"
    preview = house.http.get(f"/v1/files/{made['related_id']}/preview", headers=house.bearer(key))
    assert (preview.headers["content-type"], preview.status_code) == ("image/png", 200)


def test_a_workflow_can_write_the_url_of_a_file(house: Atelier) -> None:
    """Of one that it is given, and of one that it makes: for as long as a signed URL is valid."""
    nodes = [
        start(field("picture", "file")),
        node(
            "paint",
            "tool",
            provider_id="atelier/diffusion",
            tool_name="text_to_image",
            tool_configurations={"steps": 1},
            tool_parameters={"prompt": {"type": "mixed", "value": "one"}},
        ),
        template(
            "write", "![]({{ made[0].url }}) {{ given.url }}", made=["paint", "files"], given=["start", "picture"]
        ),
        end(text=["write", "output"], url=["start", "picture", "url"]),
    ]
    document = house.data_dir / "urls.yml"
    document.write_text(draw(nodes, ["start > paint", "paint > write", "write > end"]))
    key, content = house.app_key(document, "urls"), media.picture()
    file = local(taken(upload(house, key, "cat.png", content)))
    outputs = house.run({"picture": file}, key).json()["data"]["outputs"]
    made, given_url = outputs["text"].removeprefix("![](").split(") ")
    assert house.http.get(made, headers={"authorization": ""}).headers["content-type"] == "image/png"
    for url in (given_url, outputs["url"]):
        assert house.http.get(url, headers={"authorization": ""}).content == content


def test_nobody_can_write_a_file_into_being(house: Atelier) -> None:
    """Whoever knows what marks a file inside could otherwise be shown the file of another."""
    document = house.data_dir / "forged.yml"
    document.write_text(draw([start(field("some", "json_object")), end(some=["start", "some"])], ["start > end"]))
    forger = house.app_key(document, "forged")
    run = house.run({"some": {"inner": [MARKED], "name": "a"}}, forger).json()["data"]
    plain = {name: value for name, value in MARKED.items() if name != "__artifact__"}
    assert run["outputs"] == {"some": {"inner": [plain], "name": "a"}}


def test_what_a_step_shows_of_files_is_no_inside(house: Atelier, key: str) -> None:
    one = given(house, key, "c.csv", b"a,b\n1,2\n")
    told = house.run({"several": [one], "one": one}, key, response_mode="streaming").text
    assert "__artifact__" not in told
    assert "sha256" not in told
