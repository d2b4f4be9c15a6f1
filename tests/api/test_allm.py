"""ALLM's tagged JSON: what is decoded, what is valid, what is painted, and every error's words."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.dialects import QUICKLY, Json, b64, half, painting_step, png, sha256
from tests.servers import Atelier, running

PATH = "/v1/allm/image"
FEW = {"steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    folder = tmp_path_factory.mktemp("allm")
    allowed = {"outbound_allow": "127.0.0.1"}
    with running(folder, worker_module="tests.chaos.painter", env_too=QUICKLY, retry_delay_s="0", **allowed) as server:
        server.until_ready()
        yield server


def tagged(kind: str, **fields: Any) -> Json:
    return {"__type__": f"ALLM.{kind}", "data": fields}


def image(content: bytes, kind: str = "binary") -> Json:
    return tagged("Image", source={"type": kind, "value": b64(content)}, mime_type="image/png", metadata={})


def ask(server: Atelier, **fields: Any) -> httpx.Response:
    return server.http.post(PATH, json=tagged("ImageRequest", **{"options": FEW, **fields}))


def painted(server: Atelier, **fields: Any) -> Json:
    """The inputs of the step that paints what is asked for."""
    answer = ask(server, **fields)
    assert answer.status_code == 200, answer.text
    return painting_step(server, answer) or {}


NO_PICTURE = "no picture that can be read; send PNG, JPEG, WebP, GIF or BMP, from its first byte to its last"
RED = png()
IMAGES = [image(RED)]
ASKED: Json = {"operation": "generate", "prompt": "a ring"}
EDIT: Json = {"operation": "edit", "prompt": "a ring", "input_images": IMAGES}
VARIATION: Json = {"operation": "variation", "input_images": IMAGES}


def test_a_request_as_allm_writes_it_gets_a_response_as_it_reads_it(server: Atelier) -> None:
    nulls = dict.fromkeys(("model", "size", "quality", "style", "background", "mask"))
    fields = {**nulls, **ASKED, "n": 2, "response_format": "binary", "input_images": [], "metadata": {"job": [1]}}
    answer = ask(server, **fields)
    said = answer.json()
    data = said["data"]
    assert (answer.status_code, said["__type__"]) == (200, "ALLM.ImageResponse")
    assert list(data) == ["id", "request_id", "model", "images", "usage", "raw", "metadata"]
    assert (data["id"], data["request_id"]) == tuple(answer.headers[f"x-{n}-id"] for n in ("workflow-run", "request"))
    assert (data["model"], data["metadata"], data["raw"]) == ("atelier-shapes", {"job": [1]}, None)
    usage = {"images": 2, "size": "8x8", "quality": None, "input_tokens": None, "output_tokens": None}
    costs = dict.fromkeys(("input_cost", "output_cost", "total_cost"))
    assert data["usage"] == {"__type__": "ALLM.ImageUsage", "data": usage | costs}
    first = data["images"][0]
    assert first["__type__"] == "ALLM.Image"
    assert list(first["data"]) == ["source", "mime_type", "width", "height", "prompt", "revised_prompt", "metadata"]
    assert (first["data"]["mime_type"], first["data"]["metadata"]) == ("image/png", {"seed": 3})
    assert base64.b64decode(first["data"]["source"]["value"]).startswith(b"\x89PNG")


@pytest.mark.parametrize("form", ["binary", "base64", "url"])
def test_a_picture_comes_as_it_was_asked_for(server: Atelier, form: str) -> None:
    source = ask(server, **ASKED, response_format=form).json()["data"]["images"][0]["data"]["source"]
    assert source["type"] == form
    content = server.http.get(source["value"]).content if form == "url" else base64.b64decode(source["value"])
    assert content.startswith(b"\x89PNG")


def test_its_data_alone_is_a_request_too(server: Atelier) -> None:
    answer = server.http.post(PATH, json={"prompt": "a ring", "options": FEW, "unknown": 1})
    assert answer.json()["data"]["usage"]["data"]["images"] == 1


INVALID_JSON = "invalid JSON for ALLM.Serializer.from_json/2"
ATOM = ["_unknown", "atom_decode_failed"]
NO_TAG = ["format", "missing_type_tag"]
REQUEST = "ALLM.ImageRequest"
UNDECODABLE: dict[str, tuple[Any, Any]] = {
    "no JSON": (b"{", ["json", "malformed"]),
    "nothing": (b"", ["json", "malformed"]),
    "lists in lists": (b'{"prompt": "a", "mask": ' + b"[" * 700 + b"]" * 700 + b"}", ["json", "malformed"]),
    "a list": ([], NO_TAG),
    "a text": ("a", NO_TAG),
    "an object of something else": ({"role": "user"}, NO_TAG),
    "a tag that is no text": ({"__type__": 1, "data": {}}, NO_TAG),
    "no data": ({"__type__": REQUEST}, ["data", "missing"]),
    "data that is no object": ({"__type__": REQUEST, "data": []}, ["data", "malformed_struct"]),
    "null data": ({"__type__": REQUEST, "data": None}, ["data", "malformed_struct"]),
    "another type": ({"__type__": "ALLM.Message", "data": {}}, ["format", "unknown_type_tag"]),
    "an unknown operation": (tagged("ImageRequest", operation="paint"), ATOM),
    "an unknown response format": (tagged("ImageRequest", **ASKED, response_format="jpeg"), ATOM),
    "an unknown style": (tagged("ImageRequest", **ASKED, style="gothic"), ATOM),
    "an unknown background": ({**ASKED, "background": "blue"}, ATOM),
    "an unknown source": ({**EDIT, "input_images": [tagged("Image", source={"type": "ftp", "value": "x"})]}, ATOM),
    "a source without its value": ({**EDIT, "mask": tagged("Image", source={"type": "url"})}, ATOM),
    "bad base64": (
        {**EDIT, "mask": tagged("Image", source={"type": "binary", "value": "a-_"})},
        [["source"], "invalid_base64"],
    ),
}


@pytest.mark.parametrize("case", UNDECODABLE)
def test_what_can_not_be_decoded_is_a_400_in_allms_words(server: Atelier, case: str) -> None:
    body, error = UNDECODABLE[case]
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = server.http.post(PATH, **sent)
    message = "invalid base64 in ALLM.Image source" if error[1] == "invalid_base64" else INVALID_JSON
    data = {"reason": "invalid_request", "message": message, "errors": [error], "cause": None, "metadata": {}}
    assert (answer.status_code, answer.json()) == (400, {"__type__": "ALLM.Error.ValidationError", "data": data})


N, SIZE, COUNT = ["n", "must_be_positive"], ["size", "invalid_shape"], ["input_images", "invalid_count"]
PROMPT, EMPTY = ["prompt", "required_for_operation"], ["input_images", "must_be_empty"]
FORMAT, NO_MASK = ["response_format", "unknown"], ["mask", "invalid_image"]
BARE = {"source": {"type": "binary", "value": b64(RED)}}
INVALID: dict[str, tuple[Json, list[Any]]] = {
    "an operation that is another's word": ({**ASKED, "operation": "vivid"}, [["operation", "unknown"]]),
    "an operation that is no text": ({**ASKED, "operation": 5}, [["operation", "unknown"]]),
    "no picture": ({**ASKED, "n": 0}, [N]),
    "fewer than none": ({**ASKED, "n": -1}, [N]),
    "half a picture": ({**ASKED, "n": 1.5}, [N]),
    "a text of pictures": ({**ASKED, "n": "2"}, [N]),
    "a true picture": ({**ASKED, "n": True}, [N]),
    "a format that is another's word": ({**ASKED, "response_format": "file"}, [FORMAT]),
    "a side of nothing": ({**ASKED, "size": [0, 512]}, [SIZE]),
    "three sides": ({**ASKED, "size": [8, 8, 8]}, [SIZE]),
    "half a pixel": ({**ASKED, "size": [8.5, 8]}, [SIZE]),
    "a number for a size": ({**ASKED, "size": 512}, [SIZE]),
    "pictures that are no list": ({**EDIT, "input_images": {}}, [["input_images", "not_a_list"]]),
    "one picture, not in a list": ({**EDIT, "input_images": IMAGES[0]}, [["input_images", "not_a_list"]]),
    "pictures that are none": ({**EDIT, "input_images": [IMAGES[0], 1]}, [[["input_images", 1], "invalid_image"]]),
    "a picture without its tag": ({**EDIT, "input_images": [BARE]}, [[["input_images", 0], "invalid_image"]]),
    "a picture without a source": (
        {**EDIT, "input_images": [tagged("Image", mime_type="image/png")]},
        [[["input_images", 0], "invalid_image"]],
    ),
    "a mask that is no picture": ({**EDIT, "mask": "x"}, [NO_MASK]),
    "generating without a prompt": ({"prompt": ""}, [PROMPT]),
    "generating from a picture": ({**ASKED, "input_images": IMAGES}, [EMPTY]),
    "editing without a prompt": ({**EDIT, "prompt": None}, [PROMPT]),
    "editing with a number": ({**EDIT, "prompt": 5}, [PROMPT]),
    "editing nothing": ({**EDIT, "input_images": []}, [COUNT]),
    "editing three": ({**EDIT, "input_images": IMAGES * 3}, [COUNT]),
    "varying with a prompt": ({**VARIATION, "prompt": "a"}, [["prompt", "not_allowed_for_operation"]]),
    "varying two": ({**VARIATION, "input_images": IMAGES * 2}, [COUNT]),
    "varying nothing": ({**VARIATION, "input_images": None}, [COUNT]),
    "an unknown operation of nothing": ({"operation": "auto", "prompt": ""}, [["operation", "unknown"]]),
    "everything at once": (
        {"operation": "edit", "n": 0, "response_format": "auto", "size": [], "input_images": [1] * 3, "mask": 1},
        [N, FORMAT, SIZE, *([["input_images", i], "invalid_image"] for i in range(3)), NO_MASK, PROMPT, COUNT],
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_what_breaks_rules_is_a_422_with_all_of_them_in_order(server: Atelier, case: str) -> None:
    fields, errors = INVALID[case]
    answer = ask(server, **fields)
    reason = "invalid_image_request"
    message = f"validation failed: {reason} ({len(errors)} error(s))"
    data = {"reason": reason, "message": message, "errors": errors, "cause": None, "metadata": {}}
    assert (answer.status_code, answer.json()) == (422, {"__type__": "ALLM.Error.ValidationError", "data": data})


VALID: dict[str, Json] = {
    "null for one": {**ASKED, "n": None},
    "null for everything": {"prompt": "a", "operation": None, "response_format": None, "input_images": None},
    "a size that is open": {**ASKED, "size": "auto"},
    "a size in a text": {**ASKED, "size": "64x64"},
    "a prompt of spaces": {**ASKED, "prompt": "  "},
    "a quality of its own": {**ASKED, "quality": "ultra"},
    "words of other fields": {**ASKED, "style": "auto", "background": "auto"},
    "what nobody looks at": {**ASKED, "style": 5, "background": [], "quality": 7},
    "opaque": {**ASKED, "background": "opaque"},
    "a mask of nothing": {**ASKED, "mask": IMAGES[0]},
    "a variation with an empty prompt": {**VARIATION, "prompt": ""},
}


@pytest.mark.parametrize("case", VALID)
def test_what_keeps_the_rules_is_painted(server: Atelier, case: str) -> None:
    answer = ask(server, **VALID[case])
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["raw"] == ({"left_out": ["mask"]} if "mask" in VALID[case] else None)


LATER: dict[str, tuple[Json, int, str, str]] = {
    "unknown model": ({**ASKED, "model": "none"}, 404, "invalid_request", "The model 'none' does not exist."),
    "a size that is none": (
        {**ASKED, "size": "banana"},
        400,
        "invalid_request",
        "size must be 'WIDTHxHEIGHT' or 'auto', got 'banana'",
    ),
    "a size that nobody paints": (
        {**ASKED, "size": [65, 64]},
        400,
        "invalid_request",
        "width must be an integer from 64 to 2048 and a multiple of 8, got 65",
    ),
    "transparency": (
        {**ASKED, "background": "transparent"},
        400,
        "unsupported_feature",
        "background: a checkpoint paints no transparency; ask for 'opaque'",
    ),
    "a file of theirs": (
        {**EDIT, "input_images": [tagged("Image", source={"type": "file", "value": "/etc/passwd"})]},
        400,
        "unsupported_feature",
        "input_images[0]: a file of your machine can't be read here; send its bytes",
    ),
    "bad base64 of another kind": (
        {**EDIT, "input_images": [tagged("Image", source={"type": "base64", "value": "-"})]},
        400,
        "invalid_request",
        "input_images[0]: this is no base64",
    ),
    "no picture": (
        {**EDIT, "input_images": [*IMAGES, image(b"GIF89a")]},
        400,
        "invalid_request",
        f"input_images[1] is {NO_PICTURE}",
    ),
    "half a mask": ({**EDIT, "mask": image(RED[:80])}, 400, "invalid_request", f"mask is {NO_PICTURE}"),
    "an unknown option": (
        {**ASKED, "options": {"stepz": 1}},
        400,
        "invalid_request",
        "options.stepz: there is no such setting",
    ),
    "an option of another type": (
        {**ASKED, "options": {"seed": True}},
        400,
        "invalid_request",
        "options.seed must be a number",
    ),
    "options that are none": ({**ASKED, "options": [1]}, 400, "invalid_request", "options must be an object"),
    "a field said twice": (
        {**ASKED, "options": {"n": 2}},
        400,
        "invalid_request",
        "options.n: the request says this in a field of its own",
    ),
    "a prompt without end": (
        {**ASKED, "prompt": "a" * 32_001},
        400,
        "context_length_exceeded",
        "prompt: at most 32000 characters are read, got 32001",
    ),
    "too little memory": (
        {**ASKED, "prompt": "too large"},
        500,
        "unknown",
        "The GPU ran out of memory. Ask for a smaller picture, or for fewer at once (n). (3 attempts)",
    ),
}


@pytest.mark.parametrize("case", LATER)
def test_what_goes_wrong_later_is_an_adapters_error(server: Atelier, case: str) -> None:
    fields, status, reason, message = LATER[case]
    answer = ask(server, **fields)
    data = answer.json()["data"]
    assert answer.json()["__type__"] == "ALLM.Error.ImageAdapterError"
    assert list(data) == ["reason", "message", "provider", "status", "retry_after_ms", "cause", "metadata"]
    assert (answer.status_code, data["status"], data["reason"], data["message"]) == (status, status, reason, message)
    assert data["provider"] is data["cause"] is data["retry_after_ms"] is None


def test_without_a_key_it_is_an_adapters_error_too(server: Atelier) -> None:
    answer = server.http.post(PATH, json={}, headers={"authorization": "Bearer app-none"})
    assert (answer.status_code, answer.json()["data"]["reason"]) == (401, "authentication_failed")


def test_the_second_picture_is_the_mask_if_it_can_be_one(server: Atelier) -> None:
    masks = [half(), half("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), half("1", 1, 0)]
    for mask in masks:
        step = painted(server, **EDIT | {"input_images": [image(RED), image(mask, "base64")]})
        assert (step["image"], step["mask"]) == (sha256(RED), sha256(mask))
        assert "reference" not in step


@pytest.mark.parametrize(
    "other",
    [
        png(color="blue"),
        half(size=(32, 64)),
        half("L", 250, 0),
        png("RGB", "white"),
        png("RGBA", (0, 0, 0, 0)),
    ],
    ids=["a picture", "another size", "shades", "all white", "all transparent"],
)
def test_the_second_picture_is_a_reference_else(server: Atelier, other: bytes) -> None:
    step = painted(server, **EDIT | {"input_images": [image(RED), image(other)]})
    assert (step["image"], step["reference"]) == (sha256(RED), [sha256(other)])
    assert "mask" not in step


def test_beside_a_mask_the_second_picture_is_a_reference(server: Atelier) -> None:
    step = painted(server, **EDIT | {"input_images": [image(RED), image(half())], "mask": image(half("L", 0, 255))})
    assert (step["mask"], step["reference"]) == (sha256(half("L", 0, 255)), [sha256(half())])
    assert step["strength"] == 0.75


def test_quality_style_and_options_become_settings(server: Atelier) -> None:
    options = {"seed": 3, "cfg_scale": 2, "sampler": "euler", "output_format": "jpeg", "negative_prompt": "fog"}
    step = painted(server, **ASKED, quality="low", style="natural", options=options, size=[64, 72], n=2)
    wanted = {
        "steps": 15,
        "prompt": "a ring, natural colors, natural light, realistic",
        "guidance_scale": 2,
        "scheduler": "euler",
    }
    wanted |= {"format": "jpeg", "negative_prompt": "fog", "width": 64, "height": 72, "n": 2, "seed": 3}
    assert {name: step[name] for name in wanted} == wanted
    assert painted(server, **ASKED, quality="hd", options={"steps": 2})["steps"] == 2
    assert painted(server, **VARIATION)["strength"] == 0.6
    assert ask(server, **VARIATION, style="vivid").json()["data"]["raw"] == {"left_out": ["style"]}


def test_a_picture_may_be_named_by_its_url_and_a_run_by_its_user(server: Atelier) -> None:
    made = ask(server, **ASKED, response_format="url", options={**FEW, "user": "eve"})
    url = made.json()["data"]["images"][0]["data"]["source"]["value"]
    step = painted(server, **EDIT | {"input_images": [tagged("Image", source={"type": "url", "value": url})]})
    assert step["image"] == sha256(server.http.get(url).content)
    runs = server.http.get("/v1/workflows/runs", params={"user": "eve"}).json()["data"]
    assert [run["id"] for run in runs] == [made.headers["x-workflow-run-id"]]
