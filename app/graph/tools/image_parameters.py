"""The parameters of the tools that paint, in the groups that the tools share."""

from __future__ import annotations

from app.domain.recipe import MOST_WORDS
from app.graph.tools.parameters import ToolParameter

WIDEST = 2048  # px, of what is painted in one pass
MOST_SEED = 2**53 - 1
MOST_KEEP_ALIVE_S = 1_000_000_000

MODEL = ToolParameter("model_name", "string", "A checkpoint; left out: the server's default.", max_length=256)
WORDS = (
    ToolParameter(
        "prompt",
        "string",
        "What the picture shows. `(word:1.2)` weighs, `BREAK` begins a new chunk, `<lora:name:0.8>` puts a LoRA on.",
        required=True,
        max_length=MOST_WORDS,
    ),
    ToolParameter("negative_prompt", "string", "What to keep out.", default="", max_length=MOST_WORDS),
    MODEL,
)


def _side(name: str) -> ToolParameter:
    said = "Pixels; left out: the checkpoint's own, or those of the picture that is changed."
    return ToolParameter(name, "integer", said, minimum=64, maximum=WIDEST, multiple_of=8)


def _fraction(name: str, description: str, default: float | None = None) -> ToolParameter:
    return ToolParameter(name, "number", description, default=default, minimum=0, maximum=1)


def _seed(name: str, description: str) -> ToolParameter:
    return ToolParameter(name, "integer", description, minimum=0, maximum=MOST_SEED, unset=-1)


PAINTING = (
    _side("width"),
    _side("height"),
    ToolParameter(
        "fit_size",
        "boolean",
        "Paints a size far beyond what the checkpoint was trained on in the checkpoint's own, and enlarges it.",
    ),
    ToolParameter(
        "steps", "integer", "Denoising steps; left out: the checkpoint's own, or 30.", minimum=1, maximum=150
    ),
    ToolParameter(
        "guidance_scale",
        "number",
        "How closely to follow the prompt; left out: the checkpoint's own.",
        minimum=0,
        maximum=30,
    ),
    _seed("seed", "Picture i has the seed + i. Left out or -1: drawn."),
    ToolParameter("n", "integer", "Pictures to make.", default=1, minimum=1, maximum=10),
)

VARIATION = (
    _seed("variation_seed", "What the seed's noise is turned towards; left out or -1: drawn."),
    _fraction("variation_strength", "How far it is turned: 0 is the seed's picture, 1 the other's; left out: 0."),
)

ADAPTERS = (
    ToolParameter(
        "clip_skip",
        "integer",
        "Which layer of the text encoder is read: 1 is the last; left out: the checkpoint's own.",
        minimum=1,
        maximum=12,
    ),
    ToolParameter("loras", "string", "LoRAs with their weights: `ink:0.8, pixel`.", max_length=2000),
    ToolParameter("vae", "string", "An autoencoder in place of the checkpoint's own.", max_length=256),
)

HIRES = (
    ToolParameter(
        "hires_scale",
        "number",
        "A second pass at so many times the size, for detail; 1 or left out: none.",
        minimum=1,
        maximum=4,
    ),
    _fraction("hires_strength", "How much the second pass may change; left out: 0.5."),
    ToolParameter(
        "hires_steps",
        "integer",
        "Steps of the second pass; 0 or left out: as many as the first.",
        minimum=0,
        maximum=150,
    ),
    ToolParameter(
        "hires_upscaler",
        "string",
        "What enlarges between the passes: latent (when left out), lanczos, or an upscaler by its name.",
        max_length=256,
    ),
)

CONTROL = (
    ToolParameter("control_image", "pictures", "What the ControlNet follows; one, or one for each ControlNet."),
    ToolParameter(
        "control_net", "string", "ControlNets, with weights if they differ: `canny, depth:0.5`.", max_length=1000
    ),
    ToolParameter("control_weight", "number", "How strictly to follow; left out: 1.", minimum=0, maximum=2),
    _fraction("control_start", "From which part of the way on; left out: 0."),
    _fraction("control_end", "Up to which part of the way; left out: 1."),
)

UPSCALER = ToolParameter(
    "upscaler", "string", "What enlarges: lanczos (when left out), or an upscaler by its name.", max_length=256
)
ENLARGING = (
    ToolParameter(
        "upscale", "number", "Enlarges the finished picture so many times; left out: not.", minimum=1, maximum=8
    ),
    UPSCALER,
)

KEEP_ALIVE = ToolParameter(
    "keep_alive_s",
    "number",
    "How long the checkpoint stays in memory afterwards, in seconds; 0: not at all; negative: until others need the "
    "room; left out: as the server is set.",
    minimum=-MOST_KEEP_ALIVE_S,
    maximum=MOST_KEEP_ALIVE_S,
)
FORMAT = (
    ToolParameter(
        "format", "select", "The file's; left out: png.", options=("png", "jpeg", "webp"), aliases={"jpg": "jpeg"}
    ),
    ToolParameter("quality", "integer", "Of JPEG and WebP; left out: 90.", minimum=1, maximum=100),
)
FILE = (
    *FORMAT,
    ToolParameter("previews", "boolean", "Whether progress comes with a small picture of how far it is."),
    ToolParameter("exclusive", "boolean", "Paints alone, so that it repeats bit for bit; takes longer."),
    KEEP_ALIVE,
)


def strength(default: float) -> ToolParameter:
    return _fraction("strength", "How far from the picture: 0 is the picture itself, 1 keeps only its size.", default)


IMAGE = ToolParameter("image", "picture", "The picture to begin with.", required=True)
REFERENCES = (
    ToolParameter(
        "reference", "pictures", "Pictures whose mean is mixed into the one to begin with, 15 at most.", most=15
    ),
    _fraction("reference_weight", "How much of the mixture the references are; left out: 0.35."),
)
MASK = ToolParameter(
    "mask",
    "picture",
    "Where to paint: where it is transparent or, if nothing is, where it is white.",
    required=True,
)
