"""Every error that Atelier raises on purpose.

    AtelierError                    500 internal_server_error
    ├── InvalidParam                400 invalid_param            the caller's value; `params` names the field
    │   ├── CheckpointUnavailable   400 invalid_param            no such checkpoint, or its file can't be used
    │   └── InvalidFormData         400 invalid_form_data        a form of a paused run, filled in wrong
    ├── NoFileUploaded              400 no_file_uploaded         an upload without its part `file`
    ├── TooManyFiles                400 too_many_files           an upload of more than one
    ├── FilenameMissing             400 filename_not_exists_error
    ├── BadRequest                  400 bad_request              not a request that can be read
    ├── AppUnavailable              400 app_unavailable
    ├── Unauthorized                401 unauthorized
    ├── Forbidden                   403 forbidden
    ├── NotFound                    404 not_found
    │   ├── EndUserNotFound         404 end_user_not_found
    │   └── FileNotFound            404 file_not_found           no such file, or not this caller's
    ├── FormSubmitted               412 human_input_form_submitted
    ├── FormExpired                 412 human_input_form_expired
    ├── MethodNotAllowed            405 method_not_allowed
    ├── IdempotencyConflict         422 idempotency_conflict     the Idempotency-Key has made a run of another body
    ├── BodyTooLarge                413 request_entity_too_large
    ├── FileTooLarge                413 file_too_large           by its bytes, or by what they would unpack to
    ├── UnsupportedMediaType        415 unsupported_media_type
    ├── UnsupportedFileType         415 unsupported_file_type
    ├── TooManyRequests             429 too_many_requests        a limit is reached; `limit`, `current`, `retry_after_s`
    ├── Unavailable                 503 service_unavailable      the store, the disk or S3, for the moment; retryable
    ├── RunFailed                   500 run_failed               a picture was asked for, and its run failed
    ├── RunStopped                  409 run_stopped              and it was stopped
    ├── RunOverdue                  504 run_overdue              and its time was over
    ├── DocumentInvalid             400 invalid_param            a workflow document; `problems`, each with its node
    ├── NodeFailed                  a step's own failure: it ends the run, the request is answered 200
    │   └── OutOfMemory             retryable
    └── SettingsInvalid             stops the program at start

`code` and `status` are what a dialect renders; `retryable` is what the engine asks before it tries a step again, and
what callers are told. `docs/errors.md` is written from here: a class's docstring is its sentence, with the way out.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self


class AtelierError(Exception):
    """Something broke that should not. Tell the server's keeper the request id; the log has the rest."""

    # `message` is one sentence for a person: what is wrong and the way out. `headers` and `extra` are what an answer
    # says besides: header fields, and fields of its body.
    code: ClassVar[str] = "internal_server_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    where: ClassVar[str] = "any request"
    field: ClassVar[str] = ""  # what `params` names
    has_node: ClassVar[bool] = False  # whether it can concern a node
    is_answer: ClassVar[bool] = True  # whether a request is answered with it
    headers: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}

    def __init__(self, message: str, *, params: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.params = params
        self.node_id: str | None = None
        self.node_title: str | None = None

    def at_node(self, node_id: str, title: str) -> None:
        """Says which node it concerns, once somebody knows."""
        self.node_id, self.node_title = node_id, title


class InvalidParam(AtelierError):
    """A value is missing or not allowed; the message says what is. Change it and ask again."""

    code = "invalid_param"
    status = 400
    where = "the body, the query, the path, a header, the workflow's inputs"
    field = "the field, with a path into it where it lies deeper"
    has_node = True


class CheckpointUnavailable(InvalidParam):
    """The checkpoint is not installed, or its file can't be used. Take one of those that the message lists."""

    where = "starting a run"
    field = "model_name"


class NoFileUploaded(AtelierError):
    """The upload has no file. Send multipart/form-data with a part called file."""

    code = "no_file_uploaded"
    status = 400
    where = "uploading a file"


class TooManyFiles(AtelierError):
    """The upload has several files. Send one with each request."""

    code = "too_many_files"
    status = 400
    where = "uploading a file"


class FilenameMissing(AtelierError):
    """The uploaded file has no name. Send one with its part: filename="cat.png"."""

    code = "filename_not_exists_error"
    status = 400
    where = "uploading a file"


class InvalidFormData(InvalidParam):
    """The form is filled in wrong; the message names the field or the action. The form still waits: send it again."""

    code = "invalid_form_data"
    where = "filling in a form"
    field = "`inputs` or `action`"
    has_node = False


class FormSubmitted(AtelierError):
    """Somebody else has filled in the form already, and the run has gone on with that. Read the run."""

    code = "human_input_form_submitted"
    status = 412
    where = "reading or filling in a form"


class FormExpired(AtelierError):
    """Nobody filled in the form in time, or its run has ended without it. Read the run to see how it went on."""

    code = "human_input_form_expired"
    status = 412
    where = "reading or filling in a form"


class BadRequest(AtelierError):
    """This is no request that can be read: the JSON is broken, or no object, or the HTTP is. Mend the client."""

    code = "bad_request"
    status = 400
    where = "any request with a body; broken HTTP"


class AppUnavailable(AtelierError):
    """The key's app has no published workflow. Publish one: atelier workflows publish."""

    code = "app_unavailable"
    status = 400
    where = "starting a run, the app's pages"


class Unauthorized(AtelierError):
    """There is no key, or it is unknown, expired or revoked. Send a valid one: Authorization: Bearer app-…"""

    code = "unauthorized"
    status = 401
    where = "any request that needs a key"
    headers: Mapping[str, str] = {"www-authenticate": 'Bearer realm="api"'}


class Forbidden(AtelierError):
    """The key lacks the scope that the message names, or a signed URL is wrong or expired. Use another key, or read the
    run again: that signs its URLs anew."""

    code = "forbidden"
    status = 403
    where = "any request that needs a key; files"


class NotFound(AtelierError):
    """There is no such path, or no such thing in the key's app. Check the id, and whose key it is."""

    code = "not_found"
    status = 404
    where = "any request with an id; unknown paths"


class EndUserNotFound(NotFound):
    """The key's app has seen no end-user with this id. Runs and uploads tell the ids of their users."""

    code = "end_user_not_found"
    where = "reading an end-user"


class FileNotFound(NotFound):
    """There is no such file in the key's app, or it belongs to another user. Check the id, and upload it again."""

    code = "file_not_found"
    where = "files by their id"


class MethodNotAllowed(AtelierError):
    """The path is right, the method is not. The header Allow lists those that are."""

    code = "method_not_allowed"
    status = 405
    where = "any path"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.headers = {"allow": allow}


class BodyTooLarge(AtelierError):
    """The body is larger than the server takes (ATELIER_MAX_BODY_BYTES). Send less."""

    code = "request_entity_too_large"
    status = 413
    where = "any request with a body"


class FileTooLarge(AtelierError):
    """The file is larger than files of its kind may be, or would be once it is unpacked. The message says how large it
    may be (ATELIER_UPLOAD_FILE_MB, ATELIER_UPLOAD_IMAGE_MB, ATELIER_UPLOAD_AUDIO_MB, ATELIER_UPLOAD_VIDEO_MB)."""

    code = "file_too_large"
    status = 413
    where = "uploading a file; a remote file of a run"


class IdempotencyConflict(AtelierError):
    """The Idempotency-Key has already made a run of another body. Take a new key for a new body."""

    code = "idempotency_conflict"
    status = 422
    where = "starting a run"


class UnsupportedMediaType(AtelierError):
    """The body is not announced as JSON. Send Content-Type: application/json."""

    code = "unsupported_media_type"
    status = 415
    where = "any request with a body"


class UnsupportedFileType(AtelierError):
    """The file's part does not say what it is, or it is not of the kind that is asked for. Send its Content-Type."""

    code = "unsupported_file_type"
    status = 415
    where = "uploading a file; previews of pictures"


class TooManyRequests(AtelierError):
    """A limit of the app, the key or the queue is reached; `limit` and `current` say how far. Ask again after
    Retry-After, when there may be room."""

    code = "too_many_requests"
    status = 429
    retryable = True
    where = "starting a run that needs a worker"

    def __init__(self, message: str, *, limit: int, current: int, retry_after_s: int) -> None:
        super().__init__(message)
        self.limit = limit
        self.current = current
        self.retry_after_s = retry_after_s
        self.headers = {"retry-after": str(retry_after_s)}
        self.extra = {"limit": limit, "current": current}


class Unavailable(AtelierError):
    """The database, the disk or the artifact store can't be used for the moment. Ask again after Retry-After."""

    code = "service_unavailable"
    status = 503
    retryable = True
    where = "any request that reads or writes"
    headers: Mapping[str, str] = {"retry-after": "1"}


class Problem(str):
    """One thing that is wrong in a workflow document; it knows its node, if it has one."""

    __slots__ = ("node_id", "node_title")

    node_id: str | None
    node_title: str | None

    def __new__(cls, text: str, node_id: str | None = None, node_title: str | None = None) -> Self:
        problem = super().__new__(cls, text)
        problem.node_id, problem.node_title = node_id, node_title
        return problem


class DocumentInvalid(AtelierError):
    """The workflow's document can't be run by this version; `problems` lists why, each with its node. Mend the document
    (atelier workflows check) and publish it again."""

    code = "invalid_param"
    status = 400
    where = "publishing; starting a run of a document that an older version published"
    has_node = True

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(map(_with_node, problems))
        if len(self.problems) == 1:
            self.node_id, self.node_title = self.problems[0].node_id, self.problems[0].node_title
        self.extra = {
            "problems": [
                {"message": str(problem), "node_id": problem.node_id, "node_title": problem.node_title}
                for problem in self.problems
            ]
        }


def _with_node(problem: str) -> Problem:
    return problem if isinstance(problem, Problem) else Problem(problem)


class NodeFailed(AtelierError):
    """A node could not do its work: the run ends as failed, the request for it is answered 200. The run's error says
    what was wrong."""

    # `error_type` is what Dify's error branches show; default: the class's own.
    is_answer = False
    default_type: ClassVar[str] = "NodeFailed"

    def __init__(
        self,
        message: str,
        *,
        error_type: str | None = None,
        outputs: dict[str, Any] | None = None,
        process_data: dict[str, Any] | None = None,
    ) -> None:
        """`outputs` and `process_data` are what the step shows all the same."""
        super().__init__(message)
        self.error_type = self.default_type if error_type is None else error_type
        self.outputs, self.process_data = outputs, process_data


class RunFailed(AtelierError):
    """The run that was to answer has failed; the message is its error. The run is kept: read it by its id."""

    # Dify's own answers tell of a failed run with 200; dialects whose answer is a picture have nothing to put there.
    code = "run_failed"
    status = 500
    where = "pictures, in the dialects of other servers"


class RunStopped(AtelierError):
    """Somebody stopped the run before it had an answer. Ask again for another one."""

    code = "run_stopped"
    status = 409
    where = "pictures, in the dialects of other servers"


class RunOverdue(AtelierError):
    """The run was stopped because its time was over, waiting included. Ask for less, or give it longer."""

    code = "run_overdue"
    status = 504
    where = "pictures, in the dialects of other servers"


class OutOfMemory(NodeFailed):
    """The GPU had too little memory for the picture. Ask for a smaller one, or for fewer at once (n)."""

    default_type = "gpu_out_of_memory"
    retryable = True


class SettingsInvalid(AtelierError):
    """A setting is wrong: the program does not start, and says which."""

    is_answer = False


def sentence(error: type[AtelierError]) -> str:
    """What the error means and the way out, in one line."""
    return " ".join((inspect.getdoc(error) or error.code).split())


def answers() -> list[type[AtelierError]]:
    """Every error that a request can be answered with. Kinds of them that only other modules tell apart are no news."""
    found = [error for error in _family(AtelierError) if error.is_answer and error.__module__ == __name__]
    return sorted(found, key=lambda error: (error.status, error.code))


def _family(error: type[AtelierError]) -> list[type[AtelierError]]:
    return [error, *(each for child in error.__subclasses__() for each in _family(child))]
