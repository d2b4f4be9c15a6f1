"""A ComfyUI graph of the standard nodes → the arguments of text_to_image.

The graph is followed backwards from the node that saves its picture: image ← decoder ← sampler ← model, prompts and
empty latent. What stands on the way and is not ours to do is noted; what starts from a picture is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.errors import InvalidParam
from app.graph.selectors import text_of
from app.graph.tools.comfyui_canvas import prompt_of_canvas
from app.graph.values import Value

_POSITIVE, _NEGATIVE = "{{positive_prompt}}", "{{negative_prompt}}"
_SAVERS = frozenset({"SaveImage", "PreviewImage", "SaveImageWebsocket", "SaveAnimatedWEBP", "SaveAnimatedPNG"})
_PICTURES = frozenset({"LoadImage", "LoadImageMask", "LoadImageOutput", "VAEEncode", "VAEEncodeForInpaint"})
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
_PLAIN = ("value", "text", "string", "prompt", "int", "float", "number", "seed", "noise_seed")
"""Inputs that are the value of a node which only gives one."""
_SILENT = frozenset(
    {"VAELoader", "CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader", "VAEDecode", "VAEDecodeTiled", "Reroute"}
)
_FAR = 100
"""More links than this in a row are a ring."""


class Node(msgspec.Struct, frozen=True):
    id: str
    kind: str
    inputs: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"ComfyUI node '{self.id}' ({self.kind})"

    @property
    def texts(self) -> Iterable[str]:
        return (value for value in self.inputs.values() if isinstance(value, str))

    def filled(self, positive: str, negative: str) -> Node:
        def fill(value: Value) -> Value:
            return value.replace(_POSITIVE, positive).replace(_NEGATIVE, negative) if isinstance(value, str) else value

        return Node(self.id, self.kind, {name: fill(value) for name, value in self.inputs.items()})


class Drawing(msgspec.Struct, frozen=True):
    """What a graph paints: arguments of text_to_image, with `sampler` and `spacing` in ComfyUI's names."""

    arguments: Mapping[str, Value]
    model: str
    notes: tuple[str, ...]


def is_graph_text(text: str) -> bool:
    """True for a text that is a JSON object; control characters inside its texts are allowed."""
    try:
        return isinstance(json.loads(text, strict=False), dict)
    except (ValueError, RecursionError):
        return False


def read_graph(written: Value, positive: str | None = None, negative: str | None = None) -> Drawing:
    """Raises InvalidParam, naming the node, for a graph that paints no picture from text alone.

    `positive` and `negative` are prompts that the call gives besides. They go where the graph says
    `{{positive_prompt}}` and `{{negative_prompt}}`; where it says neither, they are the sampler's.
    """
    nodes = _nodes(_parsed(written))
    has_places = any(_POSITIVE in text for node in nodes.values() for text in node.texts)
    if has_places:
        nodes = {node.id: node.filled(positive or "", negative or "") for node in nodes.values()}
    drawing = _Tracer(nodes).read()
    given = {} if has_places else {"prompt": positive, "negative_prompt": negative or None}
    prompts = {name: text for name, text in given.items() if text is not None}
    return msgspec.structs.replace(drawing, arguments={**drawing.arguments, **prompts})


def _parsed(written: Value) -> Mapping[str, Any]:
    parsed = written
    if isinstance(written, str):
        try:
            parsed = json.loads(written, strict=False)
        except (ValueError, RecursionError) as error:
            raise _refusal(f"the Workflow JSON is not correct: {error}") from None
    if not isinstance(parsed, dict):
        raise _refusal("the Workflow JSON is not correct: it must be an object")
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


class _Tracer:
    """Follows a graph. `used` are the nodes whose part in the picture is taken over."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._used: set[str] = set()
        self._notes: list[str] = []

    def read(self) -> Drawing:
        savers = [node for node in self._nodes.values() if node.kind in _SAVERS]
        if not savers:
            raise _refusal("the ComfyUI graph saves no picture: it has no SaveImage or PreviewImage node")
        upstream = self._upstream(savers)
        for node in upstream:
            if node.kind in _PICTURES:
                raise _refusal(f"{node.name} starts from a picture, which is not available yet; paint from text alone")
        samplers = {sampler.id: sampler for sampler in map(self._sampler_behind, savers)}
        if len(samplers) > 1:
            raise _refusal(f"the ComfyUI graph has {len(samplers)} chains of samplers, and a step paints with one")
        (sampler,) = samplers.values()
        arguments = {**self._settings(sampler), **self._prompts(sampler)}
        arguments |= self._size(self._behind(sampler, "latent_image", "latent", "samples"))
        model = self._model(self._wired(sampler, "model"))
        self._use(*savers)
        left_out = [_left_out(node) for node in upstream if node.id not in self._used and node.kind not in _SILENT]
        return Drawing(arguments, model, (*self._notes, *left_out))

    def _upstream(self, savers: Iterable[Node]) -> list[Node]:
        """All nodes that feed the savers."""
        found: dict[str, Node] = {}
        waiting = list(savers)
        while waiting:
            node = waiting.pop()
            if node.id not in found:
                found[node.id] = node
                waiting.extend(filter(None, (self._linked(value) for value in node.inputs.values())))
        return [node for node in self._nodes.values() if node.id in found]

    def _sampler_behind(self, saver: Node) -> Node:
        """The first sampler of the chain that ends in this picture: those after it only work on what it made."""
        node, first = saver, None
        for _ in range(_FAR):
            if node.kind in _SAMPLERS:
                first = node
            following = self._linked_input(node, "images", "image", "samples", "latent_image", "latent")
            if following is None:
                break
            node = following
        if first is not None:
            return first
        raise _refusal(f"{node.name} can't be run here, and the picture comes from it")

    def _settings(self, sampler: Node) -> dict[str, Value]:
        self._use(sampler)
        paths = _SAMPLERS[sampler.kind]
        names = ("seed", "steps", "guidance_scale", "sampler", "spacing", "denoise")
        found = {name: self._value(sampler, paths[name]) for name in names if name in paths}
        denoise = found.pop("denoise", None)
        if isinstance(denoise, (int, float)) and denoise < 1:
            self._notes.append(f"{sampler.name}: a denoise of {denoise} has no effect on an empty latent")
        return {name: value for name, value in found.items() if value is not None}

    def _prompts(self, sampler: Node) -> dict[str, Value]:
        positive = self._wired(sampler, "positive") or self._wired(sampler, "positive", "conditioning")
        if positive is None:
            raise _refusal(f"{sampler.name} has no positive prompt")
        negative = self._wired(sampler, "negative")
        return {"prompt": self._text(positive), "negative_prompt": self._text(negative) if negative else ""}

    def _text(self, conditioning: Node) -> str:
        """The words of a conditioning; where some are mixed, the words of all, in their order."""
        found: dict[str, None] = {}
        waiting, seen = [conditioning], set[str]()
        while waiting:
            node = waiting.pop(0)
            if node.id in seen or node.kind == "ConditioningZeroOut":
                self._use(node)
                continue
            seen.add(node.id)
            texts = [text_of(self._plain(node, name)) for name in _TEXTS if name in node.inputs]
            following = [*filter(None, (self._linked_input(node, name) for name in _CONDITIONINGS))]
            if not texts and not following:
                raise _refusal(f"{node.name} can't be run here, and a prompt comes from it")
            if texts:
                self._use(node)
            found |= dict.fromkeys(filter(None, texts))
            waiting = following + waiting
        return ", ".join(found)

    def _size(self, latent: Node) -> dict[str, Value]:
        for _ in range(_FAR):
            if _is_empty_latent(latent):
                self._use(latent)
                names = {"width": "width", "height": "height", "n": "batch_size"}
                found = {ours: self._plain(latent, name) for ours, name in names.items() if name in latent.inputs}
                return {name: value for name, value in found.items() if value is not None}
            latent = self._behind(latent, "samples", "latent", "latent_image")
        raise _refusal(f"{latent.name} is in a ring of links")

    def _model(self, node: Node | None) -> str:
        """The name of the weights at the far end of what works on the model."""
        for _ in range(_FAR):
            if node is None:
                break
            named = next((name for name in node.inputs if name in _MODELS), None)
            if named:
                self._use(node)
                return text_of(self._plain(node, named))
            node = self._linked_input(node, "model")
        raise _refusal("the ComfyUI graph's sampler has no model: no CheckpointLoaderSimple is wired to it")

    def _wired(self, sampler: Node, what: str, instead: str = "") -> Node | None:
        """The node behind one of the sampler's wires, with the nodes in between."""
        *way, name = _SAMPLERS[sampler.kind][what].split(".")
        node: Node | None = sampler
        for link in way:
            node = self._linked_input(node, link) if node else None
            self._use(*filter(None, (node,)))
        return self._linked_input(node, instead or name) if node else None

    def _value(self, sampler: Node, path: str) -> Value:
        *way, name = path.split(".")
        node: Node | None = sampler
        for link in way:
            node = self._linked_input(node, link) if node else None
            self._use(*filter(None, (node,)))
        return self._plain(node, name) if node else None

    def _plain(self, node: Node, name: str) -> Value:
        """A value as it is, or as the node gives it that it is wired to."""
        value = node.inputs.get(name)
        for _ in range(_FAR):
            source = self._linked(value)
            if source is None:
                return value
            self._use(source)
            given = next((each for each in _PLAIN if each in source.inputs), None)
            given = given or next(iter(source.inputs), None) if source.kind == "Reroute" else given
            if given is None:
                raise _refusal(f"{source.name} can't be run here, and '{name}' of {node.name} comes from it")
            value = source.inputs[given]
        raise _refusal(f"{node.name} is in a ring of links")

    def _behind(self, node: Node, *names: str) -> Node:
        following = self._linked_input(node, *names)
        if following is None:
            raise _refusal(f"{node.name} can't be run here, and the size of the picture comes from it")
        return following

    def _linked_input(self, node: Node, *names: str) -> Node | None:
        return next(filter(None, (self._linked(node.inputs.get(name)) for name in names)), None)

    def _linked(self, value: Value) -> Node | None:
        is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int))
        return self._nodes.get(str(value[0])) if is_link else None

    def _use(self, *nodes: Node) -> None:
        self._used.update(node.id for node in nodes)


def _is_empty_latent(node: Node) -> bool:
    return node.kind.startswith("Empty") and "Latent" in node.kind


def _left_out(node: Node) -> str:
    if isinstance(name := node.inputs.get("lora_name"), str):
        return f"the LoRA '{name}' is left out: this engine has none yet"
    return f"{node.name} has no effect here"


def _refusal(text: str) -> InvalidParam:
    return InvalidParam(text, params="workflow_json")
