"""The nodes of a ComfyUI graph and the links between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from app.errors import InvalidParam
from app.graph.values import Value

_PLAIN = ("value", "text", "string", "prompt", "int", "float", "number", "seed", "noise_seed")
"""Inputs that are the value of a node which only gives one."""
FAR = 100
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


class Nodes:
    """Follows links. `used` are the nodes whose part in the picture is taken over."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.all = nodes
        self.used: set[str] = set()

    def use(self, *nodes: Node) -> None:
        self.used.update(node.id for node in nodes)

    def linked(self, value: Value) -> Node | None:
        is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int))
        return self.all.get(str(value[0])) if is_link else None

    def behind(self, node: Node, *names: str) -> Node | None:
        """The node behind the first of these inputs that is linked."""
        return next(filter(None, (self.linked(node.inputs.get(name)) for name in names)), None)

    def chain(self, node: Node | None, *names: str) -> Iterator[Node]:
        """The node, the one behind it, and so on. Raises InvalidParam for a ring."""
        begun = node
        for _ in range(FAR):
            if node is None:
                return
            yield node
            node = self.behind(node, *names)
        raise refusal(f"{begun.name if begun else 'a node'} is in a ring of links")

    def upstream(self, nodes: Iterable[Node]) -> list[Node]:
        """All nodes that feed these, and these, in the graph's order."""
        found: dict[str, Node] = {}
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            if node.id not in found:
                found[node.id] = node
                waiting.extend(filter(None, (self.linked(value) for value in node.inputs.values())))
        return [node for node in self.all.values() if node.id in found]

    def plain(self, node: Node, name: str) -> Value:
        """A value as it is, or as the node gives it that it is wired to. Raises InvalidParam where that gives none."""
        value = node.inputs.get(name)
        for _ in range(FAR):
            source = self.linked(value)
            if source is None:
                return value
            self.use(source)
            given = next((each for each in _PLAIN if each in source.inputs), None)
            given = given or next(iter(source.inputs), None) if source.kind == "Reroute" else given
            if given is None:
                raise refusal(f"{source.name} can't be run here, and '{name}' of {node.name} comes from it")
            value = source.inputs[given]
        raise refusal(f"{node.name} is in a ring of links")


def refusal(text: str) -> InvalidParam:
    return InvalidParam(text, params="workflow_json")
