"""What a ComfyUI graph adds to words: pictures to begin with, masks, ControlNets, LoRAs, a second pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from app.graph.selectors import text_of
from app.graph.tools.comfyui_nodes import Node, Nodes, refusal
from app.graph.tools.weighted import Weighted
from app.graph.values import Value

LOADERS = ("LoadImage", "LoadImageMask", "LoadImageOutput")
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
_LORAS = frozenset({"LoraLoader", "LoraLoaderModelOnly"})
_ENCODERS = frozenset({"VAEEncode", "VAEEncodeTiled", "VAEEncodeForInpaint"})
_CONTROLS = frozenset({"ControlNetApply", "ControlNetApplyAdvanced", "ControlNetApplySD3"})
_RESIZED = ("ImageScale", "ResizeImage", "ImageResize", "FluxKontextImageScale", "Reroute")
_SOFTENED = ("GrowMask", "FeatherMask", "MaskToImage", "ImageToMask", "ThresholdMask")


class Start(msgspec.Struct, frozen=True):
    """Where the sampler begins: an empty latent of a size, or a picture, by its loader's id, with a mask or without."""

    arguments: Mapping[str, Value] = {}
    image: str = ""
    mask: str = ""


class Following(msgspec.Struct, frozen=True):
    """A ControlNet, the loader of the picture that it follows, and on which part of the way."""

    net: Weighted
    image: str
    start: Value
    end: Value


def start_of(nodes: Nodes, sampler: Node) -> Start:
    """Raises InvalidParam, naming the node, for one that is neither."""
    mask, count = "", None
    latent = nodes.behind(sampler, "latent_image", "latent", "samples")
    for node in nodes.chain(latent, "samples", "latent", "latent_image"):
        if _is_empty_latent(node):
            nodes.use(node)
            names = {"width": "width", "height": "height", "n": "batch_size"}
            found = {ours: nodes.plain(node, name) for ours, name in names.items() if name in node.inputs}
            return Start({name: value for name, value in found.items() if value is not None})
        if node.kind == "SetLatentNoiseMask":
            nodes.use(node)
            mask = mask or _mask_of(nodes, node)
        elif node.kind == "RepeatLatentBatch":
            nodes.use(node)
            count = nodes.plain(node, "amount")
        elif node.kind in _ENCODERS:
            nodes.use(node)
            mask = mask or (_mask_of(nodes, node) if "mask" in node.inputs else "")
            image, size = _picture_of(nodes, node, "pixels")
            return Start(size | ({"n": count} if count is not None else {}), image, mask)
    named = latent.name if latent else sampler.name
    raise refusal(f"{named} can't be run here, and the size of the picture comes from it")


def controls_of(nodes: Nodes, conditioning: Node | None) -> Iterator[Following]:
    """The ControlNets between a sampler and its prompt."""
    for node in nodes.chain(conditioning, "conditioning", "positive"):
        net = nodes.behind(node, "control_net")
        if node.kind not in _CONTROLS or net is None or "control_net_name" not in net.inputs:
            continue
        nodes.use(node, net)
        image, _ = _picture_of(nodes, node, "image")
        weight = nodes.plain(node, "strength")
        named = Weighted(text_of(nodes.plain(net, "control_net_name")), _number(weight, 1.0))
        yield Following(named, image, nodes.plain(node, "start_percent"), nodes.plain(node, "end_percent"))


def loras_of(nodes: Nodes, model: Node | None) -> Iterator[Weighted]:
    """Those between the sampler and its checkpoint."""
    for node in nodes.chain(model, "model"):
        if node.kind in _LORAS:
            nodes.use(node)
            weight = _number(nodes.plain(node, "strength_model"), 1.0)
            is_for_text = node.kind == "LoraLoader"
            text_weight = _number(nodes.plain(node, "strength_clip"), weight) if is_for_text else 0.0
            name = text_of(nodes.plain(node, "lora_name"))
            yield Weighted(name, weight, None if text_weight == weight else text_weight)


def clip_skip_of(nodes: Nodes, encoder: Node) -> dict[str, Value]:
    """ComfyUI counts the text encoder's layers from the end: -1 is the last."""
    for node in nodes.chain(nodes.behind(encoder, "clip"), "clip"):
        if node.kind == "CLIPSetLastLayer":
            nodes.use(node)
            layer = nodes.plain(node, "stop_at_clip_layer")
            return {"clip_skip": -layer} if isinstance(layer, int) and layer < 0 else {}
    return {}


def vae_of(nodes: Nodes, passed: list[Node]) -> dict[str, Value]:
    """The autoencoder of its own that decodes the picture."""
    decoder = next((node for node in passed if "VAEDecode" in node.kind), None)
    loader = nodes.behind(decoder, "vae") if decoder else None
    named = nodes.plain(loader, "vae_name") if loader and loader.kind == "VAELoader" else None
    return {"vae": text_of(named)} if named else {}


def second_pass_of(nodes: Nodes, passed: list[Node], first: Mapping[str, Any]) -> dict[str, Value]:
    """A second sampler on the enlarged latents of the first, which paints in `first`'s size; else nothing."""
    kinds = [node.kind for node in passed if node.kind in SAMPLERS or node.kind.startswith("LatentUpscale")]
    if kinds not in (["KSampler", "LatentUpscale", "KSampler"], ["KSampler", "LatentUpscaleBy", "KSampler"]):
        return {}
    second, enlarging = (next(node for node in passed if node.kind == kind) for kind in kinds[:2])
    if enlarging.kind == "LatentUpscaleBy":
        scale = nodes.plain(enlarging, "scale_by")
    else:
        width, own = nodes.plain(enlarging, "width"), first.get("width")
        scale = width / own if _is_number(width) and _is_number(own) and own else None
    if not _is_number(scale) or scale < 1:
        return {}
    nodes.use(second, enlarging)
    denoise, steps = nodes.plain(second, "denoise"), nodes.plain(second, "steps")
    strength = _number(denoise, 1.0)
    if isinstance(steps, int) and 0 < strength < 1:  # all that it is given are painted
        steps = min(150, int(steps / strength))
    return {"hires_scale": scale, "hires_strength": strength, "hires_steps": steps, "hires_upscaler": "latent"}


def _picture_of(nodes: Nodes, node: Node, name: str) -> tuple[str, dict[str, Value]]:
    """(the id of the loader behind an input, the size that its picture is brought to)."""
    size: dict[str, Value] = {}
    for source in nodes.chain(nodes.behind(node, name), "image", "images", "pixels", "upscale_by", ""):
        if source.kind in LOADERS:
            nodes.use(source)
            return source.id, size
        if not source.kind.startswith(_RESIZED):
            raise refusal(f"{source.name} can't be run here, and '{name}' of {node.name} comes from it")
        if source.kind == "ImageScale" and not size:
            nodes.use(source)
            sides = {side: nodes.plain(source, side) for side in ("width", "height")}
            size = {side: length for side, length in sides.items() if length}
    raise refusal(f"{node.name} has no picture: no LoadImage is wired to '{name}'")


def _mask_of(nodes: Nodes, node: Node) -> str:
    for source in nodes.chain(nodes.behind(node, "mask"), "mask", "image"):
        if source.kind in LOADERS:
            nodes.use(source)
            return source.id
        if not source.kind.startswith(_SOFTENED):
            raise refusal(f"{source.name} can't be run here, and 'mask' of {node.name} comes from it")
    raise refusal(f"{node.name} has no mask: no LoadImage is wired to 'mask'")


def _is_empty_latent(node: Node) -> bool:
    return node.kind.startswith("Empty") and "Latent" in node.kind


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Value, instead: float) -> float:
    return float(value) if _is_number(value) else instead
