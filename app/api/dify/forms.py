"""Forms of paused runs in Dify's field names."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request

from app.api.answer import Answer, json_answer
from app.api.body import read_object
from app.api.dify.asked import read_user
from app.api.operation import Operation, read_value
from app.domain.form import Form
from app.domain.request import Caller, Scope
from app.errors import FormExpired, FormSubmitted, InvalidFormData, NotFound
from app.runs.forms import Forms
from app.settings import Settings

_PATH = "/v1/form/human_input/{form_token}"


class FormObject(msgspec.Struct, frozen=True):
    """A form that a run waits for."""

    form_content: Annotated[
        str, Meta(description="Markdown; `{{#$output.name#}}` is where the field of that name belongs.")
    ]
    inputs: Annotated[list[dict[str, Any]], Meta(description="The fields, as the workflow's document has them.")]
    resolved_default_values: Annotated[dict[str, str], Meta(description="What the fields begin with, by name.")]
    user_actions: Annotated[list[dict[str, Any]], Meta(description="The buttons: id, title, button_style.")]
    expiration_time: Annotated[int, Meta(description="Until when it waits, in seconds since 1970.")]


class FormBody(msgspec.Struct, frozen=True):
    """A form as somebody filled it in."""

    inputs: Annotated[dict[str, Any], Meta(description="The fields' values by name.", examples=[{"comment": "fine"}])]
    action: Annotated[str, Meta(description="The id of the button.", examples=["approve"])]
    user: Annotated[str | int | float, Meta(description="Who filled it in.", examples=["abc-123"])]


class Filled(msgspec.Struct, frozen=True):
    """The form is taken; the run goes on."""


class FormsApi:
    def __init__(self, forms: Forms, settings: Settings) -> None:
        self._forms = forms
        self._settings = settings

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="GET",
                path=_PATH,
                handler=self._get,
                scope=Scope.READ,
                summary="Reading a form",
                description="What a paused run asks a person. Its token is in the events `human_input_required` and "
                "`workflow_paused`, and in the answer of a blocking call.",
                answers={200: FormObject},
                raises=(NotFound, FormSubmitted, FormExpired),
            ),
            Operation(
                method="POST",
                path=_PATH,
                handler=self._fill,
                scope=Scope.RUN,
                summary="Filling in a form",
                description="The run goes on from its step. Follow it by its events.",
                body=FormBody,
                answers={200: Filled},
                raises=(NotFound, FormSubmitted, FormExpired, InvalidFormData),
            ),
        ]

    async def _get(self, request: Request, caller: Caller) -> Answer:
        return json_answer(_shown(await self._forms.get(caller, request.path_params["form_token"])))

    async def _fill(self, request: Request, caller: Caller) -> Answer:
        written = await read_object(request, self._settings.max_body_bytes)
        user = read_user(written)
        body = read_value(written, FormBody)
        await self._forms.fill(caller, request.path_params["form_token"], body.inputs, body.action, user)
        return json_answer(Filled())


def _shown(form: Form) -> FormObject:
    definition = form.definition
    return FormObject(
        form_content=definition["form_content"],
        inputs=definition["inputs"],
        resolved_default_values=definition["resolved_default_values"],
        user_actions=definition["actions"],
        expiration_time=int(form.expires_at),
    )
