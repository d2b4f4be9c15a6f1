"""The bodies of Ollama's requests and answers. A request's class is called as Go's, behind `Ollama`: errors name it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Int32 = Annotated[int, Meta(ge=-(2**31), lt=2**31)]
Model = Annotated[
    str, Meta(description="A checkpoint or a preset, with or without its tag.", examples=["atelier-shapes"])
]
KeepAlive = Annotated[
    Any,
    Meta(
        description="How long the model stays in memory afterwards: seconds, or a duration such as 5m; 0: not at all; "
        "negative: until others need the room.",
        examples=["5m", 0, -1],
    ),
]


class OllamaGenerateRequest(msgspec.Struct):
    """A picture. Without a prompt the model is only loaded, or unloaded with `keep_alive` 0."""

    model: Model = ""
    name: Annotated[str, Meta(description="The same as `model`.")] = ""
    prompt: Annotated[str, Meta(description="What the picture shows.", examples=["a red circle"])] = ""
    stream: Annotated[bool | None, Meta(description="false: one answer; else a line for each step, too.")] = None
    keep_alive: KeepAlive = None
    images: Annotated[
        list[bytes],
        Meta(description="Pictures as base64: the first is painted anew, further ones are references."),
    ] = []
    width: Annotated[Int32, Meta(description="Pixels; 0: the checkpoint's own.", examples=[64])] = 0
    height: Annotated[Int32, Meta(description="Pixels; 0: the checkpoint's own.", examples=[64])] = 0
    steps: Annotated[Int32, Meta(description="Denoising steps; 0: the checkpoint's own.", examples=[4])] = 0
    options: Annotated[
        dict[str, Any],
        Meta(description="`seed` and what docs/ollama.md lists; unknown ones are passed over.", examples=[{"seed": 7}]),
    ] = {}
    top_logprobs: Annotated[Int32, Meta(description="Only checked: 0 to 20.")] = 0


class OllamaChatRequest(msgspec.Struct):
    """A conversation, which no checkpoint leads."""

    model: Model = ""
    name: Annotated[str, Meta(description="The same as `model`.")] = ""
    messages: Annotated[list[Any], Meta(description="What was said; empty with `keep_alive` 0: the model goes.")] = []
    keep_alive: KeepAlive = None
    think: Annotated[Any, Meta(description="Whether it is to think first.")] = None
    top_logprobs: Annotated[Int32, Meta(description="Only checked: 0 to 20.")] = 0


class OllamaEmbedRequest(msgspec.Struct):
    """Texts, which no checkpoint embeds."""

    model: Model = ""
    input: Annotated[Any, Meta(description="A text or several.")] = None
    keep_alive: KeepAlive = None


class OllamaEmbeddingRequest(msgspec.Struct):
    """A text, which no checkpoint embeds."""

    model: Model = ""
    prompt: Annotated[str, Meta(description="The text.")] = ""
    keep_alive: KeepAlive = None


class OllamaShowRequest(msgspec.Struct):
    """Which model, and whether with its tensors."""

    model: Model = ""
    name: Annotated[str, Meta(description="The same as `model`.")] = ""
    verbose: Annotated[bool, Meta(description="With a list of its tensors.")] = False
    system: Annotated[str, Meta(description="Shown as its system text.")] = ""


class OllamaImageGenerationRequest(msgspec.Struct):
    """A picture, as Ollama 0.14.0 to 0.14.2 was asked for it."""

    model: Model = ""
    prompt: Annotated[str, Meta(description="What the picture shows.", examples=["a red circle"])] = ""
    n: Annotated[Int32, Meta(description="Always one.")] = 0
    size: Annotated[str, Meta(description="Width x height; what can't be read counts as 1024.")] = ""
    response_format: Annotated[str, Meta(description="Always b64_json.")] = ""
    stream: Annotated[bool, Meta(description="Events: progress, then done or error.")] = False


class CompatibleRequest(msgspec.Struct):
    """A request of OpenAI's clients for text, which no checkpoint writes."""

    model: Model = ""
    messages: Annotated[list[Any], Meta(description="With chat completions: what was said.")] = []
    input: Annotated[Any, Meta(description="With embeddings and responses: the texts.")] = None
    encoding_format: Annotated[str, Meta(description="With embeddings: float or base64.")] = ""


class OllamaVersion(msgspec.Struct):
    version: str


class OllamaCloud(msgspec.Struct):
    disabled: bool
    source: str


class OllamaStatus(msgspec.Struct):
    """There is no cloud."""

    cloud: OllamaCloud


class OllamaDetails(msgspec.Struct, omit_defaults=False):
    """What a model is made of."""

    parent_model: Annotated[str, Meta(description="Of a preset: its checkpoint.")]
    format: str
    family: Annotated[str, Meta(description="diffusers' name for its kind of pipeline")]
    families: list[str] | None
    parameter_size: Annotated[str, Meta(examples=["859.52M"])]
    quantization_level: Annotated[str, Meta(examples=["F16"])]


class OllamaModel(msgspec.Struct):
    """A model that is installed."""

    name: str
    model: str
    modified_at: str
    size: Annotated[int, Meta(description="bytes of its files")]
    digest: Annotated[str, Meta(description="SHA-256 of its file; zeros until it has been reckoned")]
    details: OllamaDetails
    capabilities: list[str]


class OllamaModels(msgspec.Struct):
    """The newest first."""

    models: list[OllamaModel]


class OllamaLoadedModel(msgspec.Struct):
    """A model in memory."""

    name: str
    model: str
    size: Annotated[int, Meta(description="bytes in memory, those on GPUs included")]
    digest: str
    details: OllamaDetails
    expires_at: Annotated[str, Meta(description="when it is unloaded, if nobody asks for it")]
    size_vram: Annotated[int, Meta(description="bytes on GPUs")]
    context_length: Literal[0] = 0


class OllamaLoadedModels(msgspec.Struct):
    """The one that stays longest first."""

    models: list[OllamaLoadedModel]


class OllamaTensor(msgspec.Struct):
    name: str
    type: str
    shape: list[int]


class OllamaShown(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A model with everything that is known of it; what is empty is left out."""

    license: str = ""
    modelfile: str = ""
    parameters: Annotated[str, Meta(description="what it paints with where a request says nothing")] = ""
    template: str = ""
    system: str = ""
    details: OllamaDetails
    model_info: dict[str, Any]
    tensors: list[OllamaTensor] = []
    capabilities: list[str]
    modified_at: str


class OllamaGenerated(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far a picture is, or the picture, or that a model has been loaded or unloaded."""

    model: str
    created_at: str
    response: Literal[""]
    done: bool
    done_reason: str = ""
    total_duration: Annotated[int, Meta(description="nanoseconds, from the acceptance on")] = 0
    load_duration: Annotated[int, Meta(description="nanoseconds until the painting began")] = 0
    image: Annotated[str, Meta(description="base64")] = ""
    completed: int = 0
    total: int = 0


class OllamaMessage(msgspec.Struct):
    role: str
    content: str


class OllamaChatted(msgspec.Struct):
    """That a model has been unloaded."""

    model: str
    created_at: str
    message: OllamaMessage
    done: bool
    done_reason: str


class OllamaEmbedded(msgspec.Struct):
    """No text, no embeddings."""

    model: str
    embeddings: list[list[float]]


class OllamaEmbedding(msgspec.Struct):
    """No text, no embedding."""

    embedding: list[float]


class EarlyPicture(msgspec.Struct, omit_defaults=True):
    b64_json: str = ""


class EarlyPictures(msgspec.Struct):
    """One picture."""

    created: int
    data: list[EarlyPicture]
