"""llama.go's field names (contract: its Go types of January 2026), in and out. Cleaner than there: docs/llamago.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app import clock
from app.api.llamago.shapes import (
    LlamaChoice,
    LlamaDetails,
    LlamaGenerate,
    LlamaLoaded,
    LlamaModalities,
    LlamaModel,
    LlamaOpenModel,
    LlamaProps,
    LlamaReply,
    LlamaSettings,
    LlamaShown,
    LlamaTimings,
    LlamaUsage,
)
from app.api.ollama.values import read_keep_alive
from app.api.operation import read_value
from app.api.pictures.asked import EDIT, GENERATE, INPAINT, GivenPicture, PictureRequest
from app.api.pictures.extras import expected_of, input_named
from app.api.pictures.given import decoded, picture_in
from app.api.run_headers import RunHeaders
from app.artifacts.incoming import Limits
from app.checkpoints.checkpoint import Checkpoint
from app.domain.request import Caller
from app.domain.run import Run
from app.errors import InvalidParam
from app.runs.models import Model
from app.runs.residency import Housed, together

USER = "llamago"
"""Whose the runs are: a request names nobody."""

N_CTX = 77
"""Tokens that a text encoder of Stable Diffusion reads at once; a longer prompt is read in chunks of so many."""

CAPABILITIES = ["image", "vision"]
VERSION = version("atelier")
FINGERPRINT = f"atelier-{VERSION}"

_FOR_EVER_S = 292 * 365.25 * 86400  # what Go can say of a length of time
_OWN = frozenset(LlamaGenerate.__struct_fields__) | {"format"}  # of a text, as its Go type has it


async def read_generate(body: dict[str, Any], limits: Limits, headers: RunHeaders, caller: Caller) -> PictureRequest:
    """The request of `generate`. Settings of the picture may stand in `options`, as there, or beside it.

    Raises InvalidParam, BadRequest, FileTooLarge.
    """
    asked = read_value(body, LlamaGenerate)
    if not asked.prompt:
        raise InvalidParam("prompt is required", params="prompt")
    options = dict(asked.options or {})
    beside = {name: value for name, value in body.items() if name not in _OWN}
    pictures = await _pictures(asked.images or [], _mask(options, beside), limits)
    document = INPAINT if "mask" in pictures else EDIT if pictures else GENERATE
    inputs = {**_settings(document, beside), **_settings(document, options, "options."), "prompt": asked.prompt}
    if asked.keep_alive is not None:
        inputs["keep_alive_s"] = read_keep_alive(asked.keep_alive)
    return PictureRequest(
        dialect="llamago",
        document=document,
        caller=caller,
        user=USER,
        model=asked.model or "",
        inputs=inputs,
        pictures=pictures,
        headers=headers,
        streams=asked.stream is not False,
    )


def _settings(document: str, given: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Those that mean something here. The rest are for text, and as in llama.go they change nothing.

    Raises InvalidParam for a value of another type.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        stands_for = input_named(document, name)
        if value is None or stands_for is None:
            continue
        if expected := expected_of(document, name, value):
            raise InvalidParam(f"{place}{name} must be {expected}", params=place + name)
        found[stands_for] = value
    return found


def _mask(options: Mapping[str, Any], beside: Mapping[str, Any]) -> tuple[str, Any] | None:
    """(where it stands, what is there)."""
    named = (("options.mask", options.get("mask")), ("mask", beside.get("mask")))
    return next(((place, mask) for place, mask in named if mask is not None), None)


async def _pictures(
    images: Sequence[str], mask: tuple[str, Any] | None, limits: Limits
) -> dict[str, tuple[GivenPicture, ...]]:
    given = [await _picture(text, f"images[{i}]", limits) for i, text in enumerate(images)]
    found = {"image": given[:1], "reference": given[1:]}
    if mask is not None:
        place, text = mask
        if not given:
            raise InvalidParam(f"{place} needs the picture that it belongs to, in images", params=place)
        found["mask"] = [await _picture(text, place, limits)]
    return {name: tuple(pictures) for name, pictures in found.items() if pictures}


async def _picture(text: Any, place: str, limits: Limits) -> GivenPicture:
    content = decoded(text) if isinstance(text, str) else None
    if content is None:
        raise InvalidParam(f"{place} is no base64", params=place)
    return await picture_in(content, place, limits)


def progress_piece(run: Run, model: Model, completed: int, total: int) -> LlamaReply:
    """How far it is, as a piece of text that is empty."""
    return _reply(run, model, [_choice("", 0)], completed=completed, total=total)


def picture_piece(run: Run, model: Model, url: str, index: int, image: str) -> LlamaReply:
    """A picture. `image` stands for its base64; empty: it is too large for a line."""
    return _reply(run, model, [_choice(url, index)], image=image)


def last_piece(run: Run, model: Model, made: int) -> LlamaReply:
    """The end: no text any more, and what it took."""
    return _reply(run, model, [_choice("", 0, done=True)], **_taken(run, made))


def whole_reply(run: Run, model: Model, urls: Sequence[str], images: Sequence[str]) -> LlamaReply:
    """All at once. `images` stand for the base64 of each; empty: they are too large for a line."""
    choices = [_choice(url, i, done=True) for i, url in enumerate(urls)]
    shown: dict[str, Any] = {"image": images[0]} if len(images) == 1 else {"images": list(images)}
    return _reply(run, model, choices, **shown, **_taken(run, len(urls)))


def _reply(run: Run, model: Model, choices: list[LlamaChoice], **rest: Any) -> LlamaReply:
    return LlamaReply(
        choices, int(clock.time()), model.name, FINGERPRINT, "text_completion", f"chatcmpl-{run.id}", **rest
    )


def _choice(text: str, index: int, *, done: bool = False) -> LlamaChoice:
    return LlamaChoice(text, index, None, "stop" if done else None)


def _taken(run: Run, made: int) -> dict[str, Any]:
    took_ms = round(run.elapsed_s * 1000, 3)
    return {"usage": LlamaUsage(0, 0, 0), "timings": LlamaTimings(0, 0, 0.0, made, took_ms)}


def props(default: Checkpoint, slots: int) -> LlamaProps:
    params = {"n_predict": -1, "temperature": 0.0}
    return LlamaProps(
        default_generation_settings=LlamaSettings(params, N_CTX),
        n_ctx=N_CTX,
        total_slots=slots,
        model_path=default.name,
        modalities=LlamaModalities(vision=True, audio=False),
        endpoint_slots=False,
        endpoint_props=False,
        endpoint_metrics=False,
        webui=False,
        chat_template="",
        bos_token="",
        eos_token="",
        build_info=FINGERPRINT,
    )


def listed(models: Iterable[Model]) -> list[LlamaModel]:
    """The newest file first, as there."""
    found = [(_changed_at(model.checkpoint), model) for model in models]
    return [
        LlamaModel(model.name, model.name, model.checkpoint.size_bytes, _moment(at), "", details(model.checkpoint))
        for at, model in sorted(found, key=lambda pair: (-pair[0], pair[1].name))
    ]


def shown(model: Model) -> LlamaShown:
    at = _moment(_changed_at(model.checkpoint))
    return LlamaShown(model.name, details(model.checkpoint), {}, CAPABILITIES, at)


def loaded(housed: Iterable[Housed], models: Iterable[Model]) -> list[LlamaLoaded]:
    """What is in memory, the one that stays the longest first."""
    known, now_s = {model.checkpoint.name: model.checkpoint for model in models}, clock.time()
    return [
        LlamaLoaded(
            name=resident.checkpoint,
            model=resident.checkpoint,
            size=resident.size,
            digest="",
            details=details(known[resident.checkpoint]),
            expires_at=_moment(now_s + min(resident.stays_s, _FOR_EVER_S)),
            size_vram=resident.vram_size,
            context_length=N_CTX,
        )
        for resident in together(housed)
        if resident.checkpoint in known
    ]


def open_model(model: Model, name: str = "") -> LlamaOpenModel:
    """As OpenAI's clients know it, under the name that it was asked for by."""
    return LlamaOpenModel(name or model.name, "model", int(_changed_at(model.checkpoint)), "atelier")


def details(checkpoint: Checkpoint) -> LlamaDetails:
    kind, family = Path(checkpoint.path).suffix.removeprefix(".") or "diffusers", checkpoint.family or ""
    return LlamaDetails("", kind, family, [family] if family else [], "", "")


def _changed_at(checkpoint: Checkpoint) -> float:
    """When its file was put there, in seconds since 1970; 0 for one that has just been taken away."""
    try:
        return Path(checkpoint.path).stat().st_mtime
    except OSError:
        return 0.0


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
