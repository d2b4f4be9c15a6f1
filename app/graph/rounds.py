"""Containers: nodes that run nodes of their own, round by round.

A container's `execute` looks at what it goes through and gives its `Rounds`: the one mutable thing of a graph, which a
run keeps while the container's step is `running`. Whoever moves the run on asks it which rounds are `due`, tells it
which `begin` and how each has ended, and takes its `outcome` when `have_ended`. All of it follows from the pool and
from the order of these calls, so a run that is rebuilt from its facts has the same rounds.

A round has a pool of its own, made by `pool`: the one around it with the round's variables under the container's id.
What its nodes give stays in it. `VariablePool.assign` changes a variable there; a loop carries its own on to the next
round, an iteration forgets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from app.errors import NodeFailed
from app.graph.nodes.kind import Completed, NodeKind
from app.graph.selectors import Selector
from app.graph.variables import VariablePool

if TYPE_CHECKING:
    from app.graph.graph import Graph


class Usage(msgspec.Struct, frozen=True):
    """Time and tokens that a round took."""

    seconds: float
    tokens: int = 0


class RoundEnd(msgspec.Struct, frozen=True):
    """How a round ended: its pool as it was left, and what made it fail, if anything.

    `breaks`: one of its nodes says that no round is to follow.
    """

    pool: VariablePool
    usage: Usage
    failure: NodeFailed | None = None
    breaks: bool = False


class Rounds:
    """A container on its way. `length` is how many rounds there may be, of which at most `at_once` are under way.

    `inputs` are the step's. `steps` is how many rounds its end speaks of. `graph` is what is run where that is not the
    container's own body; `pinned` says which, in the fact from which the rounds are rebuilt.
    """

    graph: Graph | None = None
    pinned: Mapping[str, str] = {}

    def __init__(self, inputs: Mapping[str, Any], length: int, at_once: int = 1) -> None:
        self.inputs = inputs
        self.length = self.steps = length
        self.usages: dict[int, Usage] = {}
        self._at_once = at_once
        self._begun = 0
        self.is_over = False
        """No round is to follow, whatever is left."""

    @property
    def due(self) -> range:
        """The rounds that may begin now."""
        if self.is_over:
            return range(0)
        under_way = self._begun - len(self.usages)
        return range(self._begun, min(self.length, self._begun + self._at_once - under_way))

    def begin(self, number: int) -> None:
        self._begun = number + 1

    def end(self, number: int, ended: RoundEnd) -> None:
        self.usages[number] = ended.usage

    @property
    def variables(self) -> Mapping[str, Any]:
        """What can be read under the container's id once it has ended, however it ended."""
        return {}

    @property
    def left(self) -> Mapping[str, Any]:
        """What the rounds so far leave to the next one."""
        return {}

    @property
    def have_ended(self) -> bool:
        """True when no round is due or will be; what may still be under way is not waited for."""
        return self.is_over or len(self.usages) == self.length

    def pool(self, number: int, around: VariablePool) -> VariablePool:
        raise NotImplementedError

    def outcome(self) -> Completed:
        """Of a container that has ended. Raises NodeFailed."""
        raise NotImplementedError

    def metadata(self) -> dict[str, Any]:
        """The step's `execution_metadata`, however it ended."""
        tokens = sum(usage.tokens for usage in self.usages.values())
        return {"total_tokens": tokens, "total_price": "0", "currency": "USD"}

    def seconds(self) -> dict[str, float]:
        """By the number of the round, in order."""
        return {str(number): round(self.usages[number].seconds, 6) for number in sorted(self.usages)}


class Container(NodeKind, frozen=True):
    """A kind whose node has a body; the graph knows it under the node's id (`Graph.bodies`)."""

    @property
    def inner_selectors(self) -> Iterable[Selector]:
        """Every value that is read when a round has ended: those of its nodes are there, too."""
        return ()

    def execute(self, pool: VariablePool) -> Rounds:
        """What the container goes through. Raises NodeFailed."""
        raise NotImplementedError
