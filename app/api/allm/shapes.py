"""ALLM's tagged JSON: `{"__type__": …, "data": {…}}`, every field always there."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

REQUEST, RESPONSE, USAGE, IMAGE = "ALLM.ImageRequest", "ALLM.ImageResponse", "ALLM.ImageUsage", "ALLM.Image"
VALIDATION_ERROR, ADAPTER_ERROR = "ALLM.Error.ValidationError", "ALLM.Error.ImageAdapterError"


class AllmRequestData(Struct, frozen=True, kw_only=True):
    """What is asked for. Null and what is left out are the same."""

    operation: Annotated[str | None, Meta(description="`generate`, `edit` or `variation`", examples=["generate"])] = (
        None
    )
    model: Annotated[Any, Meta(description="a model of /v1/models; null: the default")] = None
    prompt: Annotated[Any, Meta(description="a text; none for a variation")] = None
    n: Annotated[Any, Meta(description="how many pictures")] = None
    size: Annotated[Any, Meta(description="`[width, height]`, `WIDTHxHEIGHT` or `auto`")] = None
    quality: Annotated[Any, Meta(description="`low`, `standard`, `high`, `hd`, `auto`: how many steps")] = None
    style: Annotated[Any, Meta(description="`natural` or `vivid`: words at the end of the prompt")] = None
    background: Annotated[Any, Meta(description="`opaque`; `transparent` can't be had")] = None
    response_format: Annotated[str | None, Meta(description="`binary`, `base64` or `url`")] = None
    input_images: Annotated[Any, Meta(description="tagged images: one or two for an edit, one for a variation")] = None
    mask: Annotated[Any, Meta(description="a tagged image: transparent, or white, is what is painted anew")] = None
    options: Annotated[Any, Meta(description="further settings: `seed`, `steps`, `negative_prompt`, …")] = None
    metadata: Annotated[Any, Meta(description="an object that comes back as it is")] = None


class AllmBody(AllmRequestData, frozen=True, kw_only=True):
    """The tagged request; without a tag its data alone."""

    tag: Annotated[str, Meta(description="ALLM.ImageRequest")] | UnsetType = field(name="__type__", default=UNSET)
    data: AllmRequestData | UnsetType = UNSET


class AllmSource(Struct, frozen=True):
    """Where the bytes are: `binary` and `base64` hold them as base64."""

    type: Literal["binary", "base64", "url"]
    value: str


class AllmImageData(Struct, frozen=True):
    """A picture."""

    source: AllmSource
    mime_type: str
    width: int | None
    height: int | None
    prompt: str | None
    revised_prompt: None
    metadata: dict[str, Any]


class AllmImage(Struct, frozen=True):
    tag: str = field(name="__type__")
    data: AllmImageData


class AllmUsageData(Struct, frozen=True):
    """What it took: pictures, and neither tokens nor money."""

    images: int
    size: str | None
    quality: str | None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_cost: float | None = None
    output_cost: float | None = None
    total_cost: float | None = None


class AllmUsage(Struct, frozen=True):
    tag: str = field(name="__type__")
    data: AllmUsageData


class AllmResponseData(Struct, frozen=True):
    """What was made. `raw` names the fields of the request that had no effect."""

    id: str
    request_id: str
    model: str
    images: list[AllmImage]
    usage: AllmUsage
    raw: dict[str, Any] | None
    metadata: dict[str, Any]


class AllmResponse(Struct, frozen=True):
    tag: str = field(name="__type__")
    data: AllmResponseData


class AllmErrorData(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong: `errors` where the request is wrong in itself, `status` for what went wrong later."""

    reason: str
    message: str
    errors: Annotated[list[Any] | UnsetType, Meta(description="pairs of a field, or a path to it, and a word")] = UNSET
    provider: UnsetType | None = UNSET
    status: int | UnsetType = UNSET
    retry_after_ms: int | UnsetType | None = UNSET
    cause: None
    metadata: dict[str, Any]


class AllmError(Struct, frozen=True):
    tag: str = field(name="__type__")
    data: AllmErrorData
