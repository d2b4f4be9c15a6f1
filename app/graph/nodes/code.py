"""code: Python or JavaScript over named values. A worker runs it in its sandbox; what it answers is checked here."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

from app.graph.nodes.code_outputs import TYPES, Declared, OutputCheck, OutputLimits, as_mapping
from app.graph.nodes.kind import Configuration, NodeKind, WorkerCall
from app.graph.selectors import Selector
from app.graph.values import Value, plain
from app.graph.variables import VariablePool

LANGUAGES = ("python3", "javascript")
# What Node has and JavaScript has not.
_OF_NODE = re.compile(r"(?<![\w.$])(require|fetch|Buffer|process|setTimeout|XMLHttpRequest)(?=\s*[.(])")


class Code(NodeKind, frozen=True):
    kind: ClassVar[str] = "code"
    retries: ClassVar[bool] = True
    language: str
    code: str
    variables: tuple[tuple[str, Selector], ...]
    declared: Mapping[str, Declared]

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        language, code = configuration.text("code_language"), configuration.text("code")
        if language not in LANGUAGES:
            configuration.problem(f"code_language must be one of {', '.join(LANGUAGES)}, got '{language}'")
        if language == "python3":
            _look_at_imports(code, configuration)
        elif missing := sorted(set(_OF_NODE.findall(code))):
            configuration.warn(f"the code names {', '.join(missing)}: it runs with JavaScript's own objects alone")
        outputs = configuration.mapping("outputs")
        return cls(language, code, configuration.bindings("variables"), _declared(outputs, configuration))

    @property
    def selectors(self) -> Iterable[Selector]:
        return (selector for _, selector in self.variables)

    def execute(self, pool: VariablePool) -> WorkerCall:
        return WorkerCall("cpu", {name: plain(pool.get(selector, None)) for name, selector in self.variables})

    def outputs_of(self, answer: Value, limits: OutputLimits) -> dict[str, Any]:
        """What the code answered, as the node's outputs. Raises NodeFailed for what it does not declare."""
        return OutputCheck(limits).outputs(as_mapping(answer), self.declared)


def _declared(outputs: Mapping[str, Any], configuration: Configuration) -> dict[str, Declared]:
    found = {}
    for name, output in outputs.items():
        written = output if isinstance(output, dict) else {}
        if written.get("type") not in TYPES:
            configuration.problem(f"output '{name}' has the type {written.get('type')!r}; known: {', '.join(TYPES)}")
            continue
        children = _declared(configuration.mapping("children", written), configuration)
        found[str(name)] = Declared(written["type"], children or None)
    return found


def _look_at_imports(code: str, configuration: Configuration) -> None:
    """Notes for the author. Code that can't work fails when it runs; other branches of the graph may never need it."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        configuration.warn(f"the code can't be compiled: {error}")
        return
    missing = sorted({name for name in _imports(tree) if name not in sys.stdlib_module_names})
    if missing:
        configuration.warn(
            f"the code imports {', '.join(missing)}; it runs with Python's standard library, without packages and "
            "without a network: use an http-request node for requests"
        )


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
