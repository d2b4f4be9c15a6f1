"""The ComfyUI tools: pictures by parameters, and pictures by a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.errors import InvalidParam
from app.graph.selectors import text_of
from app.graph.tools.comfyui import Drawing, read_graph
from app.graph.tools.image_tool import ImageTool, draw
from app.graph.tools.parameters import Call, Review
from app.graph.tools.roles import (
    denoise,
    first_pass,
    ignored,
    lora,
    lora_weight,
    lora_weights,
    loras,
    mask,
    model,
    negative_prompt,
    picture,
    prompt,
    sampler,
    second_pass,
    seed,
    side,
    spacing,
    to,
)
from app.graph.tools.sketch import Sketch, Taken
from app.graph.values import Value

BAD_ART = "bad art, ugly, deformed, watermark, duplicated, discontinuous lines"
_LEGACY = ("positive_prompt", "negative_prompt", "seed_id")
_KNOWN = frozenset(
    {"workflow_json", "images", "image_ids", "randomize_seed", "enable_download", "execute_workflow", *_LEGACY}
)
GRAPH = "workflow_json"


class GraphTool(msgspec.Struct, frozen=True):
    """A ComfyUI graph as it is. Older versions of the tool give prompts beside it."""

    provider: str = "comfyui"
    name: str = "workflow"
    work_class: str = "gpu"
    required: frozenset[str] = frozenset({GRAPH})
    pictures: frozenset[str] = frozenset({"images"})

    def call(self, values: Mapping[str, Any]) -> Call:
        """Raises InvalidParam, naming the graph's node, where it paints no picture."""
        sketch = Sketch()
        drawing = self._draw(sketch, values)
        _place_pictures(sketch, drawing, _files_of(drawing, values))
        return sketch.call()

    def review(self, constants: Mapping[str, Any], written: Iterable[str], is_typed: bool) -> Review:
        sketch, problems, loras = Sketch(), [], tuple[str, ...]()
        for name in written:
            if name not in _KNOWN:
                sketch.note(f"'{name}' is no parameter of {self.name} and has no effect")
        if GRAPH in constants:
            try:
                drawing = self._draw(sketch, constants)
                loras = sketch.loras
                if "images" not in written:
                    _place_pictures(sketch, drawing, {})
            except InvalidParam as error:
                problems.append(error.message)
        return Review(tuple(problems), tuple(sketch.notes), sketch.model, loras)

    @staticmethod
    def _draw(sketch: Sketch, values: Mapping[str, Any]) -> Drawing:
        positive, negative = (_text(values.get(name)) for name in ("positive_prompt", "negative_prompt"))
        drawing = read_graph(values.get(GRAPH), positive, negative)
        for name, value in drawing.arguments.items():
            draw(sketch, _ROLES[name], value)
        sketch.model = drawing.model
        for note in drawing.notes:
            sketch.note(note)
        sketch.choose_sampler()
        if _is_seed_drawn(values):
            sketch.arguments.pop("seed", None)
        return drawing


def _files_of(drawing: Drawing, values: Mapping[str, Any]) -> dict[str, Value]:
    """The given pictures by the nodes that load them: those that `image_ids` names, or one after the other."""
    given = values.get("images") or []
    files = given if isinstance(given, list) else [given]
    named = [word.strip() for word in _text(values.get("image_ids"), "").split(",") if word.strip()]
    return dict(zip(named or drawing.loaders, files, strict=False))


def _place_pictures(sketch: Sketch, drawing: Drawing, files: Mapping[str, Value]) -> None:
    """Raises InvalidParam for a node that loads a picture which is not given."""

    def file_of(loader: str) -> Value:
        if loader not in files:
            said = f"ComfyUI node '{loader}' loads a picture, and 'images' gives it none"
            raise InvalidParam(said, params="images")
        return files[loader]

    start, controls = drawing.start, drawing.controls
    if start.image:
        draw(sketch, Taken("images", picture), file_of(start.image))
    if start.mask:
        draw(sketch, Taken("images", mask), file_of(start.mask))
    if not controls:
        return
    sketch.put("control_image", "images", [file_of(each.image) for each in controls])
    sketch.put("control_net", "control_net_name", ", ".join(each.net.text for each in controls))
    for argument, found in (("control_start", controls[0].start), ("control_end", controls[0].end)):
        sketch.put(argument, argument, found)
    if len({(each.start, each.end) for each in controls}) > 1:
        sketch.note("all ControlNets are heard on the part of the way that the last one has")


_ROLES = {
    taken.name: taken
    for taken in (
        Taken("prompt", prompt),
        Taken("negative_prompt", negative_prompt),
        Taken("steps", to("steps")),
        Taken("guidance_scale", to("guidance_scale")),
        Taken("seed", seed),
        Taken("n", to("n")),
        Taken("width", side("width")),
        Taken("height", side("height")),
        Taken("sampler", sampler),
        Taken("spacing", spacing),
        Taken("denoise", denoise),
        Taken("loras", loras),
        *(Taken(name, to(name)) for name in ("clip_skip", "vae")),
        *(Taken(name, to(name)) for name in ("hires_scale", "hires_strength", "hires_steps", "hires_upscaler")),
    )
}


def _is_seed_drawn(values: Mapping[str, Any]) -> bool:
    """The old tool draws one where a node is named for it; the new one does unless it is told not to."""
    if any(values.get(name) for name in _LEGACY):
        return bool(values.get("seed_id"))
    return text_of(values.get("randomize_seed", True)).strip().lower() not in ("false", "0", "no", "off")


def _text(value: Value, instead: Any = None) -> Any:
    return instead if value is None else text_of(value)


COMFYUI_GRAPH = GraphTool()

COMFYUI = (
    ImageTool(
        "comfyui",
        "txt2img",
        (
            Taken("prompt", prompt, required=True),
            Taken("negative_prompt", negative_prompt, BAD_ART),
            Taken("model", model),
            Taken("steps", to("steps"), 20),
            Taken("width", side("width"), 1024),
            Taken("height", side("height"), 1024),
            Taken("cfg", to("guidance_scale"), 7.0),
            Taken("sampler_name", sampler, "euler"),
            Taken("scheduler", spacing, "normal"),
            Taken("batch_size", to("n"), 1),
            Taken("loras", loras),
            Taken("lora_strengths", lora_weights),
            *(Taken(f"lora_{number}", lora(number)) for number in (1, 2, 3)),
            *(Taken(f"lora_strength_{number}", lora_weight(number)) for number in (1, 2, 3)),
            *(Taken(name, ignored) for name in ("model_type", "ecosystem")),
            Taken("hiresfix_upscale_method", second_pass),
            Taken("hiresfix_denoise", to("hires_strength"), 0.6),
            Taken("hiresfix_size_ratio", first_pass, 0.5),
        ),
    ),
    ImageTool(
        "comfyui",
        "img2img",
        (
            Taken("prompt", prompt, required=True),
            Taken("negative_prompt", negative_prompt, BAD_ART),
            Taken("images", picture, required=True),
            Taken("model", model),
            Taken("steps", to("steps"), 20),
            Taken("cfg", to("guidance_scale"), 7.0),
            Taken("denoise", denoise, 0.8),
            Taken("sampler_name", sampler, "euler"),
            Taken("scheduler", spacing, "normal"),
            Taken("batch_size", to("n"), 1),
            Taken("loras", loras),
            Taken("lora_names", loras),
            Taken("lora_strengths", lora_weights),
        ),
    ),
    ImageTool(
        "comfyui",
        "quickstart",
        (
            Taken("prompt", prompt, required=True),
            Taken("negative_prompt", negative_prompt, BAD_ART),
            Taken("feature", model),
            Taken("width", side("width"), 1024),
            Taken("height", side("height"), 1024),
            Taken("images", picture),
            Taken("loras", loras),
        ),
    ),
)
