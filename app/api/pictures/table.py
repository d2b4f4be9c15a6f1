"""What Stable Diffusion has, and how each dialect says it: `docs/dialects.md` as values.

Each cell has a test in `tests/api/test_dialects.py`: it asks in the dialect, and looks at what the worker is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Effect(StrEnum):
    """What becomes of a field."""

    HONOURED = "honoured"  # the setting is what the field says
    MAPPED = "mapped"  # the setting is made of what the field says
    REFUSED = "refused"  # an error, in the dialect's shape, before there is a run
    WITHOUT_EFFECT = "accepted without effect"
    NONE = "none"  # the dialect has no way to say it


class Column(NamedTuple):
    """A form in which pictures are asked for."""

    name: str
    title: str
    where: str


COLUMNS = (
    Column("dify", "Dify", "`POST /v1/workflows/run`"),
    Column("openai", "OpenAI", "`POST /v1/images/generations`, `edits`, `variations`"),
    Column("ollama", "Ollama", "`POST /api/generate`"),
    Column("early", "Ollama 0.14.0", "`POST /ollama/v1/images/generations`"),
    Column("llamago", "llama.go", "`POST /llamago/api/generate`, `/llamago/v1/completions`"),
    Column("allm", "ALLM", "`POST /v1/allm/image`"),
)


class Cell(NamedTuple):
    """How a dialect says something, and what becomes of it."""

    effect: Effect
    fields: tuple[str, ...] = ()
    says: str = ""


class Row(NamedTuple):
    """Something that a picture can be asked to be. `inputs` are the workflow documents' names for it."""

    name: str
    inputs: tuple[str, ...]
    cells: Mapping[str, Cell]


NONE = Cell(Effect.NONE)


def honoured(*fields: str, says: str = "") -> Cell:
    return Cell(Effect.HONOURED, fields, says)


def mapped(*fields: str, says: str) -> Cell:
    return Cell(Effect.MAPPED, fields, says)


def refused(*fields: str, says: str) -> Cell:
    return Cell(Effect.REFUSED, fields, says)


def without_effect(*fields: str, says: str = "") -> Cell:
    return Cell(Effect.WITHOUT_EFFECT, fields, says)


def row(name: str, *inputs: str, **cells: Cell) -> Row:
    """A column that is not named has none."""
    return Row(name, inputs, {column.name: cells.get(column.name, NONE) for column in COLUMNS})


def _setting(name: str, *aliases: str, early: Cell = NONE, ollama: Cell | None = None, says: str = "") -> Row:
    """A setting that other dialects have no field for: under its own name, or another that people know it by."""
    fields = (name, *aliases)
    return row(
        name.replace("_", " "),
        name,
        dify=honoured(f"inputs.{name}"),
        openai=honoured(*fields, says=says),
        ollama=ollama or honoured(*(f"options.{field}" for field in fields)),
        early=early,
        llamago=honoured(*(f"options.{field}" for field in fields), says="or beside `options`"),
        allm=honoured(*(f"options.{field}" for field in fields)),
    )


_UNKNOWN_THERE = "it reads six fields and passes over all others"

ROWS = (
    row(
        "checkpoint",
        "model_name",
        dify=honoured("inputs.model_name"),
        openai=mapped(
            "model",
            says="any case, with or without `:latest`, presets, too; a name of OpenAI's is what stands in for it",
        ),
        ollama=mapped("model", "name", says="any case, with or without a tag; presets, too"),
        early=mapped("model", says="likewise; required"),
        llamago=mapped("model", says="any case, with or without `:latest`; presets, too; empty: the default"),
        allm=mapped("model", says="as OpenAI's; null: the default"),
    ),
    row(
        "prompt",
        "prompt",
        dify=honoured("inputs.prompt"),
        openai=honoured("prompt"),
        ollama=honoured("prompt", says="empty: the checkpoint is loaded or unloaded, and nothing painted"),
        early=honoured("prompt"),
        llamago=honoured("prompt"),
        allm=honoured("prompt"),
    ),
    _setting("negative_prompt", early=without_effect("negative_prompt", says=_UNKNOWN_THERE)),
    row(
        "size",
        "width",
        "height",
        dify=honoured("inputs.width", "inputs.height"),
        openai=honoured("size", says="`auto`: the checkpoint's own, or the picture's"),
        ollama=mapped(
            "width",
            "height",
            "options.width",
            "options.height",
            says="to the nearest multiple of 8; 0: as open; above 2048 half of it is painted, and doubled",
        ),
        early=mapped("size", says="likewise; what can't be read is 1024 by 1024"),
        llamago=honoured("options.width", "options.height", says="or beside `options`"),
        allm=honoured("size", says="`[width, height]`, `WIDTHxHEIGHT`, or `auto` and null as OpenAI's"),
    ),
    row(
        "steps",
        "steps",
        dify=honoured("inputs.steps"),
        openai=honoured("steps", "num_inference_steps"),
        ollama=honoured("steps", "options.steps", "options.num_inference_steps"),
        early=without_effect("steps", says=_UNKNOWN_THERE),
        llamago=honoured("options.steps", "options.num_inference_steps", says="or beside `options`"),
        allm=honoured("options.steps", "options.num_inference_steps"),
    ),
    _setting("guidance_scale", "cfg_scale", "cfg", early=without_effect("guidance_scale", says=_UNKNOWN_THERE)),
    _setting(
        "seed",
        ollama=mapped("options.seed", says="0 and less: drawn"),
        early=without_effect("seed", says="always drawn"),
        says="picture i has the seed + i; `data[i].seed` tells it",
    ),
    row(
        "number of pictures",
        "n",
        dify=honoured("inputs.n"),
        openai=honoured("n"),
        ollama=without_effect("options.n", says="always one"),
        early=without_effect("n", says="always one"),
        llamago=honoured("options.n", says="or beside `options`"),
        allm=honoured("n"),
    ),
    row(
        "picture to change",
        "image",
        dify=honoured("inputs.image", says="of the workflows `image-edit`, `image-variation`, `inpaint`"),
        openai=honoured("image", "image[]", "images[].image_url"),
        ollama=honoured("images[0]"),
        early=without_effect("images", says=_UNKNOWN_THERE),
        llamago=honoured("images[0]"),
        allm=honoured("input_images[0]"),
    ),
    row(
        "references",
        "reference",
        dify=honoured("inputs.reference"),
        openai=honoured("image[]", says="from the second on"),
        ollama=honoured("images[1…]"),
        llamago=honoured("images[1…]"),
        allm=mapped("input_images[1]", says="the mask if it can be one and there is none yet; else a reference"),
    ),
    _setting("reference_weight", "reference_strength"),
    row(
        "mask",
        "mask",
        dify=honoured("inputs.mask"),
        openai=honoured("mask"),
        ollama=honoured("options.mask"),
        llamago=honoured("options.mask", says="or beside `options`"),
        allm=honoured("mask", says="of an edit; elsewhere it is named in `raw.left_out`"),
    ),
    _setting("strength", "denoising_strength", says="else by `input_fidelity`: low 0.75, high 0.4; of a variation 0.6"),
    _setting("scheduler", "sampler", "sampler_name", early=without_effect("scheduler", says=_UNKNOWN_THERE)),
    row(
        "quality",
        "steps",
        openai=mapped(
            "quality",
            "complexity",
            says="so many of the model's own steps: low half, medium and standard all, high and hd five thirds, xhigh "
            "2.5 times, max 10 thirds; steps that are asked for come first",
        ),
        allm=mapped("quality", says="likewise; a word of its own changes nothing"),
    ),
    row(
        "style",
        "prompt",
        openai=mapped("style", says="words behind the prompt; `revised_prompt` tells them"),
        allm=mapped("style", says="words behind the prompt; of a variation it is named in `raw.left_out`"),
    ),
    row(
        "transparency",
        openai=refused("background: transparent", says="no checkpoint paints an alpha channel"),
        allm=refused("background: transparent", says="likewise, as `unsupported_feature`"),
    ),
    row(
        "opaque background",
        openai=without_effect("background: opaque", "background: auto", says="all pictures are"),
        allm=without_effect("background: opaque", says="all pictures are"),
    ),
    row(
        "kind of file",
        "format",
        dify=honoured("inputs.format"),
        openai=honoured("output_format", says="`png`, `jpeg`, `webp`; `gif` and `svg` are refused"),
        ollama=honoured("options.output_format", "options.format"),
        early=without_effect("output_format", says="always PNG"),
        llamago=honoured("options.output_format", "options.format", says="`output_format` also beside `options`"),
        allm=honoured("options.output_format", "options.format"),
    ),
    row(
        "compression",
        "quality",
        dify=honoured("inputs.quality"),
        openai=honoured("output_compression", says="of JPEG and WebP"),
        ollama=honoured("options.output_compression", "options.quality"),
        llamago=honoured("options.output_compression", "options.quality"),
        allm=honoured("options.output_compression", "options.quality"),
    ),
    _setting(
        "loras",
        "lora",
        early=without_effect("loras", says=_UNKNOWN_THERE),
        says="and so all inputs of the document: `vae`, `clip_skip`, `upscale`, `exclusive`, …",
    ),
    row(
        "keeping the checkpoint",
        "keep_alive_s",
        dify=honoured("inputs.keep_alive_s"),
        openai=honoured("keep_alive_s"),
        ollama=mapped("keep_alive", says="seconds, or a time as `5m`"),
        early=without_effect("keep_alive", says=_UNKNOWN_THERE),
        llamago=mapped("keep_alive", says="seconds, or a time as `5m`"),
        allm=honoured("options.keep_alive_s"),
    ),
    row(
        "end-user",
        dify=honoured("user"),
        openai=honoured("user", "safety_identifier"),
        allm=honoured("options.user"),
    ),
    row(
        "pictures by URL",
        dify=honoured(says="always, signed"),
        openai=honoured("response_format: url", says="signed, absolute; left out for a checkpoint's name: so, too"),
        llamago=honoured(says="always, in `choices[].text`"),
        allm=honoured("response_format: url", says="signed, absolute"),
    ),
    row(
        "pictures as base64",
        openai=honoured("response_format: b64_json", says="a model named `gpt-image-…`: always"),
        ollama=honoured(says="always, in `image`"),
        early=honoured(says="always, whatever `response_format` says"),
        llamago=honoured(says="always, in `image` or `images`"),
        allm=honoured("response_format: binary", "response_format: base64"),
    ),
    row(
        "progress",
        dify=honoured("response_mode: streaming"),
        openai=mapped("stream", says="as comments between the events; with `partial_images` previews as events"),
        ollama=honoured("stream", says="left out: true"),
        early=honoured("stream"),
        llamago=honoured("stream", says="left out: true"),
    ),
    row("moderation", openai=without_effect("moderation", says="there is none")),
    row(
        "settings of texts",
        ollama=without_effect("system", "template", "format", "raw", "think", "options.temperature", says="as there"),
        llamago=without_effect(
            "suffix", "system", "template", "format", "raw", "options.temperature", "options.num_predict"
        ),
    ),
    row(
        "unknown fields",
        dify=without_effect("inputs.…", says="as there"),
        openai=refused("…", says="`unknown_parameter`"),
        ollama=without_effect("…", "options.…", says="as there"),
        early=without_effect("…", says="as there"),
        llamago=without_effect("…", "options.…", says="as there"),
        allm=refused("options.…", says="in `data` itself they are passed over, as there"),
    ),
)


def aliases() -> dict[str, str]:
    """Names of settings that other image servers have, each with the documents' own."""
    found: dict[str, str] = {}
    for each in ROWS:
        if len(each.inputs) == 1:
            for cell in each.cells.values():
                names = (field.removeprefix("options.") for field in cell.fields if field.startswith("options."))
                found |= {name: each.inputs[0] for name in names if name.isidentifier() and name != each.inputs[0]}
    return found
