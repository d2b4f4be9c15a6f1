"""llm: messages for a language model, which a worker asks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from app.errors import NodeFailed
from app.graph.nodes.kind import Configuration, NodeKind, WorkerCall
from app.graph.nodes.prompts import (
    Message,
    MessageTemplate,
    Model,
    Vision,
    context_text,
    jinja_values,
    read_back,
    read_messages,
    with_files,
    written,
)
from app.graph.selectors import Selector, as_selector
from app.graph.variables import VariablePool

SEPARATED = "separated"


class Llm(NodeKind, frozen=True):
    """`schema`: the JSON schema of the answer, or None for a text. `memory` is left out: a workflow has none.

    `needs_endpoint` is False for a node that answers with an empty text where no endpoint is configured (Atelier's own
    `endpoint_required: false`), so that a workflow can go on without a language model.
    """

    kind: ClassVar[str] = "llm"
    retries: ClassVar[bool] = True
    model: Model
    messages: tuple[MessageTemplate, ...]
    variables: tuple[tuple[str, Selector], ...]
    context: Selector | None
    vision: Vision
    schema: Mapping[str, Any] | None
    reasoning_format: str
    needs_endpoint: bool

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        prompt = configuration.mapping("prompt_config")
        context = configuration.mapping("context")
        return cls(
            model=Model.read(configuration),
            messages=read_messages(configuration),
            variables=tuple(
                (str(entry.get("variable")), configuration.selector(entry.get("value_selector"), "a Jinja variable"))
                for entry in configuration.mappings("jinja2_variables", within=prompt)
            ),
            context=as_selector(context.get("variable_selector")) if context.get("enabled") else None,
            vision=Vision.read(configuration),
            schema=_read_schema(configuration),
            reasoning_format=str(configuration.entries.get("reasoning_format") or "tagged"),
            needs_endpoint=configuration.entries.get("endpoint_required") is not False,
        )

    @property
    def selectors(self) -> Iterable[Selector]:
        yield from self.model.selectors
        for message in self.messages:
            yield from message.selectors
        for _, selector in self.variables:
            yield selector
        if self.context is not None:
            yield self.context
        yield from self.vision.selectors

    def execute(self, pool: VariablePool) -> WorkerCall:
        """Shown are, as in Dify, the files and the context only: the messages are process data."""
        files = self.vision.files(pool)
        context = "" if self.context is None else context_text(pool.get(self.context, ""))
        arguments = {
            "messages": written(message.filled(pool, context) for message in self.messages),
            "values": jinja_values(self.variables, pool),
            "files": list(files),
            "parameters": self.model.filled(pool),
        }
        shown = ({"#files#": list(files)} if files else {}) | ({"#context#": context} if context else {})
        return WorkerCall("cpu", shown, arguments)

    def conversation(self, arguments: Mapping[str, Any]) -> list[Message]:
        """The messages to send, rendered in a worker. Raises NodeFailed, also where all of them are empty."""
        filled = zip(self.messages, read_back(arguments["messages"]), strict=True)
        messages = [template.rendered(message, arguments["values"]) for template, message in filled]
        messages = with_files(messages, tuple(arguments["files"]))
        told = [message for message in messages if message.text or message.files]
        if not told:
            raise NodeFailed(
                "No prompt found in the LLM configuration. "
                "Please ensure a prompt is properly configured before proceeding.",
                error_type="NoPromptFoundError",
            )
        return told


def _read_schema(configuration: Configuration) -> Mapping[str, Any] | None:
    if not configuration.entries.get("structured_output_enabled"):
        return None
    wanted = configuration.mapping("structured_output")
    if not wanted:
        return None
    schema = wanted.get("schema")
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError:
            schema = None
    if not isinstance(schema, dict):
        configuration.problem("structured_output needs a JSON schema")
        return None
    return schema
