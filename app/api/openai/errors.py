"""OpenAI's error object: four keys, always; and the errors that only its clients know by their code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import msgspec
from starlette.responses import Response

from app.errors import AtelierError, CheckpointUnavailable, FileNotFound, Forbidden, InvalidParam, Unauthorized
from app.runs.models import ModelNotFound


class Refusal(InvalidParam):
    """A field has a value that can't be taken."""

    # `kind` is OpenAI's `type`. An empty code is null there.
    kind: ClassVar[str] = "invalid_request_error"
    code = ""


class UnknownParameter(Refusal):
    """The request has a field that means nothing here. Leave it out."""

    code = "unknown_parameter"

    def __init__(self, name: str) -> None:
        super().__init__(f"Unknown parameter: '{name[:100]}'.", params=name[:100])


class MissingParameter(Refusal):
    """A field that must be there is not."""

    code = "missing_required_parameter"

    def __init__(self, name: str) -> None:
        super().__init__(f"Missing required parameter: '{name}'.", params=name)


class DuplicateParameter(Refusal):
    """A field that has one value came several times."""

    code = "duplicate_parameter"

    def __init__(self, name: str) -> None:
        said = "You provided multiple values for this parameter, whereas only one is allowed."
        super().__init__(f"Duplicate parameter: '{name[:100]}'. {said}", params=name[:100])


class InvalidValue(Refusal):
    """A field has a value that is none of those that it takes."""

    code = "invalid_value"

    @classmethod
    def of(cls, name: str, value: object, supported: Iterable[str]) -> InvalidValue:
        """In OpenAI's words, which list what is supported."""
        shown = [f"'{each}'" for each in supported]
        comma = "," if len(shown) > 2 else ""
        listed = f"{', '.join(shown[:-1])}{comma} and {shown[-1]}" if len(shown) > 1 else shown[0]
        said = f"Supported values are: {listed}." if len(shown) > 1 else f"Value must be {listed}."
        return cls(f"Invalid value: '{str(value)[:100]}'. {said}", params=name)


class InvalidType(Refusal):
    """A field has a value of another type than the one that it takes."""

    code = "invalid_type"

    def __init__(self, name: str, expected: str, value: object) -> None:
        got = _KINDS.get(type(value), "an object")
        super().__init__(f"Invalid type for '{name}': expected {expected}, but got {got} instead.", params=name)


class AboveMaximum(Refusal):
    """A number is larger than the field takes."""

    code = "integer_above_max_value"

    def __init__(self, name: str, most: int, value: int) -> None:
        said = f"integer above maximum value. Expected a value <= {most}, but got {value} instead."
        super().__init__(f"Invalid '{name}': {said}", params=name)


class BelowMinimum(Refusal):
    """A number is smaller than the field takes."""

    code = "integer_below_min_value"

    def __init__(self, name: str, least: int, value: int) -> None:
        said = f"integer below minimum value. Expected a value >= {least}, but got {value} instead."
        super().__init__(f"Invalid '{name}': {said}", params=name)


class TextTooLong(Refusal):
    """A text has more characters than the field takes."""

    code = "string_above_max_length"

    def __init__(self, name: str, most: int, length: int) -> None:
        said = f"string too long. Expected a string with maximum length {most}, but got a string with length {length}"
        super().__init__(f"Invalid '{name}': {said} instead.", params=name)


class ListTooLong(Refusal):
    """There are more pictures than the field takes."""

    code = "array_above_max_length"

    def __init__(self, name: str, most: int, length: int) -> None:
        said = f"array too long. Expected an array with maximum length {most}, but got an array with length {length}"
        super().__init__(f"Invalid '{name}': {said} instead.", params=name)


class PromptTooLong(Refusal):
    """The prompt has more characters than a model of the DALL·E family takes."""

    def __init__(self, most: int, length: int) -> None:
        said = f"Prompt must be length {most} or less. Your prompt length is {length}."
        super().__init__(said, params="prompt")


class UnsupportedFile(Refusal):
    """A file is none of those that are taken, whatever it calls itself."""

    code = "unsupported_file_mimetype"

    def __init__(self, name: str, found: str) -> None:
        supported = "Supported file formats are 'image/jpeg', 'image/png', and 'image/webp'."
        super().__init__(f"Invalid file '{name}': unsupported mimetype ('{found}'). {supported}", params=name)


class InvalidImage(Refusal):
    """A file begins as a picture, and can't be read as one."""

    kind = "image_generation_user_error"
    code = "invalid_image_file"

    def __init__(self, number: int) -> None:
        super().__init__(f"Invalid image file or mode for image {number}, please check your image file.")


class ErrorBody(msgspec.Struct):
    """What is wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(msgspec.Struct):
    error: ErrorBody


_TYPES = {401: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: dict[type[AtelierError], str] = {
    Unauthorized: "invalid_api_key",
    Forbidden: "insufficient_permissions",
    InvalidParam: InvalidValue.code,
    CheckpointUnavailable: InvalidValue.code,
    FileNotFound: "file_not_found",
}
_FIELDS = {"model_name": "model", "reference": "image", "format": "output_format"}
_KINDS = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    list: "an array",
    type(None): "null",
}


def error_body(error: AtelierError) -> OpenAIError:
    """The same error in OpenAI's four fields."""
    if isinstance(error, Refusal):
        return OpenAIError(ErrorBody(error.message, error.kind, error.params, error.code or None))
    if isinstance(error, ModelNotFound):
        said = f"The model `{error.name}` does not exist or you do not have access to it."
        return OpenAIError(ErrorBody(said, "invalid_request_error", "model", "model_not_found"))
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    field = _FIELDS.get(error.params or "", error.params)
    return OpenAIError(ErrorBody(error.message, kind, field, _CODES.get(type(error), error.code)))


def render_error(error: AtelierError) -> Response:
    """As an answer. After some statuses OpenAI's clients ask again by themselves: they are told where it is no use."""
    headers = dict(error.headers)
    if error.status in (408, 409, 429) or error.status >= 500:
        headers["x-should-retry"] = "true" if error.retryable else "false"
    body = msgspec.json.encode(error_body(error))
    return Response(body, error.status, headers, media_type="application/json; charset=utf-8")
