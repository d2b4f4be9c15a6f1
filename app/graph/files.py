"""Files as callers name them: read in Dify's words, and checked against what a variable or the app takes.

Whether a file is there, and what it is, its finder says (`app.runs.given`); this module says what may be asked for and
whether what was found fits.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from app.errors import InvalidParam
from app.graph.values import Value, file_type

_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_REFERENCE = "dify-file-ref:"
_METHODS = frozenset({"remote_url", "local_file", "tool_file", "datasource_file"})
_TYPES = ("image", "document", "audio", "video", "custom")
_MEDIA = frozenset({"image", "audio", "video"})
# What a media type must begin with, or hold, for a file that is called so.
_PROMISES = {
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "gif", "bmp", "svg"), ("image/",)),
    **dict.fromkeys(("mp4", "mov", "mpeg", "webm", "mp3", "m4a", "wav", "amr", "mpga"), ("audio/", "video/")),
    **dict.fromkeys(("docx", "xlsx", "pptx"), ("officedocument",)),
    "pdf": ("pdf",),
}

SYSTEM_FILES = "sys.files"
"""Where the files of the whole app lie among a run's inputs; no variable can have this name."""

MOST_FILES = 100
"""A run takes so many, in all of its inputs together."""


class GivenFile(msgspec.Struct, frozen=True):
    """A file as a caller names it. `name` is an id, or a URL; `type` is what the caller says it is, if anything."""

    method: str
    name: str
    type: str | None
    variable: str


class FileRules(msgspec.Struct, frozen=True):
    """What a file variable or the app takes; empty: anything. Extensions are in small letters, without dots."""

    types: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()

    @classmethod
    def of(cls, declaration: Mapping[str, Any]) -> FileRules:
        """From the `allowed_file_…` lists of a declaration."""
        lists = (_texts(declaration.get(f"allowed_file_{name}")) for name in ("types", "extensions", "upload_methods"))
        types, extensions, methods = lists
        return cls(types, tuple(each.lower().lstrip(".") for each in extensions), methods)


def read_file(variable: str, mapping: Mapping[str, Any]) -> GivenFile:
    """The file that a mapping names. Raises InvalidParam for one that can't name any."""
    method = mapping.get("transfer_method")
    if not method:
        raise InvalidParam("transfer_method is required in file mapping", params=variable)
    if method not in _METHODS:
        raise InvalidParam(f"'{method}' is not a valid FileTransferMethod", params=variable)
    kind = mapping.get("type") or None
    if kind is not None and kind not in _TYPES:
        raise InvalidParam(f"'{kind}' is not a valid FileType: use {', '.join(_TYPES)}", params=variable)
    return GivenFile(method, _name(method, mapping, variable), kind, variable)


def _name(method: str, mapping: Mapping[str, Any], variable: str) -> str:
    if method == "datasource_file":
        raise InvalidParam("datasource_file is for pipelines; use local_file, remote_url or tool_file", params=variable)
    if method == "remote_url":
        url = mapping.get("url") or mapping.get("remote_url")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise InvalidParam("Invalid file url", params=variable)
        return url
    own = "upload_file_id" if method == "local_file" else "tool_file_id"
    named = next((str(mapping[key]) for key in (own, "related_id", "reference") if mapping.get(key)), "")
    named = _referred(named)
    if method == "local_file" and not named:
        raise InvalidParam("Invalid upload file id", params=variable)
    if method == "local_file" and not _UUID.fullmatch(named):
        raise InvalidParam("Invalid upload file id format", params=variable)
    if not _UUID.fullmatch(named):
        raise InvalidParam(f"ToolFile {named[:60]} not found", params=variable)
    plain = named.lower().replace("-", "")
    return f"{plain[:8]}-{plain[8:12]}-{plain[12:16]}-{plain[16:20]}-{plain[20:]}"


def _referred(name: str) -> str:
    """The id inside a `reference` as answers show it; anything else stays."""
    if not name.startswith(_REFERENCE):
        return name
    try:
        return str(json.loads(base64.urlsafe_b64decode(name.removeprefix(_REFERENCE)))["record_id"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        return name


def given_files(inputs: Mapping[str, Any]) -> list[GivenFile]:
    """The files that read inputs still only name. Raises InvalidParam for more than a run takes."""
    found: list[GivenFile] = []
    for value in inputs.values():
        if isinstance(value, GivenFile):
            found.append(value)
        elif isinstance(value, list):
            found += [item for item in value if isinstance(item, GivenFile)]
    if len(found) > MOST_FILES:
        raise InvalidParam(f"A run takes {MOST_FILES} files at most; these are {len(found)}.")
    return found


def place_files(
    inputs: Mapping[str, Any], found: Mapping[GivenFile, Mapping[str, Any]], rules: Mapping[str, FileRules]
) -> dict[str, Any]:
    """The inputs with each named file as the value that was found. Raises InvalidParam for one that does not fit."""

    def placed(value: Value, *, alone: bool) -> Value:
        if isinstance(value, list):
            return [placed(item, alone=False) for item in value]
        if not isinstance(value, GivenFile):
            return value
        return checked_file(value, found[value], rules.get(value.variable, FileRules()), alone=alone)

    return {name: placed(value, alone=True) for name, value in inputs.items()}


def checked_file(given: GivenFile, file: Mapping[str, Any], rules: FileRules, *, alone: bool) -> dict[str, Any]:
    """The file, if it is what its caller says and what the rules let in. What a run made passes, as in Dify.

    A caller's word on a picture, a sound or a film must be true; in a list other types may be called `document`.
    """
    if given.method == "tool_file":
        return dict(file)
    found = file_type(file["mime_type"], file["extension"])
    told = given.type
    extension = file["extension"].lower().lstrip(".")
    is_false = told not in (None, "custom", found) and (alone or told in _MEDIA or found in _MEDIA)
    if is_false or not any(word in file["mime_type"] for word in _PROMISES.get(extension, ("",))):
        raise InvalidParam(
            "Detected file type does not match the specified type. Please verify the file.", params=given.variable
        )
    kind = told or (found if not rules.types or found in rules.types else "custom")
    by_name = kind == "custom" and bool(rules.types)
    is_taken = extension in rules.extensions if by_name else not rules.types or kind in rules.types
    is_sent_right = kind == "image" or not rules.methods or given.method in rules.methods
    if not (is_taken and is_sent_right):
        raise InvalidParam(f"File validation failed for file: {file['filename']}", params=given.variable)
    return dict(file) if kind == found else {**file, "type": kind}


def read_app_files(features: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> list[GivenFile]:
    """The files of the whole app (`sys.files`), which Dify had before variables could be files.

    As there, entries that name nothing are dropped, and limits count only where the app says that it takes files.
    """
    named = [each for each in files if any(each.get(key) for key in _NAMES)]
    given = [read_file(SYSTEM_FILES, each) for each in named]
    upload = _taking(features)
    image = upload.get("image") if isinstance(upload.get("image"), dict) else {}
    _check_count(len(given), upload.get("number_limits"), "files")
    _check_count(sum(each.type == "image" for each in given), (image or {}).get("number_limits"), "image files")
    return given


_NAMES = ("url", "remote_url", "upload_file_id", "tool_file_id", "related_id", "reference")


def app_rules(features: Mapping[str, Any]) -> FileRules:
    """What the app's files may be: anything, unless it says that it takes files."""
    upload = _taking(features)
    return FileRules.of(upload) if upload else FileRules()


def _taking(features: Mapping[str, Any]) -> Mapping[str, Any]:
    upload = features.get("file_upload")
    return upload if isinstance(upload, dict) and upload.get("enabled") else {}


def _check_count(count: int, limit: object, what: str) -> None:
    if isinstance(limit, int) and limit and count > limit:
        raise InvalidParam(f"Number of {what} exceeds the maximum limit {limit}", params="files")


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
