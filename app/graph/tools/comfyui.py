"""A ComfyUI graph of the standard nodes → the arguments of one of our tools.

The graph is followed backwards from the node that saves its picture: image ← decoder ← sampler ← model, prompts and
latent. What stands on the way and is not ours to do is noted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.graph.selectors import text_of
from app.graph.tools.comfyui_canvas import prompt_of_canvas
from app.graph.tools.comfyui_extras import (
    LOADERS,
    SAMPLERS,
    Following,
    Start,
    clip_skip_of,
    controls_of,
    loras_of,
    second_pass_of,
    start_of,
    vae_of,
)
from app.graph.tools.comfyui_nodes import Node, Nodes, refusal
from app.graph.values import Value

_POSITIVE, _NEGATIVE = "{{positive_prompt}}", "{{negative_prompt}}"
_SAVERS = frozenset({"SaveImage", "PreviewImage", "SaveImageWebsocket", "SaveAnimatedWEBP", "SaveAnimatedPNG"})
_COMMON = {"steps": "steps", "guidance_scale": "cfg", "sampler": "sampler_name", "spacing": "scheduler"}
_WIRES = {"model": "model", "positive": "positive", "negative": "negative", "denoise": "denoise"}
_SIGMAS = {"sampler": "sampler.sampler_name", "steps": "sigmas.steps", "spacing": "sigmas.scheduler"}
_SAMPLERS: Mapping[str, Mapping[str, str]] = {  # class → where it has what; a.b is the input b of the node behind a
    "KSampler": {**_COMMON, **_WIRES, "seed": "seed"},
    "KSamplerAdvanced": {**_COMMON, **_WIRES, "seed": "noise_seed"},
    "SamplerCustom": {**_COMMON, **_WIRES, **_SIGMAS, "seed": "noise_seed", "denoise": "sigmas.denoise"},
    "SamplerCustomAdvanced": {
        **_SIGMAS,
        "seed": "noise.noise_seed",
        "guidance_scale": "guider.cfg",
        "denoise": "sigmas.denoise",
        "model": "guider.model",
        "positive": "guider.positive",
        "negative": "guider.negative",
    },
}
_MODELS = {"ckpt_name", "unet_name", "model_path"}
_TEXTS = ("text", "text_g", "t5xxl", "text_l", "clip_g", "clip_l")
_CONDITIONINGS = (
    "conditioning",
    "conditioning_1",
    "conditioning_2",
    "conditioning_to",
    "conditioning_from",
    "positive",
    "negative",
)
_SILENT = frozenset(
    {"VAELoader", "CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader", "VAEDecode", "VAEDecodeTiled", "Reroute"}
)


class Drawing(msgspec.Struct, frozen=True):
    """What a graph paints: arguments of our tools, with `sampler`, `spacing` and `denoise` as ComfyUI means them.

    Pictures that it begins with or follows are named by the node that loads them; `loaders` are all of these.
    """

    arguments: Mapping[str, Value]
    model: str
    notes: tuple[str, ...]
    start: Start = Start()
    controls: tuple[Following, ...] = ()
    loaders: tuple[str, ...] = ()


_EMBEDDING = re.compile(r"\bembedding:([^\s,:()]+?)(?:\.(?:pt|safetensors|bin))?(?=[\s,:()]|$)")
"""How ComfyUI names a textual inversion in a prompt."""


def is_graph_text(text: str) -> bool:
    """True for a text that is a JSON object; control characters inside its texts are allowed."""
    try:
        return isinstance(json.loads(text, strict=False), dict)
    except (ValueError, RecursionError):
        return False


def read_graph(written: Value, positive: str | None = None, negative: str | None = None) -> Drawing:
    """Raises InvalidParam, naming the node, for a graph that paints no picture.

    `positive` and `negative` are prompts that the call gives besides. They go where the graph says
    `{{positive_prompt}}` and `{{negative_prompt}}`; where it says neither, they are the sampler's.
    """
    nodes = _nodes(_parsed(written))
    has_places = any(_POSITIVE in text for node in nodes.values() for text in node.texts)
    if has_places:
        nodes = {node.id: _filled(node, positive or "", negative or "") for node in nodes.values()}
    drawing = _Tracer(Nodes(nodes)).read()
    given = {} if has_places else {"prompt": positive, "negative_prompt": negative or None}
    prompts = {name: text for name, text in given.items() if text is not None}
    return msgspec.structs.replace(drawing, arguments={**drawing.arguments, **prompts})


def _parsed(written: Value) -> Mapping[str, Any]:
    parsed = written
    if isinstance(written, str):
        try:
            parsed = json.loads(written, strict=False)
        except (ValueError, RecursionError) as error:
            raise refusal(f"the Workflow JSON is not correct: {error}") from None
    if not isinstance(parsed, dict):
        raise refusal("the Workflow JSON is not correct: it must be an object")
    if isinstance(parsed.get("nodes"), list):
        return prompt_of_canvas(parsed)
    return parsed["prompt"] if isinstance(parsed.get("prompt"), dict) else parsed


def _nodes(graph: Mapping[str, Any]) -> dict[str, Node]:
    entries = {str(node_id): entry for node_id, entry in graph.items() if isinstance(entry, dict)}
    return {
        node_id: Node(node_id, str(entry["class_type"]), inputs)
        for node_id, entry in entries.items()
        if "class_type" in entry and isinstance(inputs := entry.get("inputs") or {}, dict)
    }


def _filled(node: Node, positive: str, negative: str) -> Node:
    def fill(value: Value) -> Value:
        return value.replace(_POSITIVE, positive).replace(_NEGATIVE, negative) if isinstance(value, str) else value

    return Node(node.id, node.kind, {name: fill(value) for name, value in node.inputs.items()})


class _Tracer:
    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._notes: list[str] = []

    def read(self) -> Drawing:
        every = self._nodes.all.values()
        savers = [node for node in every if node.kind in _SAVERS]
        if not savers:
            raise refusal("the ComfyUI graph saves no picture: it has no SaveImage or PreviewImage node")
        passed = {way[-1].id: way for way in map(self._way_to_sampler, savers)}
        if len(passed) > 1:
            raise refusal(f"the ComfyUI graph has {len(passed)} chains of samplers, and a step paints with one")
        (way,) = passed.values()
        sampler, start = way[-1], start_of(self._nodes, way[-1])
        settings, positive = self._settings(sampler, is_changed=bool(start.image)), self._positive(sampler)
        wired = self._wired(sampler, "model")
        found = {**settings, **self._prompts(sampler, positive), **start.arguments, **vae_of(self._nodes, way)}
        if loras := ", ".join(each.text for each in loras_of(self._nodes, wired)):
            found["loras"] = loras
        found |= second_pass_of(self._nodes, way, found) if not start.image else {}
        controls = tuple(controls_of(self._nodes, positive))
        model = self._model(wired)
        self._nodes.use(*savers)
        return Drawing(found, model, self._noted(savers), start, controls, _loaders(every))

    def _noted(self, savers: list[Node]) -> tuple[str, ...]:
        left = [node for node in self._nodes.upstream(savers) if node.id not in self._nodes.used]
        return (*self._notes, *(f"{node.name} has no effect here" for node in left if node.kind not in _SILENT))

    def _way_to_sampler(self, saver: Node) -> list[Node]:
        """The nodes from the saver to the first sampler of the chain that ends in it.

        Those after that sampler only work on what it made.
        """
        way: list[Node] = []
        first = 0
        for node in self._nodes.chain(saver, "images", "image", "samples", "latent_image", "latent"):
            way.append(node)
            if node.kind in SAMPLERS:
                first = len(way)
        if not first:
            raise refusal(f"{way[-1].name} can't be run here, and the picture comes from it")
        return way[:first]

    def _settings(self, sampler: Node, *, is_changed: bool) -> dict[str, Value]:
        self._nodes.use(sampler)
        paths = _SAMPLERS[sampler.kind]
        names = ("seed", "steps", "guidance_scale", "sampler", "spacing", "denoise")
        found = {name: self._value(sampler, paths[name]) for name in names if name in paths}
        denoise = found.pop("denoise", None)
        if is_changed:
            found["denoise"] = 1.0 if denoise is None else denoise
        elif isinstance(denoise, (int, float)) and denoise < 1:
            self._notes.append(f"{sampler.name}: a denoise of {denoise} has no effect on an empty latent")
        return {name: value for name, value in found.items() if value is not None}

    def _positive(self, sampler: Node) -> Node:
        positive = self._wired(sampler, "positive") or self._wired(sampler, "positive", "conditioning")
        if positive is None:
            raise refusal(f"{sampler.name} has no positive prompt")
        return positive

    def _prompts(self, sampler: Node, positive: Node) -> dict[str, Value]:
        negative = self._wired(sampler, "negative")
        words = self._text(positive, "positive")
        unwanted = self._text(negative, "negative") if negative else ({}, "")
        return {"prompt": words[1], "negative_prompt": unwanted[1], **words[0]}

    def _text(self, conditioning: Node, side: str) -> tuple[dict[str, Value], str]:
        """(clip skip, if any; the words of a conditioning: where some are mixed, those of all, in their order).

        `side`: of a node that passes on both prompts, which one is meant.
        """
        found: dict[str, None] = {}
        skip: dict[str, Value] = {}
        waiting, seen = [conditioning], set[str]()
        while waiting:
            node = waiting.pop(0)
            if node.id in seen or node.kind == "ConditioningZeroOut":
                self._nodes.use(node)
                continue
            seen.add(node.id)
            texts = [text_of(self._nodes.plain(node, name)) for name in _TEXTS if name in node.inputs]
            sides = (side,) if {"positive", "negative"} <= node.inputs.keys() else _CONDITIONINGS
            following = [*filter(None, (self._nodes.behind(node, name) for name in sides))]
            if not texts and not following:
                raise refusal(f"{node.name} can't be run here, and a prompt comes from it")
            if texts:
                self._nodes.use(node)
                skip = skip or clip_skip_of(self._nodes, node)
            found |= dict.fromkeys(filter(None, texts))
            waiting = following + waiting
        return skip, _EMBEDDING.sub(r"\1", ", ".join(found))

    def _model(self, wired: Node | None) -> str:
        """The name of the weights at the far end of what works on the model."""
        for node in self._nodes.chain(wired, "model"):
            named = next((name for name in node.inputs if name in _MODELS), None)
            if named:
                self._nodes.use(node)
                return text_of(self._nodes.plain(node, named))
        raise refusal("the ComfyUI graph's sampler has no model: no CheckpointLoaderSimple is wired to it")

    def _wired(self, sampler: Node, what: str, instead: str = "") -> Node | None:
        """The node behind one of the sampler's wires, with the nodes in between."""
        *way, name = _SAMPLERS[sampler.kind][what].split(".")
        node = self._along(sampler, way)
        return self._nodes.behind(node, instead or name) if node else None

    def _value(self, sampler: Node, path: str) -> Value:
        *way, name = path.split(".")
        node = self._along(sampler, way)
        return self._nodes.plain(node, name) if node else None

    def _along(self, sampler: Node, way: Iterable[str]) -> Node | None:
        node: Node | None = sampler
        for link in way:
            node = self._nodes.behind(node, link) if node else None
            self._nodes.use(*filter(None, (node,)))
        return node


def _loaders(nodes: Iterable[Node]) -> tuple[str, ...]:
    return tuple(node.id for node in nodes if node.kind in LOADERS)
