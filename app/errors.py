"""Every error that Atelier raises on purpose.

    AtelierError                    500 internal_server_error
    ├── InvalidParam                400 invalid_param            the caller's value; `params` names the field
    │   └── CheckpointUnavailable   400 invalid_param            no such checkpoint, or its file can't be used
    ├── BadRequest                  400 bad_request              not a request that can be read
    ├── AppUnavailable              400 app_unavailable
    ├── Unauthorized                401 unauthorized
    ├── Forbidden                   403 forbidden
    ├── NotFound                    404 not_found
    ├── MethodNotAllowed            405 method_not_allowed
    ├── IdempotencyConflict         422 idempotency_conflict     the Idempotency-Key has made a run of another body
    ├── BodyTooLarge                413 request_entity_too_large
    ├── UnsupportedMediaType        415 unsupported_media_type
    ├── TooManyRequests             429 too_many_requests        a limit is reached; `limit`, `current`, `retry_after_s`
    ├── Unavailable                 503 service_unavailable      the store, the disk or S3, for the moment; retryable
    ├── DocumentInvalid             400 invalid_param            a workflow document; `problems`, each with its node
    ├── NodeFailed                  a step's own failure: it ends the run, the request is answered 200
    │   └── OutOfMemory             retryable
    └── SettingsInvalid             stops the program at start

`code` and `status` are what a dialect renders; `retryable` is what the engine asks before it tries a step again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class AtelierError(Exception):
    """The root. `message` is one sentence for a person: what is wrong and the way out.

    `headers` and `extra` are what an answer says besides: header fields, and fields of its body.
    """

    code: ClassVar[str] = "internal_server_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    headers: Mapping[str, str] = {}
    extra: Mapping[str, object] = {}

    def __init__(self, message: str, *, params: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.params = params


class InvalidParam(AtelierError):
    code = "invalid_param"
    status = 400


class CheckpointUnavailable(InvalidParam):
    pass


class BadRequest(AtelierError):
    code = "bad_request"
    status = 400


class AppUnavailable(AtelierError):
    code = "app_unavailable"
    status = 400


class Unauthorized(AtelierError):
    code = "unauthorized"
    status = 401


class Forbidden(AtelierError):
    code = "forbidden"
    status = 403


class NotFound(AtelierError):
    code = "not_found"
    status = 404


class MethodNotAllowed(AtelierError):
    code = "method_not_allowed"
    status = 405


class BodyTooLarge(AtelierError):
    code = "request_entity_too_large"
    status = 413


class IdempotencyConflict(AtelierError):
    code = "idempotency_conflict"
    status = 422


class UnsupportedMediaType(AtelierError):
    code = "unsupported_media_type"
    status = 415


class TooManyRequests(AtelierError):
    """`current` of at most `limit` are there already; `retry_after_s` is when there may be room, by an estimate."""

    code = "too_many_requests"
    status = 429
    retryable = True

    def __init__(self, message: str, *, limit: int, current: int, retry_after_s: int) -> None:
        super().__init__(message)
        self.limit = limit
        self.current = current
        self.retry_after_s = retry_after_s
        self.headers = {"retry-after": str(retry_after_s)}
        self.extra = {"limit": limit, "current": current}


class Unavailable(AtelierError):
    code = "service_unavailable"
    status = 503
    retryable = True


class DocumentInvalid(AtelierError):
    """A workflow document that can't be published. `problems` has one line each, naming node id and title."""

    code = "invalid_param"
    status = 400

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class NodeFailed(AtelierError):
    """A node could not do its work. `error_type` is what Dify's error branches show; default: the class name."""

    def __init__(self, message: str, *, error_type: str | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type or type(self).__name__


class OutOfMemory(NodeFailed):
    retryable = True


class SettingsInvalid(AtelierError):
    pass
