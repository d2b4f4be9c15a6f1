"""`document-extractor`: the files of a step, out of the artifact store, to their texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.artifacts.store import ArtifactStore
from app.domain.run import Succeeded
from app.errors import NodeFailed
from workers.documents.extract import MOST_CHARACTERS
from workers.documents.reader import Halted, read_document
from workers.documents.refusals import Unreadable, UnsupportedType
from workers.run_step import Job, NodeRun, StepHalted


class ExtractDocuments:
    """Reads one document after the other; the first that can't be read fails the step."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts

    def run(self, job: Job) -> NodeRun:
        documents = job.arguments["documents"]
        listed = documents if isinstance(documents, list) else [documents]
        shown = {"documents": listed}
        texts: list[str] = []
        try:
            for file in listed:
                texts.append(self._text(job, file))
                if sum(map(len, texts)) > MOST_CHARACTERS:
                    raise Unreadable(f"The texts have more than {MOST_CHARACTERS} characters together.")
        except Halted:
            raise StepHalted from None
        except Unreadable as error:
            kind = "UnsupportedFileTypeError" if isinstance(error, UnsupportedType) else "TextExtractionError"
            raise NodeFailed(str(error), error_type=kind, process_data=shown) from None
        return NodeRun(Succeeded({"text": texts if isinstance(documents, list) else texts[0]}, shown))

    def _text(self, job: Job, file: Mapping[str, Any]) -> str:
        content = self._artifacts.get(file["sha256"])
        return read_document(content, file["extension"], file["mime_type"], job.is_halted)
