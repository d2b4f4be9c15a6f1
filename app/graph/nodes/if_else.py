"""if-else: the first case that holds names the handle, else `false` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import msgspec

from app.domain.artifact import is_artifact
from app.errors import NodeFailed
from app.graph.nodes.kind import Completed, Configuration, NodeKind, selectors_of
from app.graph.nodes.operators import OPERATORS
from app.graph.selectors import MISSING, Selector, TextTemplate
from app.graph.values import FILE_ATTRIBUTES, Value
from app.graph.variables import VariablePool

ELSE = "false"
_FILE_LIST_OPERATORS = frozenset({"contains", "not contains", "all of"})

Expected = TextTemplate | list[Any] | bool | float | None


class SubCondition(msgspec.Struct, frozen=True):
    """A condition on one attribute of every file in a list."""

    key: str
    operator: str
    expected: Expected

    def holds(self, files: Iterable[Mapping[str, Any]], pool: VariablePool) -> bool:
        """Any file will do; an operator with a `not` must hold for all of them."""
        expected = _with_dots(_value(self.expected, pool)) if self.key == "extension" else _value(self.expected, pool)
        read = FILE_ATTRIBUTES[self.key]
        results = (OPERATORS[self.operator](read(file), expected) for file in files)
        return all(results) if "not" in self.operator else any(results)


class Condition(msgspec.Struct, frozen=True):
    selector: Selector
    operator: str
    expected: Expected
    sub_operator: str = "and"
    sub_conditions: tuple[SubCondition, ...] = ()

    def holds(self, actual: Value, expected: Value, pool: VariablePool) -> bool:
        files = _files(actual)
        if not files or self.operator not in _FILE_LIST_OPERATORS:
            return OPERATORS[self.operator](actual, expected)
        if not self.sub_conditions:
            raise NodeFailed("Sub variable is required", error_type="")
        return _joined(self.sub_operator, (sub.holds(files, pool) for sub in self.sub_conditions))


class Case(msgspec.Struct, frozen=True):
    """`group` is the case as the document has it, or `default` for the one without an id; the step shows it."""

    case_id: str
    logical_operator: str
    conditions: tuple[Condition, ...]
    group: Mapping[str, Any] | str

    @property
    def selectors(self) -> Iterable[Selector]:
        for condition in self.conditions:
            yield condition.selector
            yield from selectors_of(condition.expected)
            for sub in condition.sub_conditions:
                yield from selectors_of(sub.expected)


class IfElse(NodeKind, frozen=True):
    kind: ClassVar[str] = "if-else"
    cases: tuple[Case, ...]

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        """Documents from before cases had ids hold one case at the top level; its handle is `true`."""
        written: list[Mapping[str, Any]] = configuration.mappings("cases")
        if not written and configuration.entries.get("conditions"):
            keys = ("logical_operator", "conditions")
            written = [{"case_id": "true"} | {key: configuration.entries.get(key) for key in keys}]
            return cls((msgspec.structs.replace(read_case(written[0], configuration), group="default"),))
        return cls(tuple(read_case(entry, configuration) for entry in written))

    @property
    def selectors(self) -> Iterable[Selector]:
        return (selector for case in self.cases for selector in case.selectors)

    @property
    def handles(self) -> frozenset[str]:
        return frozenset(case.case_id for case in self.cases) | {ELSE}

    def execute(self, pool: VariablePool) -> Completed:
        shown: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        chosen = next((case.case_id for case in self.cases if _evaluate(case, pool, shown, results)), None)
        return Completed(
            inputs={"conditions": shown},
            outputs={"result": chosen is not None, "selected_case_id": chosen or ELSE},
            process_data={"condition_results": results},
            handle=chosen or ELSE,
        )


def _evaluate(case: Case, pool: VariablePool, shown: list[dict[str, Any]], results: list[dict[str, Any]]) -> bool:
    """One case, as far as its outcome needs; what was compared is added to `shown`, how it went to `results`."""
    verdicts: list[bool] = []
    for condition in case.conditions:
        actual, expected = _actual(condition, pool), _value(condition.expected, pool)
        shown.append({"actual_value": actual, "expected_value": expected, "comparison_operator": condition.operator})
        verdicts.append(condition.holds(actual, expected, pool))
        if verdicts[-1] == (case.logical_operator == "or"):
            break
    final = _joined(case.logical_operator, verdicts)
    results.append({"group": case.group, "results": verdicts, "final_result": final})
    return final


def _joined(logical_operator: str, verdicts: Iterable[bool]) -> bool:
    return any(verdicts) if logical_operator == "or" else all(verdicts)


def _actual(condition: Condition, pool: VariablePool) -> Value:
    value = pool.get(condition.selector)
    if value is MISSING:
        raise NodeFailed(f"Variable {list(condition.selector)} not found", error_type="")
    return value


def _value(expected: Expected, pool: VariablePool) -> Value:
    return expected.render(pool.get) if isinstance(expected, TextTemplate) else expected


def _files(actual: Value) -> list[Mapping[str, Any]]:
    """The files that sub-conditions look at: a list's, or the one that is there."""
    candidates = actual if isinstance(actual, list) else [actual]
    return candidates if all(map(is_artifact, candidates)) else []


def _with_dots(expected: Value) -> Value:
    """Extensions begin with a dot; people write them without."""
    if isinstance(expected, list):
        return [_with_dots(item) for item in expected]
    return f".{expected}" if isinstance(expected, str) and expected and not expected.startswith(".") else expected


def holds(case: Case, pool: VariablePool) -> bool:
    """Whether the case's conditions hold. Raises NodeFailed."""
    return _evaluate(case, pool, [], [])


def read_case(entry: Mapping[str, Any], configuration: Configuration) -> Case:
    case_id = entry.get("case_id") or entry.get("id")
    if not isinstance(case_id, str) or case_id == ELSE:
        configuration.problem(f"a case needs a case_id other than '{ELSE}', got {case_id!r}")
    return Case(
        case_id=str(case_id),
        logical_operator=_read_logical_operator(entry, configuration),
        conditions=tuple(_read_condition(item, configuration) for item in configuration.mappings("conditions", entry)),
        group=entry,
    )


def _read_condition(entry: Mapping[str, Any], configuration: Configuration) -> Condition:
    sub = configuration.mapping("sub_variable_condition", entry)
    return Condition(
        selector=configuration.selector(entry.get("variable_selector"), "a condition"),
        operator=_read_operator(entry, configuration),
        expected=_read_expected(entry.get("value")),
        sub_operator=_read_logical_operator(sub, configuration),
        sub_conditions=tuple(
            _read_sub_condition(item, configuration) for item in configuration.mappings("conditions", sub)
        ),
    )


def _read_sub_condition(entry: Mapping[str, Any], configuration: Configuration) -> SubCondition:
    key = str(entry.get("key"))
    if key not in FILE_ATTRIBUTES:
        configuration.problem(f"'{key}' is no attribute of a file; a file has {', '.join(FILE_ATTRIBUTES)}")
    return SubCondition(key, _read_operator(entry, configuration), _read_expected(entry.get("value")))


def _read_operator(entry: Mapping[str, Any], configuration: Configuration) -> str:
    name = str(entry.get("comparison_operator"))
    if name not in OPERATORS:
        configuration.problem(f"operator '{name}' is not known; known operators: {', '.join(OPERATORS)}")
    return name


def _read_logical_operator(entry: Mapping[str, Any], configuration: Configuration) -> str:
    name = entry.get("logical_operator") or "and"
    if name not in ("and", "or"):
        configuration.problem(f"logical_operator must be 'and' or 'or', got {name!r}")
    return str(name)


def _read_expected(value: Value) -> Expected:
    return TextTemplate.of(value) if isinstance(value, str) else value
