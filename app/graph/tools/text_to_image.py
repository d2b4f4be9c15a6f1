"""The tool that paints from words alone. Whatever other image tool a document names is turned into it or its kin."""

from __future__ import annotations

from app.graph.tools.image_parameters import ADAPTERS, CONTROL, ENLARGING, FILE, HIRES, PAINTING, VARIATION, WORDS
from app.graph.tools.parameters import Tool, ToolParameter
from app.graph.tools.samplers import SCHEDULER_ALIASES, SCHEDULERS

PROVIDER = "atelier/diffusion"

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
