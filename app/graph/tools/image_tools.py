"""The tools that work on a given picture, and the one that makes none."""

from __future__ import annotations

from app.graph.tools.image_parameters import (
    ADAPTERS,
    CONTROL,
    ENLARGING,
    FILE,
    FORMAT,
    IMAGE,
    KEEP_ALIVE,
    MASK,
    MODEL,
    REFERENCES,
    UPSCALER,
    VARIATION,
    WORDS,
    strength,
)
from app.graph.tools.parameters import Tool, ToolParameter
from app.graph.tools.text_to_image import PROVIDER, SAMPLING, TEXT_TO_IMAGE

_REST = (*WORDS, *SAMPLING, *VARIATION, *ADAPTERS, *CONTROL, *ENLARGING, *FILE)

IMAGE_TO_IMAGE = Tool(PROVIDER, "image_to_image", "gpu", (IMAGE, strength(0.75), *REFERENCES, *_REST))
INPAINT = Tool(PROVIDER, "inpaint", "gpu", (IMAGE, MASK, strength(1.0), *REFERENCES, *_REST))
UPSCALE = Tool(
    PROVIDER,
    "upscale",
    "gpu",
    (
        IMAGE,
        ToolParameter("upscale", "number", "So many times larger.", default=2, minimum=1, maximum=8),
        UPSCALER,
        *FORMAT,
    ),
)

KEEP_CHECKPOINT = Tool(PROVIDER, "keep_checkpoint", "gpu", (MODEL, KEEP_ALIVE))

OWN_IMAGE_TOOLS = (TEXT_TO_IMAGE, IMAGE_TO_IMAGE, INPAINT, UPSCALE, KEEP_CHECKPOINT)
"""A call's inputs say which of them it is: by a mask, an image, neither; without a prompt nothing is painted, and
without an image either it is about a checkpoint alone."""
