"""What every kind of node promises, and what it needs to be read and to answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from app.errors import Problem
from app.graph.selectors import Selector, TextTemplate, as_selector
from app.graph.variables import VariablePool

if TYPE_CHECKING:
    from app.graph.rounds import Rounds

SOURCE = "source"
"""The handle by which every node but a branching one is left."""

NOWHERE: Selector = ("", "")
"""Finds nothing."""


class Completed(msgspec.Struct, frozen=True):
    """A node that ran inline. `handle` names the outgoing edges that are taken; `metadata` is Dify's
    `execution_metadata`."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    process_data: Mapping[str, Any] | None = None
    handle: str = SOURCE
    metadata: Mapping[str, Any] | None = None


class WorkerCall(msgspec.Struct, frozen=True):
    """A node that needs a worker of a class (`cpu`, `gpu`), with inputs that are checked and complete.

    `inputs` are shown to callers and kept in the run's log. `arguments` are what the worker needs besides: they are
    kept with the step alone and shown to nobody, so they may hold secrets.
    """

    work_class: str
    inputs: Mapping[str, Any]
    arguments: Mapping[str, Any] = {}


class AskForm(msgspec.Struct, frozen=True):
    """A node that waits for a person: the form as it is shown, and how long it may take."""

    inputs: Mapping[str, Any]
    form: Mapping[str, Any]
    timeout_s: float


class AppCall(msgspec.Struct, frozen=True):
    """A node that runs another app of this server: what it may be called, and what it is given."""

    names: tuple[str, ...]
    inputs: Mapping[str, Any]


class Configuration:
    """A node's `data` while its kind reads it.

    What is wrong goes to `problems` and the reading goes on with a stand-in, so that an author hears everything at
    once; a graph with problems is never built. A warning is a note for the author: the graph is built all the same.
    """

    __slots__ = ("_problems", "_warnings", "entries", "node_id", "title")

    def __init__(
        self,
        node_id: str,
        entries: Mapping[str, Any],
        problems: list[str],
        warnings: list[str] | None = None,
    ) -> None:
        self.node_id = node_id
        self.title = str(entries.get("title") or "")
        self.entries = entries
        self._problems = problems
        self._warnings = [] if warnings is None else warnings

    def problem(self, text: str) -> None:
        self._problems.append(problem_of(self.node_id, self.title, text))

    def warn(self, text: str) -> None:
        self._warnings.append(problem_of(self.node_id, self.title, text))

    def text(self, key: str) -> str:
        value = self.entries.get(key)
        if not isinstance(value, str):
            self.problem(f"{key} must be a text")
            return ""
        return value

    def mapping(self, key: str, within: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The mapping under the key, of the node or of an entry `within` it; absent or null is an empty one."""
        value = (self.entries if within is None else within).get(key) or {}
        if not isinstance(value, dict):
            self.problem(f"{key} must be a mapping")
            return {}
        return value

    def mappings(self, key: str, within: Mapping[str, Any] | None = None) -> list[Mapping[str, Any]]:
        """The list of mappings under the key, likewise."""
        value = (self.entries if within is None else within).get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.problem(f"{key} must be a list of mappings")
            return []
        return value

    def selector(self, value: object, use: str) -> Selector:
        """The selector that `use` (a phrase for the problem's text) needs.

        The editor writes an empty or unfinished list where nothing was picked yet: it finds nothing, as in Dify.
        """
        selector = as_selector(value)
        if selector is not None:
            return selector
        unfinished = value is None or (isinstance(value, list) and all(isinstance(part, str) for part in value))
        tell = self.warn if unfinished else self.problem
        tell(f"{use} needs a selector [node id, variable], got {value!r}")
        return NOWHERE

    def bindings(self, key: str) -> tuple[tuple[str, Selector], ...]:
        """A list of {variable, value_selector} as (name, selector) pairs."""
        return tuple(
            (str(entry.get("variable")), self.selector(entry.get("value_selector"), f"'{entry.get('variable')}'"))
            for entry in self.mappings(key)
        )


class NodeKind(msgspec.Struct, frozen=True):
    """One node's checked configuration. A subclass is a kind: it says what it reads and what it does."""

    kind: ClassVar[str]
    retries: ClassVar[bool] = False
    """Whether the document's `retry_config` is heeded."""

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        raise NotImplementedError

    @property
    def selectors(self) -> Iterable[Selector]:
        """Every value that the node may read: each must come from an ancestor."""
        return ()

    @property
    def assigns(self) -> tuple[Selector, ...]:
        """The variables of other nodes that it may set."""
        return ()

    @property
    def handles(self) -> frozenset[str]:
        """The handles of a branching node; empty for one that is always left by `source`."""
        return frozenset()

    def execute(self, pool: VariablePool) -> Completed | WorkerCall | AskForm | AppCall | Rounds:
        """Do the node's work, or say which worker must, or which rounds of its own nodes do it.

        Raises NodeFailed, or InvalidParam for a tool's argument.
        """
        raise NotImplementedError


def problem_of(node_id: str, title: str, text: str) -> Problem:
    """How every problem names its node."""
    name = f"node '{node_id}' ({title})" if title else f"node '{node_id}'"
    return Problem(f"{name}: {text}", node_id, title)


def selectors_of(value: object) -> Iterable[Selector]:
    """The references of a compiled text; nothing else has any."""
    return value.selectors if isinstance(value, TextTemplate) else ()
