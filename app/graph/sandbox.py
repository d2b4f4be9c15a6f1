"""Jinja2 that can neither look around nor swell: what `template-transform` renders with.

Jinja's own sandbox keeps a template from private attributes and from changing its values. It sets no bound on time or
memory, and pure nodes run inside the web process, so this module adds four:

- the output, and every text put together on the way, holds at most MAX_OUTPUT characters;
- loops, macros and ranges share MAX_TURNS turns;
- operators, filters and methods that make much out of little (`'a' * 10**9`, `center`, `%99999999d`) are checked
  before they run, not after;
- whatever goes wrong is a NodeFailed with one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, NoReturn

from jinja2 import Template, nodes, pass_context
from jinja2.environment import Environment
from jinja2.exceptions import SecurityError
from jinja2.filters import make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import pass_environment
from jinja2.visitor import NodeTransformer

from app.errors import NodeFailed
from app.graph.values import Value

MAX_OUTPUT = 400_000  # characters
MAX_TURNS = 250_000
_MAX_GROWTH = 10_000_000  # characters that one operation may make
_MAX_NUMBER = 10_000  # a width, a count, a precision; also the items of a list and the bits of an integer

_TURNS = " turns"  # no template can spell this name
_WIDE_FORMAT = re.compile(r"%[^a-zA-Z%]*(\*|\d{5})|\{[^{}]*:[^{}]*(\{|\d{5})")
_GROWING_FILTERS = ("batch", "center", "indent", "replace", "round", "slice", "tojson", "wordwrap")
_GROWING_METHODS = frozenset({"center", "expandtabs", "ljust", "replace", "rjust", "zfill"})
_FORBIDDEN_METHODS = frozenset({"encode", "to_bytes", "translate"})


class OutputTooLong(ValueError):
    def __init__(self) -> None:
        super().__init__(f"Output length exceeds {MAX_OUTPUT} characters")


def compile_template(source: str) -> Template:
    """The template, ready to render any number of times. Raises jinja2.TemplateSyntaxError."""
    tree = _Metering().visit(_SANDBOX.parse(source))
    # A plain dict: the ChainMap that Jinja would make is copied in Python at every rendering.
    return Template.from_code(_SANDBOX, _SANDBOX.compile(tree), dict(_SANDBOX.globals))


def render(template: Template, values: Mapping[str, Any]) -> str:
    """The template's text over these values; an unknown name is an empty text. Raises NodeFailed."""
    try:
        # What `Template.render` does, without copies of the values and a better traceback that nobody would see.
        named = {**template.globals, **values, _TURNS: [MAX_TURNS]}
        return _Sandbox.concat(template.root_render_func(Context(_SANDBOX, named, template.name, template.blocks)))
    except Exception as error:  # a template can raise anything that Python can
        raise NodeFailed(str(error) or type(error).__name__, error_type=type(error).__name__) from None


class _Metering(NodeTransformer):
    """Puts a turn into each loop and macro, and a bounded call in place of each `~`."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        if node.test is None:
            node.body.insert(0, nodes.ExprStmt(_bounded_call("spend_turn")))
        else:
            node.test = nodes.And(_bounded_call("spend_turn"), node.test)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_bounded_call("spend_turn")))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Call:
        self.generic_visit(node)
        return _bounded_call("concat_values", *node.nodes)


def _bounded_call(name: str, *arguments: nodes.Expr) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__()
        self.globals["range"] = _metered_range
        del self.globals["lipsum"], self.filters["random"]  # chance: a step that is tried again must say the same
        self.filters |= {name: _checked_filter(self.filters[name]) for name in _GROWING_FILTERS}
        self.filters["join"] = _join
        self.filters["format"] = _checked_format(self.filters["format"])

    @staticmethod
    def concat(texts: Iterable[str]) -> str:
        """Every output, macro and block set passes here: it stops at the first text too many."""
        kept, length = [], 0
        for text in texts:
            length += len(text)
            if length > MAX_OUTPUT:
                raise OutputTooLong
            kept.append(text)
        return "".join(kept)

    @staticmethod
    def concat_values(*values: Value) -> str:
        return _Sandbox.concat(map(str, values))

    @staticmethod
    @pass_context
    def spend_turn(context: Context) -> bool:
        _spend(context, 1)
        return True

    def is_safe_attribute(self, obj: Value, attr: str, value: Value) -> bool:
        return attr not in _FORBIDDEN_METHODS and super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Value, attribute: str) -> NoReturn:
        """Jinja would print nothing, and fail only where more is asked of it."""
        raise SecurityError(f"access to attribute {attribute!r} of {type(obj).__name__!r} object is unsafe")

    def wrap_str_format(self, value: Value) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(value.__self__)
        return wrapped

    def call_binop(self, context: Context, operator: str, left: Value, right: Value) -> Value:
        _check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Value, *args: Value, **kwargs: Value) -> Value:
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name == "join":
            return _join_texts(owner, args[0])
        if isinstance(owner, str) and name in _GROWING_METHODS:
            _check_growth(owner, (*args, *kwargs.values()))
        return super().call(__context, __obj, *args, **kwargs)


@pass_context
def _metered_range(context: Context, *bounds: int) -> range:
    numbers = safe_range(*bounds)
    _spend(context, len(numbers))
    return numbers


def _spend(context: Context, turns: int) -> None:
    left = context.parent[_TURNS]
    left[0] -= turns
    if left[0] < 0:
        raise SecurityError(f"Loops exceed {MAX_TURNS} turns")


def _check_operation(operator: str, left: Value, right: Value) -> None:
    if operator == "%":
        return _check_format(left) if isinstance(left, str) else None
    size = _OPERATION_SIZES[operator](left, right)
    if size > (_MAX_GROWTH if isinstance(left, str) or isinstance(right, str) else _MAX_NUMBER):
        raise SecurityError(f"The result of '{operator}' is too large")
    return None


def _sum_size(left: Value, right: Value) -> int:
    return _size(left) + _size(right)


def _product_size(left: Value, right: Value) -> int:
    """Bits for two integers, items or characters for a sequence and its count."""
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() + right.bit_length()
    counts = [side for side in (left, right) if isinstance(side, int)]
    return _sum_size(left, right) * max(counts, default=1)


def _power_size(left: Value, right: Value) -> int:
    return left.bit_length() * abs(right) if isinstance(left, int) and isinstance(right, int) else 0


_OPERATION_SIZES: Mapping[str, Callable[[Any, Any], int]] = {"+": _sum_size, "*": _product_size, "**": _power_size}


def _size(value: Value) -> int:
    return len(value) if isinstance(value, (str, list, tuple)) else 0


def _check_format(template: str) -> None:
    if _WIDE_FORMAT.search(template):
        raise SecurityError("A format's width must be a number of at most four digits")


def _check_growth(value: Value, arguments: Iterable[Any]) -> None:
    """Refuse arguments that would make more than _MAX_GROWTH characters out of the value."""
    factor = 1
    for argument in arguments:
        if isinstance(argument, int) and abs(argument) > _MAX_NUMBER:
            raise SecurityError(f"{argument} is too large: at most {_MAX_NUMBER}")
        factor = max(factor, abs(argument) if isinstance(argument, int) else _size(argument))
    if (_size(value) + 1) * factor > _MAX_GROWTH:
        raise SecurityError("The result would be too large")


def _checked_filter(plain_filter: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain_filter)
    def checked(*args: Value, **kwargs: Value) -> Value:
        value, *rest = (arg for arg in args if not isinstance(arg, (Context, EvalContext, Environment)))
        _check_growth(value, (*rest, *kwargs.values()))
        return plain_filter(*args, **kwargs)

    return checked


def _checked_format(plain_format: Callable[..., str]) -> Callable[..., str]:
    def checked(value: Value, *args: Value, **kwargs: Value) -> str:
        _check_format(str(value))
        return plain_format(value, *args, **kwargs)

    return checked


@pass_environment
def _join(environment: Environment, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """Jinja's `join`, counted while it joins. `d` (the separator) and `attribute` keep Jinja's names."""
    items = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    return _join_texts(str(d), items)


def _join_texts(separator: str, items: Iterable[Any]) -> str:
    def pieces() -> Iterable[str]:
        for index, item in enumerate(items):
            yield separator if index else ""
            yield str(item)

    return _Sandbox.concat(pieces())


_SANDBOX = _Sandbox()
