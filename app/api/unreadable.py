"""What is no HTTP gets the envelope too: uvicorn answers it before there is a request."""

from __future__ import annotations

import logging

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app import ids
from app.api.dify.errors import render_error
from app.errors import BadRequest
from app.logs import Subject, about, done

logger = logging.getLogger(__name__)


class Protocol(HttpToolsProtocol):
    """uvicorn's, which would answer in plain text and without an id."""

    def send_400_response(self, msg: str) -> None:
        request_id = ids.new_id()
        token = about(Subject(request=request_id))
        try:
            logger.info("no HTTP", extra={"action": "refused", "error": msg})
            body = bytes(render_error(BadRequest(f"This is not valid HTTP: {msg}")).body)
        finally:
            done(token)
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json; charset=utf-8\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
