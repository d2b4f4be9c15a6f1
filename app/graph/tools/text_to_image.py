"""The tool that paints, as the engine takes it. Whatever other image tool a document names is turned into it."""

from __future__ import annotations

from app.graph.tools.parameters import Tool, ToolParameter
from app.graph.tools.samplers import SCHEDULER_ALIASES, SCHEDULERS

TEXT_TO_IMAGE = Tool(
    provider="atelier/diffusion",
    name="text_to_image",
    work_class="gpu",
    parameters=(
        ToolParameter("prompt", "string", "What the picture shows.", required=True, max_length=10_000),
        ToolParameter("negative_prompt", "string", "What to keep out.", default="", max_length=10_000),
        ToolParameter("model_name", "string", "A checkpoint; left out: the server's default.", max_length=256),
        ToolParameter(
            "width", "integer", "Pixels; left out: the checkpoint's own.", minimum=64, maximum=2048, multiple_of=8
        ),
        ToolParameter(
            "height", "integer", "Pixels; left out: the checkpoint's own.", minimum=64, maximum=2048, multiple_of=8
        ),
        ToolParameter("steps", "integer", "Denoising steps.", default=30, minimum=1, maximum=150),
        ToolParameter(
            "guidance_scale",
            "number",
            "How closely to follow the prompt; left out: the checkpoint's own.",
            minimum=0,
            maximum=30,
        ),
        ToolParameter("seed", "integer", "Left out or -1: drawn.", minimum=0, maximum=2**53 - 1, unset=-1),
        ToolParameter("n", "integer", "Pictures to make.", default=1, minimum=1, maximum=8),
        ToolParameter(
            "scheduler",
            "select",
            "The sampler; left out: the checkpoint's own.",
            options=SCHEDULERS,
            aliases=SCHEDULER_ALIASES,
        ),
    ),
)
