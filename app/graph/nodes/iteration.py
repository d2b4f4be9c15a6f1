"""iteration: its nodes once for each item of a list, one after the other or several at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Self

from app.errors import NodeFailed
from app.graph.nodes.kind import Completed, Configuration, NodeKind
from app.graph.rounds import Container, RoundEnd, Rounds
from app.graph.selectors import MISSING, Selector, as_selector
from app.graph.values import Value
from app.graph.variables import VariablePool

TERMINATED, CONTINUE, REMOVE = "terminated", "continue-on-error", "remove-abnormal-output"
_MODES = (TERMINATED, CONTINUE, REMOVE)


class IterationStart(NodeKind, frozen=True):
    """Marks where the rounds begin. It is no step of a run."""

    kind: ClassVar[str] = "iteration-start"

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        return cls()


class Iteration(Container, frozen=True):
    """`on_error` says what a failed round means: the iteration's failure, a null in its place, or nothing there."""

    kind: ClassVar[str] = "iteration"
    node_id: str
    iterator: Selector
    output: Selector | None
    at_once: int
    on_error: str
    flattens: bool

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        entries = configuration.entries
        mode = entries.get("error_handle_mode") or TERMINATED
        if mode not in _MODES:
            configuration.problem(f"error_handle_mode {mode!r} is not known; known modes: {', '.join(_MODES)}")
        output = as_selector(entries.get("output_selector"))
        if output is None:
            configuration.warn("output_selector names no value, so its output is a list of nulls")
        flattens = entries.get("flatten_output")
        return cls(
            configuration.node_id,
            configuration.selector(entries.get("iterator_selector"), "iterator_selector"),
            output,
            _read_parallel_nums(configuration) if entries.get("is_parallel") else 1,
            str(mode),
            flattens is None or bool(flattens),
        )

    @property
    def selectors(self) -> Iterable[Selector]:
        return (self.iterator,)

    @property
    def inner_selectors(self) -> Iterable[Selector]:
        return (self.output,) if self.output else ()

    def execute(self, pool: VariablePool) -> Rounds:
        items = pool.get(self.iterator)
        if items is MISSING:
            raise NodeFailed(
                f"iterator variable {list(self.iterator)} not found", error_type="IteratorVariableNotFoundError"
            )
        if items is None:
            items = []
        if not isinstance(items, list):
            raise NodeFailed(
                f"invalid iterator value: {items}, please provide a list.", error_type="InvalidIteratorValueError"
            )
        return _ItemRounds(self, items)


class _ItemRounds(Rounds):
    def __init__(self, node: Iteration, items: list[Value]) -> None:
        super().__init__({"iterator_selector": items}, len(items), node.at_once)
        self._node = node
        self._items = items
        self._results: dict[int, Value] = {}
        self._failure: NodeFailed | None = None

    def pool(self, number: int, around: VariablePool) -> VariablePool:
        return around.within(self._node.node_id, {"item": self._items[number], "index": number})

    def end(self, number: int, ended: RoundEnd) -> None:
        super().end(number, ended)
        if ended.failure is None:
            self._results[number] = ended.pool.get(self._node.output, None) if self._node.output else None
        elif self._node.on_error == CONTINUE:
            self._results[number] = None
        elif self._node.on_error == TERMINATED:
            self._failure, self.is_over = ended.failure, True

    def outcome(self) -> Completed:
        if self._failure is not None:
            raise self._failure
        results = [self._results[number] for number in sorted(self._results)]
        outputs = {"output": _flat(results) if self._node.flattens else results}
        return Completed(self.inputs, outputs, metadata=self.metadata())

    def metadata(self) -> dict[str, Any]:
        return {**super().metadata(), "iteration_duration_map": self.seconds()}


def _flat(results: list[Value]) -> list[Value]:
    """One level less when every result is a list, but for the nulls, which are dropped then."""
    lists = [result for result in results if result is not None]
    if not lists or not all(isinstance(result, list) for result in lists):
        return results
    return [item for result in lists for item in result]


def _read_parallel_nums(configuration: Configuration) -> int:
    written: Any = configuration.entries.get("parallel_nums")
    if written in (None, ""):
        return 10
    try:
        number = int(str(written))
    except ValueError:
        number = 0
    if number < 1:
        configuration.problem(f"parallel_nums must be a number from 1 on, got {written!r}")
        return 1
    return number
