"""Answers and events in OpenAI's field names. What strict clients refuse is left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from app import clock
from app.api.openai.asked import Look
from app.api.openai.errors import error_body
from app.api.openai.profiles import AUTO
from app.api.openai.shapes import Images, ModelObject, OneImage, Usage
from app.api.pictures.answers import Piece, Places
from app.domain.artifact import Picture
from app.domain.event import QueuePosition, Tick
from app.errors import AtelierError
from app.runs.models import Model

_encode = msgspec.json.Encoder().encode
_JPEG = "data:image/jpeg;base64,"
PING = b": ping\n\n"


def images(look: Look, model: str, made: Sequence[Picture], shown: Sequence[str]) -> Images:
    """The answer. `shown`: of each picture its URL, or what stands for its base64."""
    field = "url" if look.urls else "b64_json"
    revised: dict[str, Any] = {"revised_prompt": look.revised_prompt} if look.revised_prompt else {}
    return Images(
        created=int(clock.time()),
        data=[OneImage(each.seed, **{field: text}, **revised) for each, text in zip(made, shown, strict=True)],
        model=model,
        usage=Usage(),
        output_format=_format_of(made[0]),  # type: ignore[arg-type] # the document paints no others
        size=_size_of(made[0]),
        quality=look.quality or UNSET,  # type: ignore[arg-type]
        background=look.background or UNSET,  # type: ignore[arg-type]
        safety_identifier=look.safety_identifier or UNSET,
    )


def comment(news: Tick | QueuePosition) -> bytes:
    """Progress, where clients that know OpenAI's events alone pass over it."""
    if isinstance(news, Tick):
        return b": progress %d/%d\n\n" % (news.step, news.steps)
    return b": queue %d\n\n" % news.queue_position


class Partials:
    """Chooses previews that lie as evenly as they come: at most so many, each further on than the one before."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._told = 0

    def frame(self, tick: Tick) -> bytes:
        """The event of a preview; empty where none is due."""
        most = self._look.partial_images
        if self._told == most or not tick.preview or tick.step * (most + 1) < tick.steps * (self._told + 1):
            return b""
        number, self._told = self._told, self._told + 1
        kind = f"{self._look.event}.partial_image"
        preview = tick.preview.removeprefix(_JPEG)
        told = {"b64_json": preview, "partial_image_index": number, **_about(self._look)}
        return _frame(kind, _encode({"type": kind, **told, "output_format": "jpeg", "size": self._look.size}))


def completed(look: Look, model: str, picture: Picture) -> list[Piece]:
    """The event of a finished picture, in pieces."""
    kind, places = f"{look.event}.completed", Places()
    told = {"b64_json": places.of(picture), "usage": Usage(), **_about(look), "output_format": _format_of(picture)}
    told |= {"size": _size_of(picture), "model": model, "seed": picture.seed}
    if look.revised_prompt:
        told["revised_prompt"] = look.revised_prompt
    return places.cut(_frame(kind, _encode({"type": kind, **told})))


def error_frame(error: AtelierError) -> bytes:
    return _frame("error", _encode(error_body(error)))


def model_object(model: Model, name: str = "") -> ModelObject:
    """`name`: what the model was asked for by."""
    return ModelObject(name or model.name, _created(Path(model.checkpoint.path)))


def _about(look: Look) -> dict[str, Any]:
    """What every event says of the request."""
    safety = {"safety_identifier": look.safety_identifier} if look.safety_identifier else {}
    return {
        "created_at": int(clock.time()),
        "quality": look.quality or AUTO,
        "background": look.background or AUTO,
        **safety,
    }


def _size_of(picture: Picture) -> str:
    return f"{picture.width}x{picture.height}"


def _format_of(picture: Picture) -> str:
    """png, jpeg or webp: a preset may say it, too."""
    return picture.mime_type.partition("/")[2]


def _frame(kind: str, told: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), told)


def _created(path: Path) -> int:
    """When its file came; 0 for one that has gone since."""
    try:
        return int(path.stat().st_mtime)
    except OSError:
        return 0
