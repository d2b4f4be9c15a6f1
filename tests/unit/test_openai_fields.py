"""OpenAI's fields for pictures: what each of them becomes, and which limits belong to which name."""

from __future__ import annotations

from typing import Any

import pytest

from app.api.openai.asked import Asker, Wanted, read_edit, read_generation
from app.api.openai.errors import Refusal
from app.api.openai.fields import Fields
from app.api.openai.given import Given
from app.api.openai.profiles import CHECKPOINT, DALL_E_2, DALL_E_3, GPT, GPT_2, GPT_2_5, Profile, profile_of
from app.api.openai.wire import Partials
from app.api.pictures.asked import EDIT, INPAINT, GivenPicture
from app.api.pictures.runs import steps_of, strength_of
from app.api.run_headers import NO_HEADERS
from app.checkpoints.checkpoint import Checkpoint
from app.domain.event import Tick
from app.domain.request import Caller
from app.runs.models import Model

ASKER = Asker(Caller("key", "app"), NO_HEADERS)
PICTURE = GivenPicture(url="https://example.org/cat.png")


def generation(**body: Any) -> Wanted:
    return read_generation(Fields({"prompt": "a cat", **body}), ASKER)


def edit(images: int = 1, *, mask: bool = False, **body: Any) -> Wanted:
    given = Given((PICTURE,) * images, PICTURE if mask else None, (None,) * images)
    return read_edit(Fields({"prompt": "a cat", **body}), given, ASKER)


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ({}, {}),
        ({"n": None, "size": None, "quality": None, "seed": None}, {}),
        ({"n": 3}, {"n": 3}),
        ({"size": "auto", "quality": "auto", "background": "auto", "moderation": "low"}, {}),
        ({"size": "128x64"}, {"width": 128, "height": 64}),
        ({"size": "512x512", "model": "dall-e-2"}, {"width": 512, "height": 512, "fit_size": True}),
        (
            {"size": "3840x2160", "model": "gpt-image-2"},
            {"width": 1920, "height": 1080, "upscale": 2, "fit_size": True},
        ),
        ({"style": "vivid"}, {"prompt": "a cat, vivid colors, dramatic lighting, highly detailed"}),
        ({"output_format": "jpeg"}, {"format": "jpeg", "quality": 100}),
        ({"output_format": "webp", "output_compression": 0}, {"format": "webp", "quality": 1}),
        ({"output_format": "png", "output_compression": 100}, {"format": "png"}),
        ({"stream": True, "partial_images": 0}, {}),
        ({"stream": True, "partial_images": 3}, {"previews": True}),
        ({"seed": 7, "num_inference_steps": 4, "cfg_scale": 5}, {"seed": 7, "steps": 4, "guidance_scale": 5}),
    ],
)
def test_a_field_becomes_inputs_of_the_document(body: dict[str, Any], inputs: dict[str, Any]) -> None:
    assert generation(**body).request.inputs == {"prompt": "a cat", "n": 1, **inputs}


@pytest.mark.parametrize("size", ["auto", "128x64", "3840x2160"])
def test_events_say_the_size_that_was_asked_for(size: str) -> None:
    wanted = generation(model="gpt-image-2" if size != "128x64" else "any", size=size, stream=True)
    assert wanted.look.size == size


@pytest.mark.parametrize(
    ("asked", "document", "strength"),
    [
        ({}, EDIT, None),
        ({"input_fidelity": "low"}, EDIT, 0.75),
        ({"input_fidelity": "high"}, EDIT, 0.4),
        ({"strength": 0.9, "input_fidelity": "high"}, EDIT, 0.9),
        ({"images": 3}, EDIT, None),
        ({"mask": True}, INPAINT, None),
        ({"mask": True, "input_fidelity": "high"}, INPAINT, 0.4),
        ({"mask": True, "images": 2}, INPAINT, 0.75),
    ],
)
def test_how_far_an_edit_goes(asked: dict[str, Any], document: str, strength: float | None) -> None:
    """None: as far as the document's tool does."""
    request = edit(**asked).request
    assert (request.document, (strength_of(request) | request.inputs).get("strength")) == (document, strength)
    assert len(request.pictures.get("reference", ())) == asked.get("images", 1) - 1


@pytest.mark.parametrize(
    ("quality", "effort", "echoed"),
    [
        *((each, each, each) for each in ("low", "medium", "high", "xhigh", "max")),
        ("standard", "medium", "medium"),
        ("hd", "high", "high"),
        ("auto", "", ""),
    ],
)
def test_quality_is_effort_and_echoed_as_strict_clients_take_it(quality: str, effort: str, echoed: str) -> None:
    wanted = generation(quality=quality)
    assert (wanted.request.effort, wanted.look.quality) == (effort, echoed)


@pytest.mark.parametrize(
    ("own", "steps"), [(0, [15, 30, 50, 75, 100]), (4, [2, 4, 7, 10, 13]), (80, [40, 80, 133, 150, 150])]
)
def test_effort_is_a_multiple_of_the_checkpoints_own_steps(own: int, steps: list[int]) -> None:
    checkpoint = Checkpoint("any", "/any", "sd1", None, 512, 7.5, 1, steps=own)
    model = Model("any", checkpoint)
    assert [steps_of(word, model)["steps"] for word in ("low", "medium", "high", "xhigh", "max")] == steps
    assert steps_of("low", Model("preset", checkpoint, {"steps": 20})) == {"steps": 10}
    assert steps_of("", model) == {}


@pytest.mark.parametrize(
    ("body", "urls"),
    [
        ({}, True),
        ({"model": "dall-e-3"}, True),
        ({"response_format": "b64_json"}, False),
        ({"model": "gpt-image-1"}, False),
        ({"stream": True}, False),
    ],
)
def test_how_pictures_are_delivered(body: dict[str, Any], urls: bool) -> None:
    assert generation(**body).look.urls == urls


@pytest.mark.parametrize(
    ("body", "user", "echoed"),
    [
        ({}, "openai", None),
        ({"user": "ann"}, "ann", "ann"),
        ({"safety_identifier": "s-1"}, "s-1", "s-1"),
        ({"user": "ann", "safety_identifier": "s-1"}, "ann", "s-1"),
    ],
)
def test_whose_a_run_is(body: dict[str, Any], user: str, echoed: str | None) -> None:
    wanted = generation(**body)
    assert (wanted.request.user, wanted.look.safety_identifier) == (user, echoed)


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("dall-e-2", DALL_E_2),
        ("DALL-E-3:latest", DALL_E_3),
        ("gpt-image-1", GPT),
        ("gpt-image-1-mini", GPT),
        ("gpt-image-1.5", GPT),
        ("chatgpt-image-latest", GPT),
        ("gpt-image-2", GPT_2),
        ("gpt-image-2-2026-04-21", GPT_2),
        ("gpt-image-2.5-flare", GPT_2_5),
        ("gpt-image-2.6-sunburst-2026-09-08", GPT_2_5),
        ("gpt-4o", CHECKPOINT),
        ("v1-5-pruned-emaonly", CHECKPOINT),
    ],
)
def test_a_name_has_its_limits(name: str, profile: Profile) -> None:
    assert profile_of(name) == profile


def test_a_form_has_texts_alone() -> None:
    fields = Fields({"prompt": "a cat", "n": "2", "stream": "true", "partial_images": "0", "user": ""}, is_form=True)
    wanted = read_generation(fields, ASKER)
    assert (wanted.request.inputs["n"], wanted.look.streams, wanted.request.user) == (2, True, "openai")
    with pytest.raises(Refusal, match="Invalid type for 'n': expected an integer"):
        read_generation(Fields({"prompt": "a cat", "n": "two"}, is_form=True), ASKER)


@pytest.mark.parametrize(
    ("most", "told"), [(0, []), (1, [6]), (2, [4, 8]), (3, [3, 6, 9])], ids=["none", "one", "two", "three"]
)
def test_previews_are_spread_over_the_way(most: int, told: list[int]) -> None:
    partials = Partials(generation(stream=True, partial_images=most).look)
    ticks = [Tick("run", "step", "paint", done, 12, 0.0, "data:image/jpeg;base64,/9j/") for done in range(1, 13)]
    assert [tick.step for tick in ticks if partials.frame(tick)] == told
