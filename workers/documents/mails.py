"""Mails: what their sender wrote."""

from __future__ import annotations

import email
import email.policy
import io
from email.message import EmailMessage

from workers.documents.office import plain_html
from workers.documents.refusals import Unreadable

_BODY, _BODY_BYTES, _HTML = "__substg1.0_1000001F", "__substg1.0_1000001E", "__substg1.0_10130102"


def eml_text(content: bytes) -> str:
    """The body as text; one that there is only as HTML without its markup."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(("plain", "html"))
    if body is None:
        return ""
    text = str(body.get_content())
    return plain_html(text) if body.get_content_type() == "text/html" else text.strip()


def msg_text(content: bytes) -> str:
    """The body of an Outlook file, likewise."""
    import olefile  # noqa: PLC0415 - only these need it

    with olefile.OleFileIO(io.BytesIO(content)) as file:
        if file.exists(_BODY):
            return str(file.openstream(_BODY).read().decode("utf-16-le", "ignore")).strip()
        if file.exists(_BODY_BYTES):
            return str(file.openstream(_BODY_BYTES).read().decode("utf-8", "replace")).strip()
        if file.exists(_HTML):
            return plain_html(file.openstream(_HTML).read().decode("utf-8", "replace"))
    raise Unreadable("it has no body")
