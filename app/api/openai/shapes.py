"""OpenAI's bodies and answers for pictures and models, as the documents tell them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

_BINARY = {"format": "binary"}
_EXTRAS = "Besides, any input of the document that runs: seed, steps, negative_prompt, guidance_scale, scheduler, …"

Prompt = Annotated[str, Meta(description="What the picture shows.", min_length=1, max_length=32_000)]
Model = Annotated[str | None, Meta(description="A checkpoint, or a name of OpenAI's, for which the default stands in.")]
Count = Annotated[Annotated[int, Meta(ge=1, le=10)] | None, Meta(description="Pictures to make; left out: 1.")]
Size = Annotated[str | None, Meta(description="WIDTHxHEIGHT or auto; left out: the checkpoint's own.")]
Quality = Annotated[
    Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None,
    Meta(description="How many of the checkpoint's steps are made: half, all, 5/3, 5/2, 10/3 of them."),
]
Delivery = Annotated[
    Literal["url", "b64_json"] | None, Meta(description="Left out: url; models named as GPT's always b64_json.")
]
Background = Annotated[Literal["opaque", "auto"] | None, Meta(description="transparent can't be painted.")]
Moderation = Annotated[Literal["auto", "low"] | None, Meta(description="There is none here.")]
Format = Annotated[Literal["png", "jpeg", "webp"] | None, Meta(description="The file's; left out: png.")]
Compression = Annotated[
    Annotated[int, Meta(ge=0, le=100)] | None, Meta(description="Quality of JPEG and WebP; left out: 100.")
]
Streams = Annotated[bool | None, Meta(description="Answers with events.")]
Partial = Annotated[
    Annotated[int, Meta(ge=0, le=3)] | None, Meta(description="Previews in the stream, at most; left out: none.")
]
Fidelity = Annotated[Literal["high", "low"] | None, Meta(description="A strength of 0.4 or 0.75; left out: low.")]
User = Annotated[str | None, Meta(description="Your name for the end-user.")]
Identifier = Annotated[str | None, Meta(description="Likewise, where there is no user.")]


class GenerationBody(msgspec.Struct, frozen=True):
    __doc__ = f"What is to be painted. {_EXTRAS}"

    prompt: Prompt
    model: Model = None
    n: Count = None
    size: Size = None
    quality: Quality = None
    style: Annotated[
        Literal["vivid", "natural"] | None, Meta(description="Puts some words behind the prompt; not for GPT's names.")
    ] = None
    response_format: Delivery = None
    background: Background = None
    moderation: Moderation = None
    output_format: Format = None
    output_compression: Compression = None
    stream: Streams = None
    partial_images: Partial = None
    user: User = None
    safety_identifier: Identifier = None
    complexity: Annotated[Literal["low", "medium", "high"] | None, Meta(description="As quality, without one.")] = None


class PictureReference(msgspec.Struct, frozen=True):
    """A picture; exactly one of the two."""

    image_url: Annotated[str | None, Meta(description="An address, or a data URL with base64.")] = None
    file_id: Annotated[str | None, Meta(description="Of an upload of the same user, or of a picture made here.")] = None


class EditBody(msgspec.Struct, frozen=True):
    __doc__ = f"Pictures to be changed: `images`, as OpenAI has it, or `image`, as Ollama has it. {_EXTRAS}"

    prompt: Prompt
    images: Annotated[
        list[PictureReference] | None, Meta(description="The first is changed, the others are references.")
    ] = None
    image: Annotated[str | None, Meta(description="A data URL with base64.")] = None
    mask: Annotated[
        PictureReference | str | None, Meta(description="What is transparent in it (or white) is painted anew.")
    ] = None
    model: Model = None
    n: Count = None
    size: Size = None
    quality: Quality = None
    response_format: Delivery = None
    background: Background = None
    moderation: Moderation = None
    input_fidelity: Fidelity = None
    output_format: Format = None
    output_compression: Compression = None
    stream: Streams = None
    partial_images: Partial = None
    user: User = None
    safety_identifier: Identifier = None


class EditForm(msgspec.Struct, frozen=True):
    __doc__ = f"The same as a form. Several pictures are several parts `image[]`. {_EXTRAS}"

    image: Annotated[str, Meta(description="PNG, JPEG or WebP", extra_json_schema=_BINARY)]
    prompt: Prompt
    mask: Annotated[str | None, Meta(description="of the same size", extra_json_schema=_BINARY)] = None
    model: Model = None
    n: Count = None
    size: Size = None
    quality: Quality = None
    response_format: Delivery = None
    background: Background = None
    input_fidelity: Fidelity = None
    output_format: Format = None
    output_compression: Compression = None
    stream: Streams = None
    partial_images: Partial = None
    user: User = None


class VariationForm(msgspec.Struct, frozen=True):
    __doc__ = f"A picture to be painted anew. {_EXTRAS}"

    image: Annotated[str, Meta(description="PNG, JPEG or WebP", extra_json_schema=_BINARY)]
    model: Model = None
    n: Count = None
    size: Size = None
    response_format: Delivery = None
    user: User = None


class TokenDetails(msgspec.Struct, frozen=True):
    text_tokens: int = 0
    image_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Nothing is counted in tokens here."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: TokenDetails = TokenDetails()
    output_tokens_details: TokenDetails = TokenDetails()


class OneImage(msgspec.Struct, frozen=True):
    """A picture: its base64, or where it is. `revised_prompt`: what was painted, where it is not what was asked for."""

    seed: int | None
    b64_json: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    revised_prompt: str | UnsetType = UNSET


class Images(msgspec.Struct, frozen=True):
    """Pictures. `model` is what painted them; what nothing was said of is left out."""

    created: Annotated[int, Meta(description="seconds since 1970")]
    data: list[OneImage]
    model: str
    usage: Usage
    output_format: Literal["png", "jpeg", "webp"]
    size: Annotated[str, Meta(examples=["512x512"])]
    quality: Literal["low", "medium", "high", "xhigh", "max"] | UnsetType = UNSET
    background: Literal["opaque"] | UnsetType = UNSET
    safety_identifier: str | UnsetType = UNSET


class ModelObject(msgspec.Struct, frozen=True):
    """Something that paints."""

    id: str
    created: Annotated[int, Meta(description="when its file was put there, in seconds since 1970")]
    object: Literal["model"] = "model"
    owned_by: str = "atelier"


class ModelList(msgspec.Struct, frozen=True):
    data: list[ModelObject]
    object: Literal["list"] = "list"
