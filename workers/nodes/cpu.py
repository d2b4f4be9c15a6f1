"""What the worker of the cpu class can do: a kind of node is a line here."""

from __future__ import annotations

from app.artifacts.store import ArtifactStore
from app.settings import Settings
from workers.nodes.asking import Asker
from workers.nodes.code import RunCode
from workers.nodes.document_extractor import ExtractDocuments
from workers.nodes.http.node import SendRequest
from workers.nodes.llm import AskLlm, ClassifyQuestion, ExtractParameters
from workers.nodes.template import RenderTemplate
from workers.nodes.tool import CallTool
from workers.run_step import WorkerNode


def cpu_nodes(settings: Settings, artifacts: ArtifactStore) -> dict[str, WorkerNode]:
    asker = Asker(settings, artifacts)
    return {
        "template-transform": RenderTemplate(),
        "document-extractor": ExtractDocuments(artifacts),
        "tool": CallTool(),
        "http-request": SendRequest(artifacts, settings),
        "llm": AskLlm(asker),
        "parameter-extractor": ExtractParameters(asker),
        "question-classifier": ClassifyQuestion(asker),
        "code": RunCode(settings),
    }
