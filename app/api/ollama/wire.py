"""Ollama's field names for pictures (contract: v0.32.5), in and out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from app.api.ollama.go_json import from_base64
from app.api.ollama.looks import defaults_of
from app.api.ollama.shapes import OllamaChatted, OllamaGenerated, OllamaGenerateRequest, OllamaMessage
from app.api.ollama.values import moment, quoted, read_keep_alive
from app.api.pictures.asked import EDIT, GENERATE, INPAINT, GivenPicture, PictureRequest
from app.api.pictures.extras import input_named
from app.api.pictures.runs import Made
from app.api.pictures.sizes import size_inputs
from app.api.run_headers import RunHeaders
from app.domain.request import Caller
from app.errors import BadRequest
from app.graph.nodes.start import StartVariable
from app.graph.tools.image_parameters import WIDEST
from app.runs.models import Model
from app.runs.shipped import shipped

VERSION = "0.32.5"
"""The last one that paints: later ones refuse to, and clients look at it."""

USER = "ollama"
"""Whose its runs and files are: the dialect names no users."""

LOAD = "keep-checkpoint"
"""The document that loads a checkpoint, or unloads it."""

_LARGEST = 4096
_OWN = frozenset({"prompt", "seed", "width", "height", "steps", "n", "keep_alive_s", "previews", "fit_size"})
_INTEGERS = frozenset({"steps", "clip_skip", "quality", "seed", "width", "height"})
_SIZES = ("width", "height", "steps", "num_inference_steps", "seed", "mask")


Told = OllamaGenerated | OllamaChatted
"""That a model has come or gone, as the caller asked for it."""


class Generation(msgspec.Struct, frozen=True):
    """A request of `/api/generate`, read as far as it can be without knowing its model."""

    body: OllamaGenerateRequest
    keep_alive_s: float | None
    options: Mapping[str, Any]
    width: int
    height: int
    steps: int

    @property
    def model(self) -> str:
        return self.body.model or self.body.name

    @property
    def streams(self) -> bool:
        return self.body.stream is not False

    @property
    def unloads(self) -> bool:
        return not self.body.prompt and self.keep_alive_s == 0


def read_generation(body: OllamaGenerateRequest) -> Generation:
    """Raises BadRequest for what Go could not read."""
    keep_alive_s = read_keep_alive(body.keep_alive)
    check_logprobs(body.top_logprobs)
    options = {name: value for name, value in body.options.items() if value is not None}
    width = body.width or _integer(options, "width")
    height = body.height or _integer(options, "height")
    steps = body.steps or _integer(options, "steps") or _integer(options, "num_inference_steps")
    return Generation(body, keep_alive_s, options, width, height, steps)


def check_logprobs(most: int) -> None:
    """Raises BadRequest."""
    if not 0 <= most <= 20:
        raise BadRequest("top_logprobs must be between 0 and 20")


def check_size(asked: Generation) -> None:
    """Raises BadRequest."""
    if asked.width > _LARGEST or asked.height > _LARGEST:
        raise BadRequest(f"width and height must be <= {_LARGEST}")


def picture_request(
    asked: Generation, model: Model, given: Mapping[str, tuple[GivenPicture, ...]], headers: RunHeaders, caller: Caller
) -> PictureRequest:
    """What is to be painted. Raises BadRequest for an option of another type."""
    document = INPAINT if "mask" in given else EDIT if given else GENERATE
    return PictureRequest(
        dialect="ollama",
        document=document,
        caller=caller,
        user=USER,
        found=model,
        inputs=_inputs(asked, model, document),
        pictures=given,
        headers=headers,
        streams=asked.streams,
    )


def load_request(model: Model, keep_alive_s: float | None, headers: RunHeaders, caller: Caller) -> PictureRequest:
    """The model is to come into memory for so long; 0: it is to go."""
    kept = {} if keep_alive_s is None else {"keep_alive_s": keep_alive_s}
    return PictureRequest(
        dialect="ollama", document=LOAD, caller=caller, user=USER, found=model, inputs=kept, headers=headers
    )


def _inputs(asked: Generation, model: Model, document: str) -> dict[str, Any]:
    inputs: dict[str, Any] = {"prompt": asked.body.prompt, "n": 1}
    extras = _extras(asked.options, document)
    if asked.width > 0 or asked.height > 0:
        inputs |= _size(asked, model, document) | {"fit_size": True}
    if "upscale" in inputs:
        extras["upscale"] = inputs["upscale"] * extras.get("upscale", 1)
    if asked.steps > 0:
        inputs["steps"] = asked.steps
    if asked.keep_alive_s is not None:
        inputs["keep_alive_s"] = asked.keep_alive_s
    if "seed" in asked.options:
        seed = _integer(asked.options, "seed")
        inputs["seed"] = seed if seed > 0 else -1
    return inputs | extras


def _size(asked: Generation, model: Model, document: str) -> dict[str, int]:
    """Of a picture that is changed, a side that is left open follows from the other."""
    width, height = asked.width, asked.height
    if document == GENERATE and max(width, height) > WIDEST:
        own = defaults_of(model)
        width, height = (side if side > 0 else own[name] for name, side in (("width", width), ("height", height)))
    return size_inputs(width, height)


def _extras(options: Mapping[str, Any], document: str) -> dict[str, Any]:
    """The document's inputs that options name. What they do not know is passed over, as Ollama does."""
    kinds = {variable.name: variable for variable in shipped(document).graph.start.variables}
    found: dict[str, Any] = {}
    said: dict[str, str] = {}
    for name, value in options.items():
        stands_for = None if name in _SIZES else input_named(document, name)
        if stands_for is None or stands_for in _OWN:
            continue
        if stands_for in found:
            both = f"options {quoted(said[stands_for])} and {quoted(name)}"
            raise BadRequest(f"{both} are the same setting: give one of them")
        found[stands_for], said[stands_for] = _typed(name, value, kinds[stands_for]), name
    return found


def _typed(name: str, value: Any, variable: StartVariable) -> Any:
    """Raises BadRequest for a value of another type."""
    if variable.name in _INTEGERS:
        return _integer({name: value}, name)
    if variable.type == "number":
        fits, kind = isinstance(value, int | float) and not isinstance(value, bool), "float32"
    elif variable.type == "checkbox":
        fits, kind = isinstance(value, bool), "boolean"
    else:
        fits, kind = isinstance(value, str), "string"
    if not fits:
        raise BadRequest(f"option {quoted(name)} must be of type {kind}")
    return value


def _integer(options: Mapping[str, Any], name: str) -> int:
    """0 for an option that is not there. Raises BadRequest for one of another type."""
    value = options.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"option {quoted(name)} must be of type integer")
    return int(value) if abs(value) < 2**63 else 0


def read_mask(options: Mapping[str, Any]) -> bytes:
    """The picture of `options.mask`; empty for none. Raises BadRequest."""
    mask = options.get("mask", "")
    if not isinstance(mask, str):
        raise BadRequest('option "mask" must be of type string')
    return from_base64(mask)


class Lines:
    """The lines of a stream: how far the picture of `model` is. Each number is told once, in order."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._total = 0
        self._next = 0

    def upto(self, step: int, total: int) -> bytes:
        """Those of the steps to this one that have not been told; empty when there are none."""
        self._total = self._total or total
        return b"".join(self._untold(min(step, self._total)))

    def _untold(self, step: int) -> Iterator[bytes]:
        while self._next <= step:
            told = OllamaGenerated(
                model=self._model,
                created_at=now(),
                response="",
                done=False,
                completed=self._next,
                total=self._total,
            )
            self._next += 1
            yield as_json(told) + b"\n"

    def rest(self, total: int) -> bytes:
        """All that are left, once the picture is painted."""
        return self.upto(self._total or total, total) if self._total or total else b""


def generated(model: str, made: Made, place: str) -> OllamaGenerated:
    """The picture. `place`: what stands for its base64."""
    return OllamaGenerated(
        model=model,
        created_at=now(),
        response="",
        done=True,
        done_reason="stop",
        total_duration=int(made.times.total_s * 1e9),
        load_duration=int((made.times.queued_s + (made.times.load_s or 0.0)) * 1e9),
        image=place,
    )


def loaded(model: str, reason: str) -> OllamaGenerated:
    """That the model has come into memory (`load`), or gone (`unload`)."""
    return OllamaGenerated(model=model, created_at=now(), response="", done=True, done_reason=reason)


def unloaded_from_chat(model: str) -> OllamaChatted:
    """That the model has gone, to who asked for it by a chat without messages."""
    return OllamaChatted(model, now(), OllamaMessage("assistant", ""), True, "unload")


def now() -> str:
    return moment(time.time_ns())


def as_json(value: Any) -> bytes:
    """In ASCII: some clients take line separators of other scripts for ends of lines."""
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode()
