"""What an app says of itself and its users: `/info`, `/parameters`, `/meta`, `/site`, `/end-users`; no speech."""

from __future__ import annotations

from starlette.requests import Request

from app.api.answer import Answer, json_answer
from app.api.dify import pages
from app.api.dify.pages import AppInfo, AppMeta, AppParameters, AppSite, EndUserObject, Welcome
from app.api.operation import OpenOperation, Operation
from app.domain.request import Caller, Scope
from app.errors import AppUnavailable, DocumentInvalid, EndUserNotFound, InvalidParam
from app.runs.end_users import EndUsers
from app.runs.publications import Publications
from app.settings import Settings

_RAISES = (AppUnavailable, DocumentInvalid)


class AppPages:
    """Operations that read an app's published workflow, and run nothing."""

    def __init__(self, publications: Publications, users: EndUsers, settings: Settings) -> None:
        self._publications = publications
        self._settings = settings
        self._users = users
        self._settings = settings

    def operations(self) -> list[Operation | OpenOperation]:
        return [
            Operation(
                method="GET",
                path="/v1/info",
                handler=self._info,
                scope=Scope.READ,
                summary="Reading the app's page",
                answers={200: AppInfo},
                raises=_RAISES,
            ),
            Operation(
                method="GET",
                path="/v1/parameters",
                handler=self._parameters,
                scope=Scope.READ,
                summary="Reading the app's parameters",
                answers={200: AppParameters},
                raises=_RAISES,
            ),
            Operation(
                method="GET",
                path="/v1/meta",
                handler=self._meta,
                scope=Scope.READ,
                summary="Reading the app's tool icons",
                answers={200: AppMeta},
                raises=_RAISES,
            ),
            Operation(
                method="GET",
                path="/v1/site",
                handler=self._site,
                scope=Scope.READ,
                summary="Reading how the app's page looks",
                answers={200: AppSite},
                raises=_RAISES,
            ),
            Operation(
                method="GET",
                path="/v1/end-users/{user_id}",
                handler=self._end_user,
                scope=Scope.READ,
                summary="Reading an end-user",
                description="By the id that runs and their events tell as `created_by`.",
                tag="App",
                answers={200: EndUserObject},
                raises=(EndUserNotFound,),
            ),
            Operation(
                method="POST",
                path="/v1/audio-to-text",
                handler=self._hear,
                scope=Scope.RUN,
                summary="Asking for speech as text",
                description="For Dify's clients: it is always refused, for there is no speech model here.",
                tag="App",
                raises=(InvalidParam,),
            ),
            Operation(
                method="POST",
                path="/v1/text-to-audio",
                handler=self._speak,
                scope=Scope.RUN,
                summary="Asking for text as speech",
                description="For Dify's clients: it is always refused, for there is no speech model here.",
                tag="App",
                raises=(InvalidParam,),
            ),
            OpenOperation(
                method="GET",
                path="/v1/",
                handler=self._welcome,
                summary="Asking what API this is",
                tag="Server",
                answers={200: Welcome},
            ),
        ]

    async def _info(self, request: Request, caller: Caller) -> Answer:
        return json_answer(pages.info((await self._publications.current(caller)).graph))

    async def _parameters(self, request: Request, caller: Caller) -> Answer:
        return json_answer(pages.parameters((await self._publications.current(caller)).graph, self._settings))

    async def _meta(self, request: Request, caller: Caller) -> Answer:
        return json_answer(pages.meta((await self._publications.current(caller)).graph))

    async def _site(self, request: Request, caller: Caller) -> Answer:
        publication = await self._publications.current(caller)
        return json_answer(pages.site(publication.graph, await self._publications.site(caller)))

    async def _end_user(self, request: Request, caller: Caller) -> Answer:
        return json_answer(pages.end_user(await self._users.find(caller, request.path_params["user_id"])))

    async def _hear(self, request: Request, caller: Caller) -> Answer:
        raise InvalidParam("Speech to text is not enabled")

    async def _speak(self, request: Request, caller: Caller) -> Answer:
        raise InvalidParam("TTS is not enabled")

    async def _welcome(self, request: Request) -> Answer:
        return json_answer(pages.WELCOME)
