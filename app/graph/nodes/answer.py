"""answer: a text with values in it, told as soon as they are there. Several answers of a run are strung together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from app.domain.artifact import MARK, is_artifact
from app.graph.markdown import markdown
from app.graph.nodes.end import Speaker
from app.graph.nodes.kind import Completed, Configuration
from app.graph.selectors import MISSING, Selector, TextTemplate
from app.graph.values import Value, is_file_list
from app.graph.variables import VariablePool


class Answer(Speaker, frozen=True):
    kind: ClassVar[str] = "answer"

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        return cls(TextTemplate.of(configuration.text("answer")).parts)

    def execute(self, pool: VariablePool) -> Completed:
        values = [pool.get(selector) for selector in self.selectors]
        text = "".join(part if isinstance(part, str) else _written(part, pool) for part in self.speech)
        return Completed({}, {"answer": text, "files": [file for value in values for file in _files(value)]})


def _written(selector: Selector, pool: VariablePool) -> str:
    """A value as Markdown; one that is not there as its name."""
    value = pool.get(selector)
    return ".".join(selector) if value is MISSING else markdown(value, _address)


def _address(file: Mapping[str, Any]) -> str:
    """Where a file is found for good: an answer is kept, and signatures end."""
    return f"/v1/files/{file[MARK]}"


def _files(value: Value) -> Iterator[Value]:
    if is_artifact(value):
        yield value
    elif is_file_list(value):
        yield from value
