"""ALLM's requests as what is to be painted, and what was painted as ALLM's response."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.api.allm.decode import AllmPicture, AllmRequest
from app.api.allm.errors import PromptTooLong, Unsupported
from app.api.allm.shapes import (
    IMAGE,
    RESPONSE,
    USAGE,
    AllmImage,
    AllmImageData,
    AllmResponse,
    AllmResponseData,
    AllmSource,
    AllmUsage,
    AllmUsageData,
)
from app.api.openai.profiles import profile_of
from app.api.pictures.asked import EDIT, GENERATE, INPAINT, VARIATION, GivenPicture, PictureRequest
from app.api.pictures.extras import expected_of, read_extras
from app.api.pictures.given import decoded, picture_in
from app.api.pictures.wishes import STYLES, effort_of, styled
from app.api.run_headers import RunHeaders
from app.artifacts.incoming import Limits
from app.artifacts.masks import is_mask_of
from app.domain.artifact import Picture
from app.domain.recipe import MOST_WORDS
from app.domain.request import Caller
from app.domain.run import Run
from app.errors import InvalidParam
from app.runs.models import Model

USER = "allm"
"""Whose the runs are that name nobody."""

_SIZE = re.compile(r"([0-9]{1,5})[xX]([0-9]{1,5})")
_DOCUMENTS = {"generate": GENERATE, "edit": EDIT, "variation": VARIATION}


async def read_request(asked: AllmRequest, limits: Limits, headers: RunHeaders, caller: Caller) -> PictureRequest:
    """What a valid request asks for. Raises InvalidParam, Unsupported, PromptTooLong, FileTooLarge."""
    pictures = await _pictures(asked, limits)
    document = INPAINT if "mask" in pictures else _DOCUMENTS[asked.operation]
    options = _options(asked)
    user, model = options.pop("user", None), _text(asked.model, "model")
    is_openais = bool(model) and profile_of(model).is_openais  # of which nobody knows what stands in for it
    inputs = _inputs(asked, document, options)
    return PictureRequest(
        dialect="allm",
        document=document,
        caller=caller,
        user=_user(user),
        model=model,
        or_default=is_openais,
        effort=effort_of(asked.quality) if isinstance(asked.quality, str) else "",
        inputs=inputs | ({"fit_size": True} if is_openais and "width" in inputs else {}),
        pictures=pictures,
        headers=headers,
    )


def _user(asked: Any) -> str:
    """Whom the option names, without a character that no database stores."""
    return (asked.replace("\0", "").strip() if isinstance(asked, str) else "") or USER


def left_out(asked: AllmRequest) -> list[str]:
    """Fields that had no effect, though they were right."""
    idle = {
        "mask": asked.mask is not None and asked.operation != "edit",
        "style": _style(asked) != "" and asked.operation == "variation",
    }
    return [name for name, is_idle in idle.items() if is_idle]


def _inputs(asked: AllmRequest, document: str, options: Mapping[str, Any]) -> dict[str, Any]:
    said = read_extras(document, options, _unknown_option)
    for name, value in options.items():
        if value is not None and (expected := expected_of(document, name, value)):
            raise InvalidParam(f"options.{name} must be {expected}", params=f"options.{name}")
    fields: dict[str, Any] = {"n": asked.n, **_size(asked.size)}
    if asked.operation != "variation":
        fields["prompt"] = styled(_prompt(asked.prompt), _style(asked))
    for name in said.keys() & fields.keys():
        raise InvalidParam(f"options.{name}: the request says this in a field of its own", params=f"options.{name}")
    if asked.background == "transparent":
        raise Unsupported("background: a checkpoint paints no transparency; ask for 'opaque'", params="background")
    return {**said, **fields}


def _style(asked: AllmRequest) -> str:
    """Empty for none, and for a word that is some other field's."""
    return asked.style if isinstance(asked.style, str) and asked.style in STYLES else ""


def _options(asked: AllmRequest) -> dict[str, Any]:
    if not isinstance(asked.options, dict):
        raise InvalidParam("options must be an object", params="options")
    return dict(asked.options)


def _unknown_option(name: str) -> InvalidParam:
    return InvalidParam(f"options.{name[:60]}: there is no such setting", params=f"options.{name[:60]}")


def _prompt(prompt: str) -> str:
    if len(prompt) > MOST_WORDS:
        said = f"prompt: at most {MOST_WORDS} characters are read, got {len(prompt)}"
        raise PromptTooLong(said, params="prompt")
    return prompt


def _size(size: Any) -> dict[str, int]:
    """Raises InvalidParam for a text that is no size; `auto` and nothing leave it to the checkpoint or the picture."""
    if size is None or size == "auto":
        return {}
    if isinstance(size, str):
        found = _SIZE.fullmatch(size)
        if found is None:
            raise InvalidParam(f"size must be 'WIDTHxHEIGHT' or 'auto', got '{size[:40]}'", params="size")
        size = [int(found[1]), int(found[2])]
    return {"width": size[0], "height": size[1]}


def _text(value: Any, name: str) -> str:
    if value is not None and not isinstance(value, str):
        raise InvalidParam(f"{name} must be a text", params=name)
    return value or ""


async def _pictures(asked: AllmRequest, limits: Limits) -> dict[str, tuple[GivenPicture, ...]]:
    """By the document's variables. Of an edit's two pictures the second is its mask if it can be one, and there is none
    yet; else it is a reference."""
    if asked.operation == "generate":
        return {}
    named = [(each, f"input_images[{i}]") for i, each in enumerate(asked.input_images)]
    if asked.mask is not None and asked.operation == "edit":
        roles = [*("image", "reference")[: len(named)], "mask"]
        named.append((asked.mask, "mask"))
    else:
        roles = ["image", "mask" if await _has_mask([each for each, _ in named]) else "reference"][: len(named)]
    given = [await _given(picture, place, limits) for picture, place in named]
    return {role: (picture,) for role, picture in zip(roles, given, strict=True)}


async def _has_mask(pictures: Sequence[AllmPicture]) -> bool:
    contents = [each.content or decoded(each.value) for each in pictures if each.source in ("binary", "base64")]
    if len(contents) != 2 or not all(contents):
        return False  # what is still to be fetched can't be looked at
    return await asyncio.to_thread(is_mask_of, contents[0] or b"", contents[1] or b"")


async def _given(picture: AllmPicture, place: str, limits: Limits) -> GivenPicture:
    match picture.source:
        case "url":
            return GivenPicture(url=picture.value)
        case "file":
            raise Unsupported(f"{place}: a file of your machine can't be read here; send its bytes", params=place)
        case "base64":
            content = decoded(picture.value)
            if content is None:
                raise InvalidParam(f"{place}: this is no base64", params=place)
            return await picture_in(content, place, limits)
    return await picture_in(picture.content, place, limits)


def response(
    asked: AllmRequest, run: Run, model: Model, made: Sequence[tuple[Picture, str]], request_id: str
) -> AllmResponse:
    """`made`: each picture with what stands for its bytes or its URL."""
    prompt = asked.prompt if isinstance(asked.prompt, str) and asked.prompt else None
    images = [_image(picture, AllmSource(asked.response_format, value), prompt) for picture, value in made]
    first = made[0][0] if made else None
    size = f"{first.width}x{first.height}" if first and first.width else None
    quality = asked.quality if isinstance(asked.quality, str) else None
    unheard = left_out(asked)
    return AllmResponse(
        RESPONSE,
        AllmResponseData(
            id=run.id,
            request_id=request_id,
            model=model.name,
            images=images,
            usage=AllmUsage(USAGE, AllmUsageData(len(images), size, quality)),
            raw={"left_out": unheard} if unheard else None,
            metadata=asked.metadata,
        ),
    )


def _image(picture: Picture, source: AllmSource, prompt: str | None) -> AllmImage:
    about = {} if picture.seed is None else {"seed": picture.seed}
    return AllmImage(
        IMAGE, AllmImageData(source, picture.mime_type, picture.width, picture.height, prompt, None, about)
    )
