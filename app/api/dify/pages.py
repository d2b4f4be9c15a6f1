"""What Dify tells of an app: `/info`, `/parameters`, `/meta` and `/site`, all from its workflow's document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError, convert, structs

from app.errors import InvalidParam
from app.graph.graph import Graph
from app.graph.inputs import input_form
from app.graph.nodes.answer import Answer
from app.settings import Settings
from app.store.end_users import EndUser

DIFY_VERSION = "1.14.2"
"""The release of Dify whose contract is kept: clients look at it for what they may ask."""

DIFY_HEADERS = ((b"x-version", DIFY_VERSION.encode()), (b"x-env", b"PRODUCTION"))
"""What every answer of Dify's has."""

_MOST_OF_A_LIST = 10  # what the editor lets an author choose
_ANONYMOUS = "DEFAULT-USER"
_FILE_UPLOAD = {
    "image": {
        "enabled": False,
        "number_limits": 3,
        "detail": "high",
        "transfer_methods": ["remote_url", "local_file"],
    }
}


class Welcome(Struct, frozen=True):
    """What API is here."""

    welcome: str
    api_version: str
    server_version: Annotated[str, Meta(description="The release of Dify whose contract is kept.")]


WELCOME = Welcome("Dify OpenAPI", "v1", DIFY_VERSION)


class AppInfo(Struct, frozen=True):
    """The app, as its workflow's document tells it."""

    name: str
    description: str
    tags: list[str]
    mode: Annotated[str, Meta(examples=["workflow"])]
    author_name: str | None


class OutputField(Struct, frozen=True):
    """One name of a run's outputs."""

    variable: str
    type: Annotated[str | None, Meta(description="As the document has it, if it does.", examples=["array[file]"])]


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
    system_parameters: Annotated[dict[str, int], Meta(description="The largest files, in MB.")]
    user_output_form: Annotated[list[OutputField], Meta(description="What the end nodes give; Dify does not tell it.")]


class ToolIcon(Struct, frozen=True):
    """A sign of a tool."""

    background: Annotated[str, Meta(examples=["#252525"])]
    content: str


class AppMeta(Struct, frozen=True):
    """An icon for each tool of the app's workflow, by the tool's name."""

    tool_icons: dict[str, ToolIcon]


class AppSite(Struct, frozen=True):
    """How the app's page looks. What a document does not hold is as a new app has it."""

    title: str
    chat_color_theme: str | None
    chat_color_theme_inverted: bool
    icon_type: str
    icon: str | None
    icon_background: str | None
    icon_url: str | None
    description: str
    copyright: str | None
    privacy_policy: str | None
    input_placeholder: str | None
    custom_disclaimer: str
    default_language: str
    show_workflow_steps: bool
    use_icon_as_answer_icon: bool


_ICON = ToolIcon(background="#252525", content="😁")


class EndUserObject(Struct, frozen=True):
    """A user that the app has seen. There are no tenants: an app is its own."""

    id: str
    tenant_id: str
    app_id: str
    type: Annotated[str, Meta(examples=["service-api"])]
    external_user_id: Annotated[str, Meta(description="As requests name it.", examples=["abc-123"])]
    name: str | None
    is_anonymous: bool
    session_id: Annotated[str, Meta(description="The same again.")]
    created_at: Annotated[str, Meta(description="When the app first saw it.", examples=["2026-11-21T12:00:00+00:00"])]
    updated_at: str


def info(graph: Graph) -> AppInfo:
    document = graph.document
    return AppInfo(
        name=document.name,
        description=document.description,
        tags=list(document.tags),
        mode=document.mode,
        author_name=None,
    )


def parameters(graph: Graph, settings: Settings) -> AppParameters:
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
        system_parameters={
            "image_file_size_limit": settings.upload_image_mb,
            "video_file_size_limit": settings.upload_video_mb,
            "audio_file_size_limit": settings.upload_audio_mb,
            "file_size_limit": settings.upload_file_mb,
            "workflow_file_upload_limit": _MOST_OF_A_LIST,
        },
        user_output_form=_output_form(graph),
    )


def meta(graph: Graph) -> AppMeta:
    tools = [_configuration(node) for node in graph.document.nodes]
    names = [str(tool.get("tool_name")) for tool in tools if tool.get("type") == "tool"]
    return AppMeta(dict.fromkeys(names, _ICON))


def site(graph: Graph, changes: Mapping[str, Any]) -> AppSite:
    """What the document says, but for the `changes`.

    The icon of an app is an emoji, the id of a file that an export does not hold, or a link.
    """
    app = graph.document.app
    icon_type = str(app.get("icon_type") or "emoji")
    icon = _text(app.get("icon"))
    told = AppSite(
        title=graph.document.name,
        chat_color_theme=None,
        chat_color_theme_inverted=False,
        icon_type=icon_type,
        icon=icon,
        icon_background=_text(app.get("icon_background")),
        icon_url=icon if icon_type == "link" else None,
        description=graph.document.description,
        copyright=None,
        privacy_policy=None,
        input_placeholder=None,
        custom_disclaimer="",
        default_language="en-US",
        show_workflow_steps=True,
        use_icon_as_answer_icon=app.get("use_icon_as_answer_icon") is True,
    )
    return structs.replace(told, **changes)


def read_site(written: Mapping[str, str]) -> dict[str, Any]:
    """Changes of a site, each as a text: `true` and `false` where it is one of them. Raises InvalidParam."""
    kinds = {field.name: field.type for field in structs.fields(AppSite)}
    unknown = [name for name in written if name not in kinds]
    if unknown:
        raise InvalidParam(f"A site has no {unknown[0]!r}. It has: {', '.join(kinds)}.")
    try:
        return {name: convert(text, kinds[name], strict=kinds[name] is not bool) for name, text in written.items()}
    except ValidationError:
        named = ", ".join(name for name, kind in kinds.items() if kind is bool)
        raise InvalidParam(f"These are true or false: {named}.") from None


def end_user(user: EndUser) -> EndUserObject:
    seen_at = datetime.fromtimestamp(int(user.created_at), UTC).isoformat()
    return EndUserObject(
        id=user.id,
        tenant_id=user.app_id,
        app_id=user.app_id,
        type="service-api",
        external_user_id=user.user,
        name=None,
        is_anonymous=user.user == _ANONYMOUS,
        session_id=user.user,
        created_at=seen_at,
        updated_at=seen_at,
    )


def _output_form(graph: Graph) -> list[OutputField]:
    """Of all end nodes, each name once: which of them a run reaches, its inputs decide."""
    found: dict[str, OutputField] = {}
    for end_id in graph.ends:
        node = next(node for node in graph.document.nodes if str(node.get("id")) == end_id)
        if isinstance(graph.ends[end_id], Answer):
            found.setdefault("answer", OutputField("answer", "string"))
        for entry in _configuration(node).get("outputs") or ():
            name, kind = str(entry.get("variable")), _text(entry.get("value_type"))
            found.setdefault(name, OutputField(name, kind))
    return list(found.values())


def _configuration(node: Mapping[str, Any]) -> Mapping[str, Any]:
    configuration = node.get("data")
    return configuration if isinstance(configuration, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
