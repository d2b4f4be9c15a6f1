"""OpenAI's images API in its own words: what it refuses to the byte, what it answers, what it streams."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image
from PIL.ExifTags import Base

from tests.media import picture, png_bomb
from tests.servers import ROOT, Atelier, running
from tests.sites import Page, site

GENERATIONS, EDITS, VARIATIONS = (f"/v1/images/{name}" for name in ("generations", "edits", "variations"))
KIND = "invalid_request_error"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """Its engine paints small squares at once."""
    settings = {"worker_module": "tests.chaos.painter", "outbound_allow": "127.0.0.1", "retry_delay_s": "0"}
    with running(tmp_path_factory.mktemp("openai"), **settings) as server:
        server.until_ready()
        yield server


def data_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def file(content: bytes, name: str = "cat.png", kind: str = "image/png") -> tuple[str, bytes, str]:
    return name, content, kind


def inputs_of(server: Atelier, answer: httpx.Response) -> Json:
    """Of the answer's run."""
    return dict(json.loads(server.detail(answer.headers["x-workflow-run-id"])["inputs"]))


def generating(body: Json) -> Json:
    return {"url": GENERATIONS, "json": {"prompt": "a cat", **body}}


def editing(images: Mapping[str, Any] | None = None, **fields: str) -> Json:
    return {"url": EDITS, "data": {"prompt": "a cat"} | fields, "files": images or {"image": file(PNG)}}


def editing_json(**body: Any) -> Json:
    return {"url": EDITS, "json": {"prompt": "a cat", **body}}


PNG = picture(size=(64, 64))
CUT = PNG[:-20]
SIZES = "'auto' and WIDTHxHEIGHT in pixels, both multiples of"
SUPPORTED = "Supported file formats are 'image/jpeg', 'image/png', and 'image/webp'."
ADDRESS = "Expected an address (https://…) or a picture as a data URL (data:image/png;base64,…)."
NO_FILES = "Invalid type for 'image': expected one of an array of files or file, but got a string instead."
GPT_2_SIZES = f"{SIZES} 16 from 64 to 3840, at most 1 to 3 flat or narrow, at most 8294400 pixels in all"
OR_ACCESS = "or you do not have access to it."
ONLY_ONE = "You provided multiple values for this parameter, whereas only one is allowed."
NOBODYS = "0196d2a4-0000-7000-8000-000000000000"
QUALITIES = "'auto', 'low', 'medium', 'high', 'xhigh', 'max', 'standard', and 'hd'"

REFUSALS: dict[str, tuple[Json, int, str | None, str | None, str]] = {
    # what is asked: (status, code, param, message)
    "no prompt": (
        {"url": GENERATIONS, "json": {}},
        *(400, "missing_required_parameter", "prompt", "Missing required parameter: 'prompt'."),
    ),
    "an empty prompt": (
        generating({"prompt": ""}),
        *(400, "missing_required_parameter", "prompt", "Missing required parameter: 'prompt'."),
    ),
    "a prompt that is none": (
        generating({"prompt": 5}),
        *(400, "invalid_type", "prompt", "Invalid type for 'prompt': expected a string, but got an integer instead."),
    ),
    "what is unknown": (generating({"bogus": 1}), 400, "unknown_parameter", "bogus", "Unknown parameter: 'bogus'."),
    "what GPT's models have not": (
        generating({"model": "gpt-image-1", "response_format": "b64_json"}),
        *(400, "unknown_parameter", "response_format", "Unknown parameter: 'response_format'."),
    ),
    "what DALL·E has not": (
        generating({"model": "dall-e-3", "stream": True}),
        *(400, "unknown_parameter", "stream", "Unknown parameter: 'stream'."),
    ),
    "what only edits have": (
        generating({"input_fidelity": "high"}),
        *(400, "unknown_parameter", "input_fidelity", "Unknown parameter: 'input_fidelity'."),
    ),
    "a size of another model": (
        generating({"model": "dall-e-2", "size": "1536x1024"}),
        400,
        "invalid_value",
        "size",
        "Invalid value: '1536x1024'. Supported values are: '256x256', '512x512', and '1024x1024'.",
    ),
    "a size off the grid": (
        generating({"size": "100x64"}),
        *(400, "invalid_value", "size", f"Invalid value: '100x64'. Supported values are {SIZES} 8 from 64 to 2048."),
    ),
    "a size that is too flat": (
        generating({"model": "gpt-image-2", "size": "2048x512"}),
        400,
        "invalid_value",
        "size",
        f"Invalid value: '2048x512'. Supported values are {GPT_2_SIZES}.",
    ),
    "a size of too many pixels": (
        generating({"model": "gpt-image-2", "size": "3840x2176"}),
        400,
        "invalid_value",
        "size",
        f"Invalid value: '3840x2176'. Supported values are {GPT_2_SIZES}.",
    ),
    "too many": (
        generating({"n": 11}),
        400,
        "integer_above_max_value",
        "n",
        "Invalid 'n': integer above maximum value. Expected a value <= 10, but got 11 instead.",
    ),
    "more than one of DALL·E 3": (
        generating({"model": "dall-e-3", "n": 2}),
        400,
        "integer_above_max_value",
        "n",
        "Invalid 'n': integer above maximum value. Expected a value <= 1, but got 2 instead.",
    ),
    "none": (
        generating({"n": 0}),
        400,
        "integer_below_min_value",
        "n",
        "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead.",
    ),
    "a number as a text": (
        generating({"n": "2"}),
        *(400, "invalid_type", "n", "Invalid type for 'n': expected an integer, but got a string instead."),
    ),
    "a long prompt for DALL·E": (
        generating({"model": "dall-e-2", "prompt": "x" * 1192}),
        *(400, None, "prompt", "Prompt must be length 1000 or less. Your prompt length is 1192."),
    ),
    "a long prompt": (
        generating({"prompt": "x" * 32_001}),
        400,
        "string_above_max_length",
        "prompt",
        "Invalid 'prompt': string too long. Expected a string with maximum length 32000, "
        "but got a string with length 32001 instead.",
    ),
    "a quality": (
        generating({"quality": "best"}),
        *(400, "invalid_value", "quality", f"Invalid value: 'best'. Supported values are: {QUALITIES}."),
    ),
    "a transparent background": (
        generating({"background": "transparent"}),
        400,
        "invalid_value",
        "background",
        "Invalid value: 'transparent'. Stable Diffusion paints no alpha channel; take 'opaque' or 'auto'.",
    ),
    "a film": (
        generating({"output_format": "gif"}),
        400,
        "invalid_value",
        "output_format",
        "Invalid value: 'gif'. Supported values are: 'png', 'jpeg', and 'webp'.",
    ),
    "a compressed PNG": (
        generating({"output_compression": 50}),
        400,
        "invalid_value",
        "output_format",
        "'output_compression' is for the output formats 'jpeg' and 'webp'.",
    ),
    "previews without a stream": (
        generating({"partial_images": 2}),
        400,
        "invalid_value",
        "partial_images",
        "'partial_images' are parts of a stream: 'stream' must be true.",
    ),
    "a stream of URLs": (
        generating({"stream": True, "response_format": "url"}),
        400,
        "invalid_value",
        "stream",
        "A stream has its pictures as base64: 'response_format' can't be 'url'.",
    ),
    "an extra out of its range": (
        generating({"steps": 500}),
        *(400, "invalid_value", "steps", "steps must be an integer from 1 to 150, got 500"),
    ),
    "an extra of another type": (
        generating({"cfg_scale": "much"}),
        400,
        "invalid_type",
        "cfg_scale",
        "Invalid type for 'cfg_scale': expected a number, but got a string instead.",
    ),
    "an extra that is no text": (
        generating({"loras": ["ink"]}),
        *(400, "invalid_type", "loras", "Invalid type for 'loras': expected a string, but got an array instead."),
    ),
    "an extra that is no yes or no": (
        generating({"exclusive": {}}),
        *(
            400,
            "invalid_type",
            "exclusive",
            "Invalid type for 'exclusive': expected a boolean, but got an object instead.",
        ),
    ),
    "an extra that a field has settled": (
        generating({"size": "64x64", "width": 128}),
        *(400, "invalid_value", "width", "'width' is said twice, by a field of OpenAI's and by itself."),
    ),
    "a model that is not here": (
        generating({"model": "nowhere"}),
        *(404, "model_not_found", "model", "The model `nowhere` does not exist or you do not have access to it."),
    ),
    "a model with a number without end": (
        generating({"model": f"gpt-image-{'1' * 5000}"}),
        *(404, "model_not_found", "model", f"The model `gpt-image-{'1' * 5000}` does not exist {OR_ACCESS}"),
    ),
    "a field that comes twice": (
        {"url": EDITS, "data": {"prompt": "a cat", "n": ["1", "2"]}, "files": {"image": file(PNG)}},
        *(400, "duplicate_parameter", "n", f"Duplicate parameter: 'n'. {ONLY_ONE}"),
    ),
    "two masks": (
        {**editing(), "files": [("image", file(PNG)), ("mask", file(PNG)), ("mask", file(PNG))]},
        *(400, "duplicate_parameter", "mask", f"Duplicate parameter: 'mask'. {ONLY_ONE}"),
    ),
    "a mask that is a text": (
        editing({"image": file(PNG), "mask": (None, "mask.png")}),
        *(400, "invalid_type", "mask", "Invalid type for 'mask': expected a file, but got a string instead."),
    ),
    "a picture that nobody chose": (
        editing({"image": ("", b"", "application/octet-stream"), "mask": (None, "")}),
        *(400, "missing_required_parameter", "image", "Missing required parameter: 'image'."),
    ),
    "a form without a boundary": (
        {"url": EDITS, "content": b"", "headers": {"content-type": "multipart/form-data"}},
        *(400, "bad_request", None, "The form can't be read: its Content-Type names no boundary."),
    ),
    "an edit without a picture": (
        {"url": EDITS, "files": {"prompt": (None, "a cat")}},
        *(400, "missing_required_parameter", "image", "Missing required parameter: 'image'."),
    ),
    "a picture that is a text": (
        {"url": EDITS, "files": {"prompt": (None, "a cat"), "image": (None, "cat.png")}},
        *(400, "invalid_type", "image", NO_FILES),
    ),
    "a file of no use": (
        editing({"image": file(b"\0\1\2\3", "upload", "image/png")}),
        400,
        "unsupported_file_mimetype",
        "image",
        f"Invalid file 'image': unsupported mimetype ('application/octet-stream'). {SUPPORTED}",
    ),
    "a second file of no use": (
        {
            **editing(),
            "files": [("image[]", file(PNG)), ("image[]", file(picture("GIF")))],
        },
        400,
        "unsupported_file_mimetype",
        "image[1]",
        f"Invalid file 'image[1]': unsupported mimetype ('image/gif'). {SUPPORTED}",
    ),
    "another file": (
        editing({"image": file(PNG), "markup": file(PNG)}),
        *(400, "unknown_parameter", "markup", "Unknown parameter: 'markup'."),
    ),
    "an edit by DALL·E 3": (
        editing(model="dall-e-3"),
        *(400, "invalid_value", "model", "Invalid value: 'dall-e-3'. Value must be 'dall-e-2'."),
    ),
    "a JPEG for DALL·E 2": (
        editing({"image": file(picture("JPEG", (64, 64)))}, model="dall-e-2"),
        *(400, None, "image", "Uploaded image must be a PNG and less than 4 MB."),
    ),
    "a mask for DALL·E 2 that is no square": (
        editing({"image": file(PNG), "mask": file(picture(size=(32, 64)))}, model="dall-e-2"),
        *(400, None, "mask", "Uploaded image must be square; it is 32x64."),
    ),
    "two pictures for DALL·E 2": (
        editing_json(images=[{"image_url": data_url(PNG)}] * 2, model="dall-e-2"),
        400,
        "array_above_max_length",
        "images",
        "Invalid 'images': array too long. Expected an array with maximum length 1, "
        "but got an array with length 2 instead.",
    ),
    "a mask of another size": (
        editing({"image": file(PNG), "mask": file(picture(size=(32, 64)))}),
        *(
            400,
            None,
            "mask",
            "Invalid mask: it must have the size of the image, but it is 32x64, and the image is 64x64.",
        ),
    ),
    "a style of an edit": (
        editing(style="vivid"),
        *(400, "unknown_parameter", "style", "Unknown parameter: 'style'."),
    ),
    "both ways to name a picture": (
        editing_json(images=[{"image_url": "https://example.org/a.png", "file_id": "x"}]),
        *(400, "invalid_value", "images[0]", "'images[0]' must have exactly one of 'image_url' and 'file_id'."),
    ),
    "an unknown way to name a picture": (
        editing_json(images=[{"url": "https://example.org/a.png"}]),
        *(400, "unknown_parameter", "images[0].url", "Unknown parameter: 'images[0].url'."),
    ),
    "no data URL": (
        editing_json(image="cat.png"),
        *(400, "invalid_value", "image", f"Invalid value: 'cat.png'. {ADDRESS}"),
    ),
    "a picture in JSON of no use": (
        editing_json(images=[{"image_url": data_url(PNG)}, {"image_url": data_url(picture("GIF"))}]),
        400,
        "unsupported_file_mimetype",
        "images[1].image_url",
        f"Invalid file 'images[1].image_url': unsupported mimetype ('image/gif'). {SUPPORTED}",
    ),
    "a file whose id is none": (
        editing_json(images=[{"file_id": "file-abc"}]),
        *(404, "file_not_found", "images[0].file_id", "There is no file 'file-abc'."),
    ),
    "a file that is not there": (
        editing_json(images=[{"image_url": data_url(PNG)}, {"file_id": NOBODYS}]),
        *(404, "file_not_found", "images[1].file_id", f"There is no file '{NOBODYS}'."),
    ),
    "a variation with a prompt": (
        {"url": VARIATIONS, "data": {"prompt": "a cat"}, "files": {"image": file(PNG)}},
        *(400, "unknown_parameter", "prompt", "Unknown parameter: 'prompt'."),
    ),
    "a variation by a GPT": (
        {"url": VARIATIONS, "data": {"model": "gpt-image-1"}, "files": {"image": file(PNG)}},
        *(400, "invalid_value", "model", "Invalid value: 'gpt-image-1'. Value must be 'dall-e-2'."),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_openais_to_the_byte(web: Atelier, case: str) -> None:
    asked, status, code, param, message = REFUSALS[case]
    answer = web.http.post(**asked)
    assert answer.json() == {"error": {"message": message, "type": KIND, "param": param, "code": code}}
    assert answer.status_code == status


@pytest.mark.parametrize(("content", "number"), [(CUT, 1), (png_bomb(1), 1)], ids=["cut off", "garbled"])
def test_a_picture_that_cannot_be_read_is_refused_before_there_is_a_run(
    web: Atelier, content: bytes, number: int
) -> None:
    runs = "/v1/workflows/runs?user=torn"
    for asked in (editing({"image": file(content)}, user="torn"), editing_json(image=data_url(content), user="torn")):
        answer = web.http.post(**asked)
        said = f"Invalid image file or mode for image {number}, please check your image file."
        kind = {"type": "image_generation_user_error", "param": None, "code": "invalid_image_file"}
        assert (answer.status_code, answer.json()) == (400, {"error": {"message": said, **kind}})
    assert web.http.get(runs).json()["data"] == []


def part(disposition: str, content: bytes) -> bytes:
    return f"--B\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


def test_a_form_that_breaks_off_is_none(web: Atelier) -> None:
    form = part('name="image"; filename="cat.png"', PNG) + part('name="prompt"', b"a cat without a hat")
    answer = web.http.post(EDITS, content=form[:-16], headers={"content-type": "multipart/form-data; boundary=B"})
    assert answer.json()["error"]["message"] == "The form can't be read: it ends before its last boundary."


def test_a_file_may_have_its_name_as_old_clients_write_it(house: Atelier) -> None:
    form = part('name="prompt"', b"a cat") + part("name=\"image\"; filename*=utf-8''caf%C3%A9.png", PNG) + b"--B--"
    answer = house.http.post(EDITS, content=form, headers={"content-type": "multipart/form-data; boundary=B"})
    assert inputs_of(house, answer)["image"]["filename"] == "café.png"


def test_other_errors_have_the_four_keys_too(web: Atelier) -> None:
    nobody = web.http.post(GENERATIONS, json={"prompt": "a cat"}, headers={"authorization": "Bearer app-wrong"})
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, "invalid_api_key")
    unread = web.http.post(GENERATIONS, content=b"{", headers={"content-type": "application/json"})
    assert (unread.status_code, unread.json()["error"]["type"]) == (400, KIND)
    large = web.http.post(EDITS, files={"image": file(PNG + bytes(11 * 1024 * 1024))}, data={"prompt": "a cat"})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "file_too_large")
    strange = web.http.post(VARIATIONS, json={})
    assert (strange.status_code, set(strange.json()["error"])) == (415, {"message", "type", "param", "code"})
    assert web.http.get("/v1/models/no/such:model").json()["error"]["code"] == "model_not_found"


def test_openais_client_in_a_browser_may_say_and_hear_what_it_does_elsewhere(web: Atelier) -> None:
    asked = "authorization,content-type,idempotency-key,openai-organization,openai-project,x-stainless-retry-count"
    page = {"origin": "https://example.org"}
    wishes = {**page, "access-control-request-method": "POST", "access-control-request-headers": asked}
    assert web.http.options(GENERATIONS, headers=wishes).status_code == 200
    heard = web.http.post(GENERATIONS, json={}, headers=page).headers["access-control-expose-headers"]
    assert {"X-Should-Retry", "Retry-After", "X-Workflow-Run-Id"} <= set(heard.split(", "))


def test_a_key_that_may_not_paint_is_told_so(web: Atelier) -> None:
    reads = web.bearer(web.cli("keys", "create", "--scope", "read"))
    answer = web.http.post(GENERATIONS, json={"prompt": "a cat"}, headers=reads)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_permissions")
    assert web.http.get("/v1/models", headers=reads).json()["object"] == "list"


def test_what_is_too_much_is_openais_to_the_byte_and_asked_again_by_its_clients(house: Atelier) -> None:
    busy = house.bearer(house.cli("keys", "create", "--max-active", "1"))
    stalling = {"inputs": {"prompt": "stall"}, "user": "u", "response_mode": "async"}
    first = house.http.post("/v1/workflows/run", json=stalling, headers=busy).json()
    answer = house.http.post(GENERATIONS, json={"prompt": "a cat"}, headers=busy)
    house.http.post(f"/v1/workflows/tasks/{first['task_id']}/stop", json={"user": "u"}, headers=busy)
    told = "Too many requests. Please try again later. At most 1 runs of this key may be under way at once, and there are 1."  # noqa: E501
    kind = {"type": "rate_limit_error", "param": None, "code": "too_many_requests"}
    assert answer.json() == {"error": {"message": told, **kind}}
    assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "true")
    assert int(answer.headers["retry-after"]) > 0


def test_an_answer_tells_what_strict_clients_take(house: Atelier) -> None:
    body = {"prompt": "a cat", "seed": 7, "n": 2, "steps": 1, "quality": "hd", "background": "opaque"}
    answer = house.http.post(GENERATIONS, json={**body, "response_format": "b64_json", "size": None, "user": "cat"})
    told = answer.json()
    zeros = {"text_tokens": 0, "image_tokens": 0}
    counts = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), 0)
    assert told["usage"] == {**counts, "input_tokens_details": zeros, "output_tokens_details": zeros}
    assert [each["seed"] for each in told["data"]] == [7, 8]
    assert (told["quality"], told["background"], told["output_format"]) == ("high", "opaque", "png")
    assert (told["size"], told["model"], told["safety_identifier"]) == ("8x8", "atelier-shapes", "cat")
    assert Image.open(io.BytesIO(base64.b64decode(told["data"][0]["b64_json"]))).size == (8, 8)
    assert inputs_of(house, answer)["steps"] == 1


def test_urls_are_absolute_and_can_be_opened_by_anybody(house: Atelier) -> None:
    (made,) = house.http.post(GENERATIONS, json={"prompt": "a cat", "steps": 1}).json()["data"]
    assert made["url"].startswith(f"{house.url}/files/tools/")
    assert httpx.get(made["url"]).content.startswith(b"\x89PNG")
    assert "b64_json" not in made


def test_a_preset_says_what_the_request_leaves_open(house: Atelier) -> None:
    soft = {
        "model": "soft",
        "from": "atelier-shapes",
        "parameters": {"strength": 0.3, "format": "jpeg"},
        "stream": False,
    }
    assert house.http.post("/api/create", json=soft).status_code == 200
    asked = {"model": "soft", "steps": "4"}
    edit, sharper, variation = (
        inputs_of(house, house.http.post(**each))
        for each in (
            editing(**asked, output_format="png"),
            editing(**asked, input_fidelity="high"),
            {"url": VARIATIONS, "data": asked, "files": {"image": file(PNG)}},
        )
    )
    assert [each["strength"] for each in (edit, sharper, variation)] == [0.3, 0.4, 0.3]
    assert [each["format"] for each in (edit, sharper, variation)] == ["png", "jpeg", "jpeg"]


def test_a_run_that_failed_or_was_stopped_can_be_found_by_its_answer(house: Atelier) -> None:
    failed = house.http.post(GENERATIONS, json={"prompt": "too large"})
    run = house.detail(failed.headers["x-workflow-run-id"])
    assert (failed.status_code, failed.headers["x-should-retry"]) == (500, "false")
    assert (run["status"], run["error"]) == ("failed", failed.json()["error"]["message"])


def test_a_picture_that_is_lost_is_told_of_as_an_error_of_its_own(house: Atelier) -> None:
    """Nothing that belongs to it has been sent yet: of a stream its event, of an answer the status."""

    def told(**how: Any) -> httpx.Response:
        body = {"prompt": "noise", "n": 2, "seed": 900, "steps": 1, "response_format": "b64_json", **how}
        return house.http.post(GENERATIONS, json=body, headers={"idempotency-key": "lost"})

    def lose(picture: Json) -> None:
        name = hashlib.sha256(base64.b64decode(picture["b64_json"])).hexdigest()
        (house.data_dir / "artifacts" / name[:2] / name[2:4] / name).unlink()

    first, second = told().json()["data"]
    lose(second)
    assert [event for event, _ in frames(told(stream=True).text) if event] == ["image_generation.completed", "error"]
    lose(first)
    assert (told().status_code, told().json()["error"]["code"]) == (404, "not_found")


def test_who_is_cut_off_in_the_middle_of_an_answer_and_asks_again_gets_the_same_pictures(house: Atelier) -> None:
    asked = {"prompt": "noise", "n": 10, "steps": 1, "user": "cut off", "response_format": "b64_json"}
    body, address = json.dumps(asked).encode(), urlsplit(house.url)
    head = f"POST {GENERATIONS} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {house.key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=60) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(head.encode() + body)
        told = client.recv(4096)
    house.until("the call is seen to have broken", lambda: broken_calls(house))
    again = house.http.post(GENERATIONS, json=asked)
    assert again.headers["x-workflow-run-id"].encode() in told
    assert len(again.json()["data"]) == 10


def broken_calls(server: Atelier) -> int:
    with closing(sqlite3.connect(server.data_dir / "atelier.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM open_calls WHERE broke_at IS NOT NULL").fetchone()
    return int(count)


def test_a_style_is_told_as_the_prompt_that_was_painted(house: Atelier) -> None:
    body = {"prompt": "a cat", "style": "natural", "steps": 1, "model": "dall-e-3"}
    (made,) = house.http.post(GENERATIONS, json=body).json()["data"]
    assert made["revised_prompt"] == "a cat, natural colors, natural light, realistic"


def frames(text: str) -> list[tuple[str, Any]]:
    """(event, data) of each, and ("", comment)."""
    found: list[tuple[str, Any]] = []
    for frame in text.removesuffix("\n\n").split("\n\n"):
        if frame.startswith(":"):
            found.append(("", frame))
        else:
            event, said = frame.split("\n")
            found.append((event.removeprefix("event: "), json.loads(said.removeprefix("data: "))))
    return found


def test_a_stream_has_previews_progress_and_one_end_for_each_picture(house: Atelier) -> None:
    body = {"prompt": "a cat", "steps": 60, "n": 2, "seed": 3, "stream": True, "partial_images": 1}
    answer = house.http.post(GENERATIONS, json=body | {"model": "gpt-image-1", "size": "1024x1024"})
    told = frames(answer.text)
    events = [(event, said) for event, said in told if event]
    assert [event for event, _ in events] == ["image_generation.partial_image"] + ["image_generation.completed"] * 2
    assert all(said["type"] == event for event, said in events)
    (_, preview), *ends = events
    assert (preview["partial_image_index"], preview["b64_json"], preview["output_format"]) == (0, "/9j/", "jpeg")
    assert [said["seed"] for _, said in ends] == [3, 4]
    assert ends[1][1]["usage"]["input_tokens_details"] == {"text_tokens": 0, "image_tokens": 0}
    assert (ends[1][1]["quality"], ends[1][1]["background"]) == ("auto", "auto")
    assert ("", ": progress 1/60") in told
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-task-id"]


def test_a_stream_that_fails_ends_with_the_four_keys(house: Atelier) -> None:
    answer = house.http.post(**editing(prompt="too large", stream="true"))
    (event, said) = frames(answer.text)[-1]
    assert (answer.status_code, event) == (200, "error")
    assert set(said["error"]) == {"message", "type", "param", "code"}
    assert said["error"]["code"] == "run_failed"


def test_pictures_come_by_every_name_and_way(house: Atelier) -> None:
    """A form's three names, OpenAI's JSON (data URL, address of an upload) and Ollama's: each is the same edit."""
    upload = house.http.post("/v1/files/upload", files={"file": file(PNG)}, data={"user": "ways"}).json()
    named = [
        *(
            editing({name: file(PNG, "upload", "application/octet-stream")})
            for name in ("image", "image[]", "image[0]")
        ),
        editing_json(images=[{"image_url": data_url(PNG)}]),
        editing_json(images=[{"file_id": upload["id"]}]),
        editing_json(image=data_url(PNG)),
    ]
    for asked in named:
        asked[("json" if "json" in asked else "data")] |= {"user": "ways", "seed": "5", "steps": "2"}
        answer = house.http.post(**asked)
        assert answer.status_code == 200, answer.text
        inputs = inputs_of(house, answer)
        assert inputs["image"]["mime_type"] == "image/png"


def test_a_picture_at_an_address_is_fetched_before_there_is_a_run(house: Atelier) -> None:
    with site({"/cat.png": Page(PNG), "/cat.txt": Page(b"no picture")}) as there:
        asked = editing_json(images=[{"image_url": there.url("/cat.png")}], steps=2)
        answer = house.http.post(**asked)
        assert inputs_of(house, answer)["image"]["size"] == len(PNG)
        refused = house.http.post(**editing_json(images=[{"image_url": there.url("/cat.txt")}], user="text"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")
    assert house.http.get("/v1/workflows/runs?user=text").json()["data"] == []


def test_a_stream_that_is_stopped_says_so(house: Atelier) -> None:
    body = {"prompt": "stall", "stream": True, "user": "stopper"}
    with house.http.stream("POST", GENERATIONS, json=body) as stream:
        house.http.post(f"/v1/workflows/tasks/{stream.headers['x-task-id']}/stop", json={"user": "stopper"})
        (event, said) = frames(stream.read().decode())[-1]
    assert (event, said["error"]["code"]) == ("error", "run_stopped")


def test_the_first_picture_is_changed_and_the_others_are_references(house: Atelier) -> None:
    pictures = [picture(size=(64, side)) for side in (64, 72, 80)]
    files = [("image[]", file(each)) for each in pictures] + [("mask", file(PNG))]
    asked = editing(model="gpt-image-1", steps="2", reference_weight="0.5")
    answer = house.http.post(**{**asked, "files": files})
    inputs = inputs_of(house, answer)
    assert [each["size"] for each in (inputs["image"], *inputs["reference"])] == [len(each) for each in pictures]
    assert (inputs["mask"]["size"], inputs["strength"], inputs["reference_weight"]) == (len(PNG), 0.75, 0.5)
    assert answer.json()["data"][0]["b64_json"]


def test_a_mask_has_the_size_of_the_photo_as_it_is_seen(house: Atelier) -> None:
    turned, photo = Image.Exif(), io.BytesIO()
    turned[Base.Orientation] = 6  # the camera was held upright
    Image.new("RGB", (96, 64)).save(photo, "JPEG", exif=turned)
    upright, lying = (
        house.http.post(**editing({"image": file(photo.getvalue()), "mask": file(picture(size=size))}, steps="2"))
        for size in ((64, 96), (96, 64))
    )
    assert upright.status_code == 200
    assert lying.json()["error"]["message"].endswith("but it is 96x64, and the image is 64x96.")


def test_the_same_edit_under_the_same_key_is_one_run(house: Atelier) -> None:
    asked = {**editing(steps="2"), "headers": {"idempotency-key": "the-same-edit"}}
    first, second = house.http.post(**asked), house.http.post(**asked)
    assert first.headers["x-workflow-run-id"] == second.headers["x-workflow-run-id"]
    assert second.headers["idempotency-replayed"] == "true"
    other = house.http.post(**{**asked, "files": {"image": file(picture(size=(72, 72)))}})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_conflict")


def test_openais_names_stand_for_the_checkpoint_that_the_settings_say(house: Atelier) -> None:
    for name in ("gpt-image-1", "dall-e-2", "chatgpt-image-latest"):
        assert house.http.get(f"/v1/models/{name}").json()["id"] == name
    answer = house.http.post(GENERATIONS, json={"prompt": "a cat", "model": "gpt-image-2", "size": "2048x2048"})
    inputs = inputs_of(house, answer)
    assert (inputs["model_name"], inputs["width"], inputs["fit_size"]) == ("atelier-shapes", 2048, True)


def test_the_page_of_the_dialect_says_every_alias() -> None:
    page = (ROOT / "docs" / "openai.md").read_text()
    assert all(f"`{name}`" in page for name in ("num_inference_steps", "cfg_scale", "sampler", "reference_weight"))
