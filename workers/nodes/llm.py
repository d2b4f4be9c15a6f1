"""The nodes that ask a language model: llm, parameter-extractor, question-classifier."""

from __future__ import annotations

from typing import Any

from app.domain.run import Succeeded
from app.errors import NodeFailed
from app.graph.nodes.llm import SEPARATED, Llm
from app.graph.nodes.parameter_extractor import FUNCTION, ParameterExtractor
from app.graph.nodes.question_classifier import QuestionClassifier
from app.graph.replies import find_json, without_thoughts
from workers.nodes.asking import Answer, Asker, Question, process_data
from workers.run_step import Job, NodeRun
from workers.text.request import Function


class AskLlm:
    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def run(self, job: Job) -> NodeRun:
        node = job.work
        assert isinstance(node, Llm)
        if not node.needs_endpoint and not self._asker.knows(node.model):
            return NodeRun(Succeeded(_outputs(Answer(separates=False))))
        question = Question(
            model=node.model,
            messages=node.conversation(job.arguments),
            parameters=job.arguments["parameters"],
            detail=node.vision.detail,
            separates=node.reasoning_format == SEPARATED,
            schema=node.schema,
        )
        answer = self._asker.ask(job, question, job.say)
        told = process_data(question, answer)
        outputs = _outputs(answer)
        if node.schema is not None:
            outputs["structured_output"] = _structured(answer, told)
        return NodeRun(Succeeded(outputs, told, answer.metadata))


class ExtractParameters:
    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def run(self, job: Job) -> NodeRun:
        node = job.work
        assert isinstance(node, ParameterExtractor)
        function = Function(FUNCTION, "Takes the parameters that the text gives.", node.schema)
        question = Question(
            model=node.model,
            messages=node.conversation(job.arguments),
            parameters=job.arguments["parameters"],
            detail=node.vision.detail,
            function=function if node.by_call else None,
        )
        told = process_data(question, None) | {
            "function": {"name": FUNCTION, "parameters": node.schema} if node.by_call else {},
            "tool_call": None,
        }
        try:
            answer = self._asker.ask(job, question)
        except NodeFailed as failure:
            outputs = {"__is_success": 0, "__reason": "Failed to invoke model", "__error": failure.message}
            raise NodeFailed(
                failure.message, error_type=failure.error_type, outputs=outputs, process_data=told
            ) from None
        call = {"function": {"name": FUNCTION, "arguments": answer.call}} if answer.call else None
        told |= process_data(question, answer) | {"tool_call": call, "llm_text": answer.text}
        outputs = node.extracted(answer.text, answer.call) | {"__usage": answer.usage}
        return NodeRun(Succeeded(outputs, told, answer.metadata))


class ClassifyQuestion:
    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def run(self, job: Job) -> NodeRun:
        node = job.work
        assert isinstance(node, QuestionClassifier)
        question = Question(
            model=node.model,
            messages=node.conversation(job.arguments),
            parameters=job.arguments["parameters"],
            detail=node.vision.detail,
        )
        answer = self._asker.ask(job, question)
        chosen = node.chosen(answer.text, job.arguments)
        outputs = {**chosen, "usage": answer.usage}
        told = process_data(question, answer)
        return NodeRun(Succeeded(outputs, told, answer.metadata, handle=chosen["class_id"]))


def _outputs(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "reasoning_content": answer.thoughts,
        "usage": answer.usage,
        "finish_reason": answer.finish_reason,
    }


def _structured(answer: Answer, told: dict[str, Any]) -> Any:
    text, _ = without_thoughts(answer.text)
    found = find_json(text)
    if not isinstance(found, dict):
        said = f"Failed to parse structured output: {text[:200]}"
        raise NodeFailed(said, error_type="OutputParserError", process_data=told)
    return found
