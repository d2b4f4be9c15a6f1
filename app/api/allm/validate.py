"""ALLM.Validate.image_request/1: every rule, all errors at once, in its order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.api.allm.decode import AllmPicture, AllmRequest
from app.api.allm.errors import FieldError, InvalidRequest

_OPERATIONS = ("generate", "edit", "variation")
_FORMATS = ("binary", "base64", "url")


def validate(request: AllmRequest) -> None:
    """Raises InvalidRequest."""
    errors = list(_errors(request))
    if errors:
        raise InvalidRequest(errors)


def _errors(request: AllmRequest) -> Iterator[FieldError]:
    images = request.input_images
    if request.operation not in _OPERATIONS:
        yield "operation", "unknown"
    if not _is_positive(request.n):
        yield "n", "must_be_positive"
    if request.response_format not in _FORMATS:
        yield "response_format", "unknown"
    if not _is_size(request.size):
        yield "size", "invalid_shape"
    if not isinstance(images, list):
        yield "input_images", "not_a_list"
    else:
        for index, each in enumerate(images):
            if not isinstance(each, AllmPicture):
                yield ["input_images", index], "invalid_image"
    if request.mask is not None and not isinstance(request.mask, AllmPicture):
        yield "mask", "invalid_image"
    yield from _arity(request)


def _arity(request: AllmRequest) -> Iterator[FieldError]:
    """What the operation asks for; nothing of an unknown one."""
    is_said = isinstance(request.prompt, str) and request.prompt != ""
    match request.operation:
        case "generate" | "edit" if not is_said:
            yield "prompt", "required_for_operation"
        case "variation" if is_said:
            yield "prompt", "not_allowed_for_operation"
    if not isinstance(request.input_images, list):
        return
    count = len(request.input_images)
    match request.operation:
        case "generate" if count:
            yield "input_images", "must_be_empty"
        case "edit" if count not in (1, 2):
            yield "input_images", "invalid_count"
        case "variation" if count != 1:
            yield "input_images", "invalid_count"


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_size(value: Any) -> bool:
    if value is None or isinstance(value, str):
        return True
    return isinstance(value, list) and len(value) == 2 and all(map(_is_positive, value))
