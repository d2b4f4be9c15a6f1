"""llama.go's requests and answers, field by field, as its Go types have them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from app.domain.recipe import MOST_WORDS

Name = Annotated[str, Meta(description="A checkpoint, in any case, with or without `:latest`; empty: the default.")]


class LlamaGenerate(Struct, frozen=True, kw_only=True):
    """What `generate` reads. Further fields of llama.go's are for text, and change nothing."""

    model: Name | None = None
    prompt: Annotated[str, Meta(description="What the picture shows.", max_length=MOST_WORDS)]
    stream: Annotated[bool | None, Meta(description="Whether progress is told; left out: it is.")] = None
    images: Annotated[
        list[str] | None,
        Meta(description="Pictures as base64: the first is changed after the prompt, the others are references."),
    ] = None
    options: Annotated[
        dict[str, Any] | None,
        Meta(description="Settings of the picture: `seed`, `steps`, `width`, … Those for text change nothing."),
    ] = None
    keep_alive: Annotated[
        Any,
        Meta(description="How long the checkpoint stays in memory: seconds, or a text such as `5m`; negative: long."),
    ] = None


class LlamaAsked(Struct, frozen=True):
    """Which model is meant."""

    model: Name | None = None


class LlamaChoice(Struct, frozen=True):
    """One picture. `text` is its URL."""

    text: str
    index: int
    logprobs: None
    finish_reason: Literal["stop"] | None


class LlamaUsage(Struct, frozen=True):
    """There are no tokens in a picture."""

    completion_tokens: int
    prompt_tokens: int
    total_tokens: int


class LlamaTimings(Struct, frozen=True):
    """What llama.cpp tells of a text: pictures stand for predicted tokens, milliseconds are the run's."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    predicted_n: int
    predicted_ms: float


class LlamaReply(Struct, frozen=True, omit_defaults=True):
    """A reply, or one piece of a stream."""

    choices: list[LlamaChoice]
    created: int
    model: str
    system_fingerprint: str
    object: Literal["text_completion"]
    id: str
    image: Annotated[str, Meta(description="The picture as base64, where there is one.")] = ""
    images: Annotated[list[str], Meta(description="The pictures as base64, where there are several.")] = []
    completed: Annotated[int, Meta(description="Denoising steps done.")] = 0
    total: Annotated[int, Meta(description="Denoising steps in all.")] = 0
    usage: LlamaUsage | None = None
    timings: LlamaTimings | None = None


class LlamaModalities(Struct, frozen=True):
    """What a model takes besides text."""

    vision: bool
    audio: bool


class LlamaSettings(Struct, frozen=True):
    """What a request has that says nothing else."""

    params: dict[str, Any]
    n_ctx: int


class LlamaProps(Struct, frozen=True):
    """What llama.cpp's server tells of itself; `n_ctx` also where the Go client looks for it."""

    default_generation_settings: LlamaSettings
    n_ctx: Annotated[int, Meta(description="Tokens of a prompt that the text encoder reads at once.")]
    total_slots: Annotated[int, Meta(description="Pictures that a worker paints side by side.")]
    model_path: str
    modalities: LlamaModalities
    endpoint_slots: bool
    endpoint_props: bool
    endpoint_metrics: bool
    webui: bool
    chat_template: str
    bos_token: str
    eos_token: str
    build_info: str


class LlamaDetails(Struct, frozen=True):
    """What a model is."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class LlamaModel(Struct, frozen=True):
    """A model of the list."""

    name: str
    model: str
    size: int
    modified_at: str
    digest: str
    details: LlamaDetails


class LlamaModels(Struct, frozen=True):
    models: list[LlamaModel]


class LlamaShown(Struct, frozen=True):
    """One model. `model_info` is there for clients of Ollama, which can't do without it."""

    modelfile: str
    details: LlamaDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class LlamaLoaded(Struct, frozen=True):
    """A model in the memory of a worker."""

    name: str
    model: str
    size: int
    digest: str
    details: LlamaDetails
    expires_at: str
    size_vram: int
    context_length: int


class LlamaLoadedModels(Struct, frozen=True):
    models: list[LlamaLoaded]


class LlamaOpenModel(Struct, frozen=True):
    """A model as OpenAI's clients know it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class LlamaOpenModels(Struct, frozen=True):
    object: Literal["list"]
    data: list[LlamaOpenModel]


class LlamaVersion(Struct, frozen=True):
    version: str


class LlamaTextError(Struct, frozen=True):
    """What is wrong."""

    error: str


class LlamaErrorDetail(Struct, frozen=True):
    """What is wrong; `code` is the HTTP status."""

    code: int
    message: str
    type: str


class LlamaObjectError(Struct, frozen=True):
    error: LlamaErrorDetail
