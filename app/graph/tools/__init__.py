"""The tools that a tool node can call. A new one is a row of `providers.py` or a module and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from app.graph.tools.again import AGAIN, AgainTool
from app.graph.tools.clockwork import TIME_TOOLS
from app.graph.tools.comfyui_tool import COMFYUI_GRAPH, GraphTool
from app.graph.tools.image_tool import ImageTool
from app.graph.tools.image_tools import OWN_IMAGE_TOOLS
from app.graph.tools.names import SAME_AS, UNAVAILABLE
from app.graph.tools.parameters import Tool
from app.graph.tools.providers import IMAGE_TOOLS
from app.graph.tools.text_to_image import PROVIDER

AnyTool = Tool | ImageTool | GraphTool | AgainTool

_TABLE: tuple[AnyTool, ...] = (*TIME_TOOLS, *IMAGE_TOOLS, COMFYUI_GRAPH)
_BY_NAME: Mapping[tuple[str, str], AnyTool] = {(tool.provider, tool.name): tool for tool in _TABLE}
_OWN_PROVIDERS = frozenset({PROVIDER, f"{PROVIDER}/diffusion"})
_OWN: Mapping[str, AnyTool] = {tool.name: tool for tool in (*OWN_IMAGE_TOOLS, AGAIN)}


def find_tool(provider_id: str, name: str) -> AnyTool | None:
    """By Dify's ids: `stablediffusion` and `langgenius/stablediffusion/stablediffusion` are the same provider."""
    if provider_id in _OWN_PROVIDERS and name in _OWN:
        return _OWN[name]
    key = (_short(provider_id), name)
    return _BY_NAME.get(SAME_AS.get(key, key))


def why_unknown(provider_id: str, name: str) -> str:
    """What an author is told of a tool that can't be called here: why, and the way out."""
    provider = _short(provider_id)
    reason = UNAVAILABLE.get((provider, name))
    if reason:
        return f"tool '{provider_id} {name}' can't be run here: {reason}"
    there = sorted(tool for known, tool in (*_BY_NAME, *SAME_AS) if known == provider)
    there = sorted(_OWN) if provider_id in _OWN_PROVIDERS else there
    names = f"{provider}'s here are {', '.join(there)}" if there else f"known tools: {_catalogue()}"
    return f"tool '{provider_id} {name}' is not known; {names}; an http-request or code node can do what it did"


def _short(provider_id: str) -> str:
    """The provider's own name: what stands before it says who packed it."""
    return provider_id.rpartition("/")[2]


def _catalogue() -> str:
    providers = sorted({provider for provider, _ in _BY_NAME})
    return f"{PROVIDER} {', '.join(_OWN)}, and those of {', '.join(providers)}"
