"""Somebody else's image tool, painted by our engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import msgspec

from app.errors import InvalidParam
from app.graph.tools.parameters import Call, Review
from app.graph.tools.roles import EMPTY_IS_MEANT, TAKE_PICTURES, model, picture
from app.graph.tools.sketch import Sketch, Taken
from app.graph.values import Value

_NO_ORDERS = "a given picture is painted anew after the prompt, which says what it shows; orders are not understood"


class ImageTool(msgspec.Struct, frozen=True):
    """A tool of somebody else that makes pictures, painted by our engine.

    `model` is asked for where a call names none. `tells_images`: the service's answer, which Dify gives as `json`,
    lists its pictures by their URLs, and workflows read them there. `follows_orders`: there the prompt says what is to
    be done with a picture; here it says what the picture shows.
    """

    provider: str
    name: str
    parameters: tuple[Taken, ...]
    model: str = ""
    tells_images: bool = False
    follows_orders: bool = False
    work_class: str = "gpu"

    @property
    def required(self) -> frozenset[str]:
        return frozenset(parameter.name for parameter in self.parameters if parameter.required)

    @property
    def pictures(self) -> frozenset[str]:
        """The parameters that take files."""
        return frozenset(parameter.name for parameter in self.parameters if parameter.role in TAKE_PICTURES)

    def call(self, values: Mapping[str, Any]) -> Call:
        """The call of our own tool that paints what was asked. Raises InvalidParam."""
        sketch = Sketch(self.model)
        for parameter in self.parameters:
            draw(sketch, parameter, values.get(parameter.name))
        sketch.choose_sampler()
        return sketch.call()

    def review(self, constants: Mapping[str, Any], written: Iterable[str], is_typed: bool) -> Review:
        """The same for what a document fixes. A parameter that is not known is left out, as Dify does."""
        sketch, problems = Sketch(self.model), []
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in written:
            if name not in known:
                sketch.note(f"'{name}' is no parameter of {self.name} and has no effect")
            elif known[name].role is picture and self.follows_orders:
                sketch.note(_NO_ORDERS)
        for name in filter(known.__contains__, constants):
            if not is_typed and (refusal := _option_refusal(known[name], constants[name])):
                problems.append(refusal)
                continue
            try:
                draw(sketch, known[name], constants[name])
            except InvalidParam as error:
                problems.append(error.message)
        loras: tuple[str, ...] = ()
        try:
            sketch.choose_sampler()
            loras = sketch.loras
        except InvalidParam as error:
            problems.append(error.message)
        return Review(tuple(problems), tuple(sketch.notes), self._fixed_model(sketch, set(written)), loras)

    def _fixed_model(self, sketch: Sketch, written: Set[str]) -> str:
        """What each run will ask for, as far as the document says it."""
        choices = [parameter for parameter in self.parameters if parameter.role is model]
        if sketch.model == self.model and not any(choice.name in written for choice in choices):
            return next((choice.default for choice in choices if choice.default), self.model)
        return sketch.model


def draw(sketch: Sketch, parameter: Taken, value: Value) -> None:
    """Writes the value, or the default where it says nothing, into the sketch. Raises InvalidParam."""
    given = parameter.default if is_open(parameter, value) else value
    if given is not None:
        parameter.role(sketch, parameter, given)
    elif parameter.required:
        raise InvalidParam(f"{parameter.name} is required", params=parameter.name)


def is_open(parameter: Taken, value: Value) -> bool:
    """True for a value that says nothing, so that the default is taken; an empty text may be what is meant."""
    return value is None or value == [] or (value == "" and parameter.role not in EMPTY_IS_MEANT)


def _option_refusal(parameter: Taken, value: Value) -> str:
    """Dify's check of a plain setting that is chosen from a list."""
    if not parameter.options or is_open(parameter, value) or str(value) in parameter.options:
        return ""
    return f"tool parameter {parameter.name} value {value} not in options {list(parameter.options)}"
