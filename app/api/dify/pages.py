"""What Dify tells of an app: `/info` and `/parameters`."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from app.graph.graph import Graph
from app.graph.inputs import input_form

_FILE_UPLOAD = {
    "image": {
        "enabled": False,
        "number_limits": 3,
        "detail": "high",
        "transfer_methods": ["remote_url", "local_file"],
    }
}
_SYSTEM_PARAMETERS = {
    "image_file_size_limit": 10,
    "video_file_size_limit": 100,
    "audio_file_size_limit": 50,
    "file_size_limit": 15,
    "workflow_file_upload_limit": 10,
}


class AppInfo(Struct, frozen=True):
    """The app, as its workflow's document tells it."""

    name: str
    description: str
    tags: list[str]
    mode: Annotated[str, Meta(examples=["workflow"])]
    author_name: str | None


class AppParameters(Struct, frozen=True):
    """What the app takes. Only `user_input_form` says anything of a workflow; the rest is there for Dify's clients."""

    opening_statement: Any
    suggested_questions: Any
    suggested_questions_after_answer: Any
    speech_to_text: Any
    text_to_speech: Any
    retriever_resource: Any
    annotation_reply: dict[str, Any]
    more_like_this: dict[str, Any]
    user_input_form: Annotated[
        list[dict[str, Any]],
        Meta(
            description="the inputs, each under its type",
            examples=[[{"paragraph": {"variable": "prompt", "label": "Prompt", "required": True}}]],
        ),
    ]
    sensitive_word_avoidance: Any
    file_upload: Any
    system_parameters: dict[str, int]


def info(graph: Graph) -> AppInfo:
    document = graph.document
    return AppInfo(
        name=document.name,
        description=document.description,
        tags=list(document.tags),
        mode=document.mode,
        author_name=None,
    )


def parameters(graph: Graph) -> AppParameters:
    features = graph.document.features

    def feature(name: str, default: Any) -> Any:
        value = features.get(name)
        return default if value is None else value

    return AppParameters(
        opening_statement=feature("opening_statement", ""),
        suggested_questions=feature("suggested_questions", []),
        suggested_questions_after_answer=feature("suggested_questions_after_answer", {"enabled": False}),
        speech_to_text=feature("speech_to_text", {"enabled": False}),
        text_to_speech=feature("text_to_speech", {"enabled": False, "voice": "", "language": ""}),
        retriever_resource=feature("retriever_resource", {"enabled": True}),
        annotation_reply={"enabled": False},
        more_like_this={"enabled": False},
        user_input_form=input_form(graph),
        sensitive_word_avoidance=feature("sensitive_word_avoidance", {"enabled": False, "type": "", "configs": []}),
        file_upload=feature("file_upload", _FILE_UPLOAD),
        system_parameters=_SYSTEM_PARAMETERS,
    )
