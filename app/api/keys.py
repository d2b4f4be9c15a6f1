"""An app's keys, for those that have the scope `admin`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from starlette.requests import Request

from app.api.answer import Answer, json_answer, seconds
from app.api.operation import Operation, read_body, read_query
from app.domain.key import LONGEST_NAME, LONGEST_S, MOST_RUNS, OVERLAP_S, PRIORITY, KeyTerms, in_order
from app.domain.request import CALLER_SCOPES, Caller, Scope
from app.errors import Forbidden, InvalidParam, NotFound
from app.runs.keyring import Keyring
from app.settings import Settings
from app.store.accounts import Key, KeyState

Runs = Annotated[int, msgspec.Meta(ge=0, le=MOST_RUNS, description="a number of runs; 0: no limit")]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=LONGEST_S, description="seconds from now")]
Moment = Annotated[int, msgspec.Meta(description="seconds since 1970")]


class KeyBody(msgspec.Struct, forbid_unknown_fields=True):
    """The terms of a new key."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME, examples=["the shop's backend"])]
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, description="what it may do; the maker must have it")] = (
        msgspec.field(default_factory=lambda: [Scope(name) for name in in_order(CALLER_SCOPES)])
    )
    priority: Annotated[int, msgspec.Meta(ge=PRIORITY[0], le=PRIORITY[1], description="higher ones go first")] = 0
    max_active: Runs = 0
    max_queued: Runs = 0
    expires_in_s: Seconds | None = None


class RotationBody(msgspec.Struct, forbid_unknown_fields=True):
    """How long the old key goes on beside the new one."""

    overlap_s: Annotated[int, msgspec.Meta(ge=0, le=LONGEST_S, description="seconds; 0 ends it at once")] = OVERLAP_S


class KeyQuery(msgspec.Struct):
    """Which keys are listed."""

    state: KeyState | Literal["all"] = "live"
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class KeyAnswer(msgspec.Struct):
    """A key without its token."""

    id: str
    name: str
    prefix: Annotated[str, msgspec.Meta(description="its first characters")]
    app: str
    scopes: list[str]
    priority: int
    max_active: Runs
    max_queued: Runs
    state: KeyState
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Annotated[Moment | None, msgspec.Meta(description="up to a minute late")]
    revoked_at: Moment | None


class NewKeyAnswer(KeyAnswer):
    """A new key. Its token is told here and nowhere else."""

    token: Annotated[str, msgspec.Meta(examples=["app-" + 24 * "x"])]


class KeysAnswer(msgspec.Struct):
    """An app's keys, the newest first."""

    data: list[KeyAnswer]
    limit: int
    has_more: bool


class KeysApi:
    """Operations on the keys of the caller's own app."""

    def __init__(self, keyring: Keyring, settings: Settings) -> None:
        self._keyring = keyring
        self._settings = settings

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="GET",
                path="/v1/keys",
                handler=self._list,
                scope=Scope.ADMIN,
                summary="Listing keys",
                query=KeyQuery,
                answers={200: KeysAnswer},
                raises=(InvalidParam,),
            ),
            Operation(
                method="POST",
                path="/v1/keys",
                handler=self._create,
                scope=Scope.ADMIN,
                summary="Making a key",
                body=KeyBody,
                answers={201: NewKeyAnswer},
                raises=(InvalidParam, Forbidden),
            ),
            Operation(
                method="DELETE",
                path="/v1/keys/{key_id}",
                handler=self._revoke,
                scope=Scope.ADMIN,
                summary="Revoking a key",
                answers={200: KeyAnswer},
                raises=(NotFound,),
            ),
            Operation(
                method="POST",
                path="/v1/keys/{key_id}/rotate",
                handler=self._rotate,
                scope=Scope.ADMIN,
                summary="Rotating a key",
                body=RotationBody,
                answers={201: NewKeyAnswer},
                raises=(InvalidParam, NotFound, Forbidden),
            ),
        ]

    async def _list(self, request: Request, caller: Caller) -> Answer:
        query = read_query(request, KeyQuery)
        found = await self._keyring.list(caller, None if query.state == "all" else query.state)
        page = [KeyAnswer(**_fields(key)) for key in found[: query.limit]]
        return json_answer(KeysAnswer(page, query.limit, len(found) > query.limit))

    async def _create(self, request: Request, caller: Caller) -> Answer:
        body = await read_body(request, KeyBody, self._settings.max_body_bytes)
        name = body.name.replace("\0", "").strip()
        if not name:
            raise InvalidParam("name must say what the key is for", params="name")
        limits = (body.priority, body.max_active, body.max_queued)
        made, token = await self._keyring.create(
            caller, KeyTerms(name, frozenset(body.scopes), *limits, body.expires_in_s)
        )
        return json_answer(NewKeyAnswer(**_fields(made), token=token), 201)

    async def _revoke(self, request: Request, caller: Caller) -> Answer:
        ended = await self._keyring.revoke(caller, request.path_params["key_id"])
        return json_answer(KeyAnswer(**_fields(ended)))

    async def _rotate(self, request: Request, caller: Caller) -> Answer:
        body = await read_body(request, RotationBody, self._settings.max_body_bytes)
        made, token = await self._keyring.rotate(caller, request.path_params["key_id"], body.overlap_s)
        return json_answer(NewKeyAnswer(**_fields(made), token=token), 201)


def _fields(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "app": key.app_name,
        "scopes": in_order(key.scopes),
        "priority": key.priority,
        "max_active": key.max_active,
        "max_queued": key.max_queued,
        "state": key.state,
        "created_at": int(key.created_at),
        "expires_at": seconds(key.expires_at),
        "last_used_at": seconds(key.last_used_at),
        "revoked_at": seconds(key.revoked_at),
    }
