"""What ComfyUI's canvas saves → the form that its API takes, for the standard nodes.

The canvas keeps a node's values as a list in the order of its widgets, and its links in a list of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_SIZE = ("width", "height", "batch_size")
_SEED = ("seed", "")  # behind a seed lies what the canvas does with it after a run
_WIDGETS: Mapping[str, tuple[str, ...]] = {
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeSDXL": ("", "", "", "", "", "", "text_g", "text_l"),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl", "guidance"),
    "EmptyLatentImage": _SIZE,
    "EmptySD3LatentImage": _SIZE,
    "KSampler": (*_SEED, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("add_noise", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler"),
    "SamplerCustom": ("add_noise", "noise_seed", "", "cfg"),
    "RandomNoise": ("noise_seed", ""),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "CFGGuider": ("cfg",),
    "FluxGuidance": ("guidance",),
    "PrimitiveInt": ("value",),
    "PrimitiveFloat": ("value",),
    "PrimitiveString": ("value",),
    "PrimitiveStringMultiline": ("value",),
    "PrimitiveNode": ("value",),
}
_MUTED, _BYPASSED = 2, 4
_ABSENT = frozenset({"Note", "MarkdownNote"})


def prompt_of_canvas(canvas: Mapping[str, Any]) -> dict[str, Any]:
    """Node id → {class_type, inputs}, without muted nodes and notes; links lead through reroutes and bypassed nodes."""
    nodes = {str(node.get("id")): node for node in _mappings(canvas.get("nodes"))}
    links = {str(link[0]): link for link in _list(canvas.get("links")) if isinstance(link, list) and len(link) >= 6}
    kept = (node for node in nodes.values() if not _is_passage(node) and not _is_absent(node))
    return {
        str(node.get("id")): {
            "class_type": str(node.get("type")),
            "inputs": {**_widget_values(node), **_linked_inputs(node, nodes, links)},
        }
        for node in kept
    }


def _is_passage(node: Mapping[str, Any]) -> bool:
    return node.get("type") == "Reroute" or node.get("mode") == _BYPASSED


def _is_absent(node: Mapping[str, Any]) -> bool:
    return str(node.get("type")) in _ABSENT or node.get("mode") == _MUTED


def _widget_values(node: Mapping[str, Any]) -> dict[str, Any]:
    values = node.get("widgets_values")
    if isinstance(values, dict):
        return dict(values)
    names = _WIDGETS.get(str(node.get("type")), ())
    return {name: value for name, value in zip(names, _list(values), strict=False) if name}


def _linked_inputs(
    node: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]], links: Mapping[str, list[Any]]
) -> dict[str, Any]:
    inputs = {}
    for entry in _mappings(node.get("inputs")):
        link = _source(links.get(str(entry.get("link"))), nodes, links)
        if link is not None:
            inputs[str(entry.get("name"))] = [str(link[1]), link[2]]
    return inputs


def _source(
    link: list[Any] | None, nodes: Mapping[str, Mapping[str, Any]], links: Mapping[str, list[Any]]
) -> list[Any] | None:
    """The link at the far end of reroutes and bypassed nodes: each is left by its first input of the same type."""
    for _ in nodes:
        node = nodes.get(str(link[1])) if link else None
        if link is None or node is None or _is_absent(node):
            return None
        if not _is_passage(node):
            return link
        entering = (links.get(str(entry.get("link"))) for entry in _mappings(node.get("inputs")))
        kind = link[5]
        link = next((each for each in entering if each and (each[5] == kind or "*" in (each[5], kind))), None)
    return None


def _mappings(value: object) -> Iterable[Mapping[str, Any]]:
    return [entry for entry in _list(value) if isinstance(entry, dict)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
