"""OpenAI's field names for pictures (contract: the Images API of 2026), in and out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app import clock
from app.api.openai.errors import UnknownParameter
from app.api.pictures.asked import GENERATE, PictureRequest, inputs_of
from app.api.run_headers import RunHeaders
from app.domain.artifact import Artifact
from app.domain.request import Caller
from app.errors import InvalidParam


def read_generation(body: dict[str, Any], headers: RunHeaders, caller: Caller) -> PictureRequest:
    """The request of `POST /v1/images/generations`. Raises InvalidParam with the field."""
    given = {name: value for name, value in body.items() if value is not None}
    prompt = given.pop("prompt", None)
    if not isinstance(prompt, str) or not prompt:
        raise InvalidParam("Missing required parameter: 'prompt'.", params="prompt")
    inputs = {"prompt": prompt}
    model, user = str(given.pop("model", "")), str(given.pop("user", "openai"))
    for name, value in given.items():
        if name not in inputs_of(GENERATE):
            raise UnknownParameter(name)
        inputs[name] = value
    return PictureRequest(
        dialect="openai", document=GENERATE, caller=caller, user=user, model=model, inputs=inputs, headers=headers
    )


def images_response(made: Sequence[Artifact], places: Sequence[str]) -> dict[str, Any]:
    """`places`: what stands for the base64 of each."""
    shown = [{"b64_json": place, "seed": each.seed} for each, place in zip(made, places, strict=True)]
    return {"created": int(clock.time()), "data": shown}
