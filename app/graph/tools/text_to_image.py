"""The tool that paints from words alone. Whatever other image tool a document names is turned into it or its kin."""

from __future__ import annotations

from collections.abc import Mapping

from app.graph.tools.image_parameters import ADAPTERS, CONTROL, ENLARGING, FILE, HIRES, PAINTING, VARIATION, WORDS
from app.graph.tools.parameters import Tool, ToolParameter

PROVIDER = "atelier/diffusion"

SCHEDULERS = (
    "euler",
    "euler_a",
    "heun",
    "ddim",
    "ddpm",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "dpmpp_sde",
    "lms",
    "pndm",
    "unipc",
    "lcm",
)

SCHEDULER_ALIASES: Mapping[str, str] = {
    "euler a": "euler_a",
    "dpm++ 2m": "dpmpp_2m",
    "dpm++ 2m karras": "dpmpp_2m_karras",
    "dpm++ sde": "dpmpp_sde",
    "plms": "pndm",
}
"""The names that AUTOMATIC1111 shows, in small letters, where they are not the short name itself."""

SAMPLING = (
    *PAINTING,
    ToolParameter(
        "scheduler",
        "select",
        "The sampler; left out: the checkpoint's own.",
        options=SCHEDULERS,
        aliases=SCHEDULER_ALIASES,
    ),
)

TEXT_TO_IMAGE = Tool(
    provider=PROVIDER,
    name="text_to_image",
    work_class="gpu",
    parameters=(*WORDS, *SAMPLING, *VARIATION, *ADAPTERS, *HIRES, *CONTROL, *ENLARGING, *FILE),
)
