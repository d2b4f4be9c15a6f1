"""The table of what each dialect can say, cell by cell: asked for through the door, and seen by the worker."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.documents.dialects import dialects_page
from app.api.pictures.table import COLUMNS, ROWS, Effect
from tests.adapters import dress
from tests.dialects import NO_PICTURES, QUICKLY, SHAPES, Json, Pictures, Speaker, b64, half, png, sha256
from tests.servers import ROOT, running

RED, BLUE, MASK = png(), png(color="blue"), half()
ONE, TWO = Pictures(RED), Pictures(RED, (BLUE,))
MASKED = Pictures(RED, mask=MASK)
ALL = Pictures(RED, (BLUE,), MASK)
DRAWN = ("seed",)
ANYBODY = httpx.Client(timeout=60)
"""Somebody without a key."""


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speaker]:
    folder = tmp_path_factory.mktemp("dialects")
    dress(folder / "checkpoints")
    with running(folder, worker_module="tests.chaos.painter", env_too=QUICKLY) as server:
        server.until_ready()
        yield Speaker(server)


@pytest.fixture(scope="module")
def plain(speaker: Speaker) -> dict[str, Json]:
    """What the worker is told where nothing is said beyond the base."""
    return {column.name: speaker.step(column.name) for column in COLUMNS}


UNCHANGED: Json = {}


class Said(NamedTuple):
    """One way to say something, and what comes of it: settings of the step, or what the answer shows."""

    words: Json
    becomes: Json | Callable[[httpx.Response, Json], bool] = UNCHANGED
    pictures: Pictures = NO_PICTURES


def _each(names: str, value: Any, becomes: Json, pictures: Pictures = NO_PICTURES) -> list[Said]:
    """The same by each of the names."""
    return [Said({name: value}, becomes, pictures) for name in names.split()]


def _everywhere(
    name: str, others: str, value: Any, pictures: Pictures = NO_PICTURES, becomes: Json = UNCHANGED
) -> dict[str, list[Said]]:
    """A setting of the document's by its name, and by others' names in those dialects that have no field for it."""
    becomes, names = becomes or {name: value}, f"{name} {others}".split()
    deep = " ".join(f"options.{each}" for each in names)
    return {
        "dify": _each(f"inputs.{name}", value, becomes, pictures),
        "openai": _each(" ".join(names), value, becomes, pictures),
        **{dialect: _each(deep, value, becomes, pictures) for dialect in ("ollama", "llamago", "allm")},
    }


def _is_png(content: bytes) -> bool:
    return content.startswith(b"\x89PNG")


def _shows_base64(*path: Any) -> Callable[[httpx.Response, Json], bool]:
    return lambda answer, _: _is_png(base64.b64decode(_at(answer.json(), path)))


def _shows_url(*path: Any) -> Callable[[httpx.Response, Json], bool]:
    return lambda answer, _: _is_png(ANYBODY.get(answer.request.url.join(_at(answer.json(), path))).content)


def _at(body: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        body = body[name]
    return body


def _is_of(user: str) -> Callable[[httpx.Response, Json], bool]:
    return lambda _, run: run["sys.user_id"] == user


def _streams(sign: str) -> Callable[[httpx.Response, Json], bool]:
    return lambda answer, _: sign in answer.text


IMAGE, VIVID = {"image": sha256(RED)}, {"prompt": "a ring, vivid colors, dramatic lighting, highly detailed"}
_ALLM_SOURCE = ("data", "images", 0, "data", "source", "value")
MODEL = {"model_name": SHAPES}
SMALL = {"width": 64, "height": 72}
JPEG = {"format": "jpeg"}

SAYS: dict[str, dict[str, list[Said]]] = {
    "checkpoint": {
        "dify": [Said({"inputs.model_name": SHAPES}, MODEL)],
        "openai": [Said({"model": "Atelier-Shapes:latest"}, MODEL), Said({"model": "dall-e-2", "prompt": "a"}, MODEL)],
        "ollama": [
            Said({"model": "Atelier-Shapes:latest"}, MODEL),
            Said({"model": None, "name": "ATELIER-shapes"}, MODEL),
        ],
        "early": [Said({"model": "Atelier-Shapes:latest"}, MODEL)],
        "llamago": [Said({"model": "Atelier-Shapes:latest"}, MODEL), Said({"model": None}, MODEL)],
        "allm": [Said({"model": "Atelier-Shapes:latest"}, MODEL), Said({"model": "gpt-image-1"}, MODEL)],
    },
    "prompt": {
        "dify": [Said({"inputs.prompt": "a cross"}, {"prompt": "a cross"})],
        **{name: [Said({"prompt": "a cross"}, {"prompt": "a cross"})] for name in ("openai", "ollama", "early")},
        **{name: [Said({"prompt": "a cross"}, {"prompt": "a cross"})] for name in ("llamago", "allm")},
    },
    "negative prompt": {
        **_everywhere("negative_prompt", "", "fog"),
        "early": [Said({"negative_prompt": "fog"})],
    },
    "size": {
        "dify": [Said({"inputs.width": 64, "inputs.height": 72}, SMALL)],
        "openai": [Said({"size": "64x72"}, SMALL), Said({"size": "auto"}, {"width": 64, "height": 64})],
        "ollama": [
            Said({"width": 66, "height": 70}, SMALL),
            Said({"options.width": 64, "options.height": 72}, SMALL),
            Said({"width": 0}, {"width": 64}),
        ],
        "early": [Said({"size": "66x70"}, SMALL), Said({"size": "wide"}, {"width": 1024, "height": 1024})],
        "llamago": [Said({"options.width": 64, "options.height": 72}, SMALL), Said({"width": 64, "height": 72}, SMALL)],
        "allm": [Said({"size": size}, SMALL) for size in ([64, 72], "64x72")],
    },
    "steps": {
        **_everywhere("steps", "num_inference_steps", 3),
        "openai": [
            Said({"steps": 3}, {"steps": 3}),
            Said({"steps": None, "num_inference_steps": 3}, {"steps": 3}),
        ],
        "ollama": [
            Said({"steps": 3}, {"steps": 3}),
            *(Said({"steps": None, f"options.{n}": 3}, {"steps": 3}) for n in ("steps", "num_inference_steps")),
        ],
        "early": [Said({"steps": 3})],
        "llamago": [
            Said({"options.steps": 3}, {"steps": 3}),
            Said({"options.steps": None, "options.num_inference_steps": 3}, {"steps": 3}),
        ],
        "allm": [
            Said({"options.steps": 3}, {"steps": 3}),
            Said({"options.steps": None, "options.num_inference_steps": 3}, {"steps": 3}),
        ],
    },
    "guidance scale": {
        **_everywhere("guidance_scale", "cfg_scale cfg", 2.5),
        "early": [Said({"guidance_scale": 2.5})],
    },
    "seed": {
        **_everywhere("seed", "", 11),
        "ollama": [
            Said({"options.seed": 11}, {"seed": 11}),
            Said({"options.seed": 0}, lambda _, step: step["seed"] > 0),
        ],
        "early": [Said({"seed": 11}, lambda _, step: step["seed"] != 11)],
    },
    "number of pictures": {
        "dify": [Said({"inputs.n": 2}, {"n": 2})],
        "openai": [Said({"n": 2}, {"n": 2})],
        "ollama": [Said({"options.n": 2})],
        "early": [Said({"n": 2})],
        "llamago": [Said({"options.n": 2}, {"n": 2})],
        "allm": [Said({"n": 2}, {"n": 2})],
    },
    "picture to change": {
        **{name: [Said({}, IMAGE, ONE)] for name in ("dify", "openai", "ollama", "llamago", "allm")},
        "early": [Said({}, {}, ONE)],
    },
    "references": {
        name: [Said({}, IMAGE | {"reference": [sha256(BLUE)]}, TWO)]
        for name in ("dify", "openai", "ollama", "llamago", "allm")
    },
    "reference weight": _everywhere("reference_weight", "reference_strength", 0.5, TWO),
    "mask": {
        **{
            name: [Said({}, IMAGE | {"mask": sha256(MASK)}, MASKED)]
            for name in ("dify", "openai", "ollama", "llamago", "allm")
        },
        "llamago": [
            Said(where, IMAGE | {"mask": sha256(MASK)}, ONE)
            for where in ({"mask": b64(MASK)}, {"options.mask": b64(MASK)})
        ],
    },
    "strength": {
        **_everywhere("strength", "denoising_strength", 1.0, ONE),
        "dify": _each("inputs.strength", 1.0, {"strength": 1.0}, ONE),
    },
    "scheduler": {
        **_everywhere("scheduler", "sampler sampler_name", "euler"),
        "early": [Said({"scheduler": "euler"})],
    },
    "quality": {
        "openai": [
            *(Said({"steps": None, "quality": word}, {"steps": steps}) for word, steps in (("low", 15), ("hd", 50))),
            Said({"steps": None, "complexity": "low"}, {"steps": 15}),
            Said({"quality": "low"}, {"steps": 2}),
        ],
        "allm": [
            *(
                Said({"options.steps": None, "quality": word}, {"steps": steps})
                for word, steps in (("low", 15), ("standard", 30), ("fine", 30))
            ),
            Said({"quality": "low"}, {"steps": 2}),
        ],
    },
    "style": {name: [Said({"style": "vivid"}, VIVID)] for name in ("openai", "allm")},
    "transparency": {name: [Said({"background": "transparent"})] for name in ("openai", "allm")},
    "opaque background": {
        "openai": _each("background", "opaque", {}) + _each("background", "auto", {}),
        "allm": _each("background", "opaque", {}),
    },
    "kind of file": {
        **_everywhere("format", "output_format", "jpeg"),
        "openai": [Said({"output_format": "jpeg"}, JPEG)],
        "early": [Said({"output_format": "jpeg"})],
    },
    "compression": {
        "dify": [Said({"inputs.format": "jpeg", "inputs.quality": 50}, {"quality": 50})],
        "openai": [Said({"output_format": "jpeg", "output_compression": 50}, {"quality": 50})],
        **{
            dialect: [
                Said({"options.format": "jpeg", f"options.{name}": 50}, {"quality": 50})
                for name in ("output_compression", "quality")
            ]
            for dialect in ("ollama", "llamago", "allm")
        },
    },
    "loras": {
        **_everywhere("loras", "lora", "ink:0.5", becomes={"loras": [{"name": "ink", "weight": 0.5}]}),
        "early": [Said({"loras": "ink"})],
    },
    "keeping the checkpoint": {
        "dify": [Said({"inputs.keep_alive_s": 90}, {"keep_alive_s": 90})],
        "openai": [Said({"keep_alive_s": 90}, {"keep_alive_s": 90})],
        "early": [Said({"keep_alive": "90s"})],
        **{
            name: [Said({"keep_alive": text}, {"keep_alive_s": 90}) for text in (90, "1m30s")]
            for name in ("ollama", "llamago")
        },
        "allm": [Said({"options.keep_alive_s": 90}, {"keep_alive_s": 90})],
    },
    "end-user": {
        "dify": [Said({"user": "eve"}, _is_of("eve"))],
        "openai": [Said({"user": "eve"}, _is_of("eve")), Said({"safety_identifier": "eve"}, _is_of("eve"))],
        "allm": [Said({"options.user": "eve"}, _is_of("eve"))],
    },
    "pictures by URL": {
        "dify": [Said({}, _shows_url("data", "outputs", "files", 0, "url"))],
        "openai": [Said({"response_format": "url"}, _shows_url("data", 0, "url"))],
        "llamago": [Said({}, _shows_url("choices", 0, "text"))],
        "allm": [Said({"response_format": "url"}, _shows_url(*_ALLM_SOURCE))],
    },
    "pictures as base64": {
        "openai": [Said({"response_format": "b64_json"}, _shows_base64("data", 0, "b64_json"))],
        "ollama": [Said({}, _shows_base64("image"))],
        "early": [Said({"response_format": "url"}, _shows_base64("data", 0, "b64_json"))],
        "llamago": [Said({}, _shows_base64("image"))],
        "allm": [Said({"response_format": form}, _shows_base64(*_ALLM_SOURCE)) for form in ("binary", "base64")],
    },
    "progress": {
        "dify": [Said({"response_mode": "streaming", "inputs.steps": 150}, _streams("node_progress"))],
        "openai": [Said({"stream": True, "steps": 150}, _streams(": progress "))],
        "ollama": [Said({"stream": True, "steps": 150}, _streams('"completed":1'))],
        "early": [Said({"stream": True}, _streams("event:progress"))],
        "llamago": [Said({"stream": True, "options.steps": 150}, _streams('"completed":'))],
    },
    "moderation": {"openai": [Said({"moderation": "low"})]},
    "settings of texts": {
        "ollama": [Said({"system": "s", "template": "t", "format": "json", "raw": True, "options.temperature": 1})],
        "llamago": [
            Said(
                {"suffix": "s", "system": "s", "template": "t", "format": "json", "raw": True, "options.num_predict": 9}
            )
        ],
    },
    "unknown fields": {
        "dify": [Said({"inputs.stepz": 1})],
        "openai": [Said({"stepz": 1})],
        "ollama": [Said({"stepz": 1, "options.stepz": 1})],
        "early": [Said({"stepz": 1})],
        "llamago": [Said({"stepz": 1, "options.stepz": 1})],
        "allm": [Said({"options.stepz": 1})],
    },
}
CELLS = [(each, column) for each in ROWS for column, cell in each.cells.items() if cell.effect is not Effect.NONE]


def test_every_cell_of_the_table_has_its_words_here() -> None:
    told = {(name, column) for name, cells in SAYS.items() for column in cells}
    assert told == {(each.name, column) for each, column in CELLS}
    assert {column for _, column in told} == {column.name for column in COLUMNS}


@pytest.mark.parametrize(("row", "column"), CELLS, ids=[f"{each.name}, {column}" for each, column in CELLS])
def test_a_field_becomes_what_its_cell_says(speaker: Speaker, plain: dict[str, Json], row: Any, column: str) -> None:
    effect = row.cells[column].effect
    for words, becomes, pictures in SAYS[row.name][column]:
        answer = speaker.ask(column, words, pictures)
        if effect is Effect.REFUSED:
            assert answer.status_code == 400, answer.text
            continue
        assert answer.status_code == 200, answer.text
        step = speaker.step_of(answer)
        if callable(becomes):
            assert becomes(answer, step)
        elif effect is Effect.WITHOUT_EFFECT:
            assert _but_drawn(column, step) == _but_drawn(column, plain[column])
        else:
            assert becomes.items() <= step.items()


def _but_drawn(column: str, step: Json) -> Json:
    """Without what is another in each run."""
    drawn = DRAWN if column == "early" else ()
    return {name: value for name, value in step.items() if name not in ("sys.user_id", *drawn)}


PLACES = {
    "dify": "inputs.{}",
    "openai": "{}",
    "ollama": "options.{}",
    "llamago": "options.{}",
    "allm": "options.{}",
}
settings_of_all = st.fixed_dictionaries(
    {"seed": st.integers(1, 2**53 - 1), "steps": st.integers(2, 4), "negative_prompt": st.sampled_from(["", "fog"])},
    optional={
        "guidance_scale": st.sampled_from([0, 1.5, 7]),
        "scheduler": st.sampled_from(["euler", "DPM++ 2M Karras"]),
        "clip_skip": st.integers(1, 2),
        "strength": st.sampled_from([0.5, 1.0]),
        "reference_weight": st.sampled_from([0.1, 1.0]),
    },
)
sides = st.integers(8, 12).map(lambda side: side * 8)
pictures = st.sampled_from([NO_PICTURES, ONE, TWO, MASKED])


@settings(max_examples=4, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.text("abc ,()", min_size=1, max_size=9), settings_of_all, sides, sides, pictures)
def test_what_all_can_say_makes_the_same_run_in_every_dialect(
    speaker: Speaker, prompt: str, wanted: Json, width: int, height: int, given: Pictures
) -> None:
    left = {"strength", "reference_weight"} if not given.image else set() if given.references else {"reference_weight"}
    kept = {name: value for name, value in wanted.items() if name not in left}
    if given.image:
        kept.setdefault("strength", 0.5)
    steps = {}
    for dialect, place in PLACES.items():
        words = {place.format(name): value for name, value in kept.items()}
        words |= _sized(dialect, width, height) | {"inputs.prompt" if dialect == "dify" else "prompt": prompt}
        steps[dialect] = speaker.step(dialect, ({"steps": None} if dialect == "ollama" else {}) | words, given)
        del steps[dialect]["sys.user_id"]
    assert all(step == steps["dify"] for step in steps.values()), steps


def _sized(dialect: str, width: int, height: int) -> Json:
    if dialect == "dify":
        return {"inputs.width": width, "inputs.height": height}
    if dialect in ("openai", "allm"):
        return {"size": f"{width}x{height}"}
    place = "options.{}" if dialect == "llamago" else "{}"
    return {place.format("width"): width, place.format("height"): height}


@pytest.mark.parametrize(
    "path", ["/v1/images/generations", "/api/generate", "/ollama/v1/images/generations", "/v1/allm/image"]
)
def test_the_document_tells_of_the_headers_that_are_heard(speaker: Speaker, path: str) -> None:
    operation = speaker.server.http.get("/openapi.json").json()["paths"][path]["post"]
    told = {each["name"] for each in operation["parameters"]}
    assert told == {"Idempotency-Key", "X-Priority", "Cancel-After"}


def test_the_page_is_what_the_table_says() -> None:
    assert (ROOT / "docs" / "dialects.md").read_text() == dialects_page(), "run `make docs`"
