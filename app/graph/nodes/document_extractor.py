"""document-extractor: the text of a file, or of each file of a list. A worker reads the files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self

from app.domain.artifact import is_artifact
from app.errors import NodeFailed
from app.graph.nodes.kind import Completed, Configuration, NodeKind, WorkerCall
from app.graph.selectors import MISSING, Selector
from app.graph.variables import VariablePool


class DocumentExtractor(NodeKind, frozen=True):
    """A file gives a text, a list of files a list of texts; where there is none, the list is empty."""

    kind: ClassVar[str] = "document-extractor"
    variable: Selector

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        return cls(configuration.selector(configuration.entries.get("variable_selector"), "the document"))

    @property
    def selectors(self) -> Iterable[Selector]:
        return (self.variable,)

    def execute(self, pool: VariablePool) -> Completed | WorkerCall:
        found, written = pool.get(self.variable), list(self.variable)
        if found is MISSING:
            raise NodeFailed(f"File variable not found for selector: {written}")
        files = [each for each in found if each] if isinstance(found, list) else found
        listed = files if isinstance(files, list) else [files]
        if files and not all(map(is_artifact, listed)):
            raise NodeFailed(f"Variable {written} is not an ArrayFileSegment")
        inputs = {"variable_selector": written}
        if not files:
            return Completed(inputs=inputs, outputs={"text": []}, process_data={"documents": listed})
        return WorkerCall("cpu", inputs, {"documents": files})
