"""OpenAI's field names for pictures (contract: the Images API of 2026), read into what is to be painted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from app.api.openai.errors import InvalidType, InvalidValue, UnknownParameter
from app.api.openai.fields import Fields
from app.api.openai.given import Given
from app.api.openai.profiles import AUTO, CHECKPOINT, Profile, profile_of
from app.api.pictures.asked import EDIT, GENERATE, INPAINT, VARIATION, GivenPicture, PictureRequest
from app.api.pictures.extras import expected_of, read_extras
from app.api.pictures.wishes import EDIT_STRENGTH, STYLES, effort_of, styled
from app.api.run_headers import RunHeaders
from app.domain.request import Caller

EventName = Literal["image_generation", "image_edit"]

NOBODY = "openai"
"""Whose a run is that came without a word about it."""

STRENGTH: Mapping[str, float] = {"low": EDIT_STRENGTH, "high": 0.4}
"""How far an edit goes from its picture, by `input_fidelity`."""

_FORMATS = ("png", "jpeg", "webp")
_ONLY_EDITS = frozenset({"input_fidelity"})
_NOT_VARIATIONS = frozenset(
    {"prompt", "quality", "style", "background", "moderation", "stream", "partial_images", "complexity"}
)


class Look(msgspec.Struct, frozen=True):
    """How the answer is to look. `quality` and `background` are those that OpenAI's clients know; empty: not told."""

    event: EventName = "image_generation"
    urls: bool = False
    streams: bool = False
    partial_images: int = 0
    quality: str = ""
    background: str = ""
    size: str = AUTO
    revised_prompt: str | None = None
    safety_identifier: str | None = None


class Wanted(msgspec.Struct, frozen=True):
    """What is to be painted, and how it is to be told."""

    request: PictureRequest
    look: Look


class Asker(msgspec.Struct, frozen=True):
    """Who asks, and with which headers."""

    caller: Caller
    headers: RunHeaders


def read_generation(fields: Fields, asker: Asker) -> Wanted:
    """The request of `POST /v1/images/generations`. Raises InvalidParam with the field."""
    model, profile = _model(fields)
    fields.refuse(_ONLY_EDITS)
    prompt, style = fields.prompt(profile), fields.choice("style", STYLES)
    prompt = styled(prompt, style)
    inputs = {"prompt": prompt}
    return _wanted(fields, asker, _Asked(GENERATE, model, profile, inputs, revised=prompt if style else None))


def read_edit(fields: Fields, given: Given, asker: Asker) -> Wanted:
    """The request of `POST /v1/images/edits`; several pictures: the first is changed, the others are references."""
    model, profile = _model(fields)
    if not profile.edits:
        raise InvalidValue.of("model", model, ("dall-e-2",))
    fields.refuse({"style", "complexity"})
    given.check(profile)
    inputs: dict[str, Any] = {"prompt": fields.prompt(profile)}
    if fidelity := fields.choice("input_fidelity", ("high", "low")):
        inputs["strength"] = STRENGTH[fidelity]
    pictures = {"image": given.images[:1], "reference": given.images[1:]}
    if given.mask is not None:
        pictures["mask"] = (given.mask,)
    document = EDIT if given.mask is None else INPAINT
    kept = {name: group for name, group in pictures.items() if group}
    return _wanted(fields, asker, _Asked(document, model, profile, inputs, kept, "image_edit"))


def read_variation(fields: Fields, given: Given, asker: Asker) -> Wanted:
    """The request of `POST /v1/images/variations`."""
    model, profile = _model(fields)
    if not profile.varies:
        raise InvalidValue.of("model", model, ("dall-e-2",))
    fields.refuse(_NOT_VARIATIONS | _ONLY_EDITS)
    given.check(msgspec.structs.replace(profile, most_images=1))
    return _wanted(fields, asker, _Asked(VARIATION, model, profile, {}, {"image": given.images}))


class _Asked(msgspec.Struct):
    """What an operation has read of its own before the fields that all have in common."""

    document: str
    model: str
    profile: Profile
    inputs: dict[str, Any]
    pictures: Mapping[str, tuple[GivenPicture, ...]] = {}
    event: EventName = "image_generation"
    revised: str | None = None


def _model(fields: Fields) -> tuple[str, Profile]:
    """Its name, and what it takes."""
    model = fields.text("model")
    profile = profile_of(model) if model else CHECKPOINT
    fields.refuse(profile.unknown)
    return model, profile


def _wanted(fields: Fields, asker: Asker, asked: _Asked) -> Wanted:
    profile, inputs = asked.profile, asked.inputs
    size = fields.size(profile)
    inputs |= size | {"n": fields.integer("n", 1, profile.most_n, 1)}
    effort = fields.choice("complexity", ("low", "medium", "high"))
    quality = fields.choice("quality", profile.qualities)
    quality = effort_of(quality)
    _file(fields, inputs)
    background = _background(fields)
    fields.choice("moderation", ("auto", "low"))  # there is none here: either is as good as done
    user, safety = fields.text("user"), fields.text("safety_identifier")
    look = Look(
        event=asked.event,
        **_delivery(fields, profile),
        quality=quality,
        background=background,
        size=_size_of(size),
        revised_prompt=asked.revised,
        safety_identifier=safety or user or None,
    )
    if look.partial_images:
        inputs["previews"] = True
    request = PictureRequest(
        dialect="openai",
        document=asked.document,
        caller=asker.caller,
        user=user.strip() or safety.strip() or NOBODY,
        model=asked.model,
        or_default=profile.is_openais,
        effort=quality or effort,
        inputs={**inputs, **_extras(asked, fields)},
        pictures=asked.pictures,
        headers=asker.headers,
        streams=look.streams,
    )
    return Wanted(request, look)


def _size_of(inputs: Mapping[str, Any]) -> str:
    """What was asked for, as events say it before there is a picture."""
    if not inputs:
        return AUTO
    width, height = (inputs[side] * inputs.get("upscale", 1) for side in ("width", "height"))
    return f"{width}x{height}"


def _file(fields: Fields, inputs: dict[str, Any]) -> None:
    """Notes among the inputs what kind of file the pictures are to be, where that is said."""
    kind = fields.choice("output_format", _FORMATS)
    compression = fields.integer("output_compression", 0, 100, 100)
    if kind in ("", "png") and compression != 100:
        raise InvalidValue("'output_compression' is for the output formats 'jpeg' and 'webp'.", params="output_format")
    if kind:
        inputs |= {"format": kind} | ({"quality": max(compression, 1)} if kind != "png" else {})


def _background(fields: Fields) -> str:
    background = fields.choice("background", ("transparent", "opaque", AUTO))
    if background == "transparent":
        said = "Invalid value: 'transparent'. Stable Diffusion paints no alpha channel; take 'opaque' or 'auto'."
        raise InvalidValue(said, params="background")
    return "opaque" if background else ""


def _delivery(fields: Fields, profile: Profile) -> dict[str, Any]:
    """By URL, as base64, or as a stream of it."""
    response_format = fields.choice("response_format", ("url", "b64_json"))
    streams, partial = fields.flag("stream"), fields.integer("partial_images", 0, 3, 0)
    if streams and response_format == "url":
        raise InvalidValue("A stream has its pictures as base64: 'response_format' can't be 'url'.", params="stream")
    if partial and not streams:
        raise InvalidValue("'partial_images' are parts of a stream: 'stream' must be true.", params="partial_images")
    urls = not profile.is_gpt and response_format != "b64_json" and not streams
    return {"urls": urls, "streams": streams, "partial_images": partial}


def _extras(asked: _Asked, fields: Fields) -> dict[str, Any]:
    """Everything that is left must be an input of the document; what OpenAI's fields have settled is no extra."""
    extras = read_extras(asked.document, fields.rest, UnknownParameter)
    for name, value in fields.rest.items():
        if expected := expected_of(asked.document, name, value):
            raise InvalidType(name, expected, value)
    for name in extras.keys() & asked.inputs.keys() - {"strength"}:
        raise InvalidValue(f"'{name}' is said twice, by a field of OpenAI's and by itself.", params=name)
    return extras
