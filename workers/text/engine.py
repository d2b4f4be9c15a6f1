"""The language models that a worker can ask.

An endpoint of the settings is one kind of `TextEngine`. A model that runs in this worker is to be another: it takes the
same request and yields the same pieces, and `engine_of` is the one place that chooses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from app.settings import Settings
from workers.text.openai_chat import OpenAiChat
from workers.text.request import Piece, TextRequest


class TextEngine(Protocol):
    """Something that answers text."""

    def stream(self, request: TextRequest) -> AsyncIterator[Piece]:
        """The answer as it comes, its last pieces with a reason for its end and the tokens. Raises NodeFailed.

        Whoever leaves the iteration ends the work on the answer.
        """
        ...


def engine_of(settings: Settings, provider: str, model: str) -> TextEngine | None:
    """What answers for a document's model; None where nothing is configured for it."""
    endpoint = settings.llm_endpoint(provider, model)
    return None if endpoint is None else OpenAiChat(endpoint)
