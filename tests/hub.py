"""A server of repositories as Hugging Face's hub is one, a store of files behind it, and troubles to order."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub(http.server.ThreadingHTTPServer):
    """`repositories`: name → file → content. `/files/NAME` are files that are in no repository.

    The next answers that bring a file: `cuts` are bytes after which each breaks off, `statuses` what each says in place
    of it. `etags` off: files have no mark by which a part of them could be known. `holds_at`: after so many bytes of a
    file it sends nothing more until `go_on` is set. `upload_troubles`: what becomes of the next files that are sent
    here: `cut` (in the middle), `silent` (no answer), or a status.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.files: dict[str, bytes] = {}
        self.private: dict[str, bool] = {}  # of the repositories that were made here
        self.gated: set[str] = set()
        self.damaged: set[str] = set()  # files of repositories that come with other bytes than their hash is of
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.upload_troubles: list[str] = []
        self.etags = self.ranges = True
        self.leads_to = "localhost"  # where the files of repositories are
        self.holds_at: int | None = None
        self.go_on = threading.Event()
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def ranges_asked(self) -> list[str | None]:
        """Of the requests for files' content, where each wanted to begin."""
        return [headers.get("range") for path, headers in self.asked if path.startswith("/files/")]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no trouble of ours."""


class _Door(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((path, {name.lower(): value for name, value in self.headers.items()}))
        listed = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path)
        resolved = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if listed:
            self._list(listed[1])
        elif resolved:
            self._lead(resolved[1], resolved[3])
        elif path.startswith("/files/"):
            self._give(path.removeprefix("/files/"))
        else:
            self._say(404, b"")

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((path, {name.lower(): value for name, value in self.headers.items()}))
        preupload = re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path)
        commit = re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path)
        if self.headers.get("Authorization") != "Bearer hf_mine":
            self._say(401, b"{}")
        elif path == "/api/repos/create":
            said = json.loads(body)
            name = f"{said['organization']}/{said['name']}"
            self.server.private[name] = said.get("private", said.get("visibility") == "private")
            self.server.repositories.setdefault(name, {})
            self._say(200, json.dumps({"url": f"{self.server.address}/{name}"}).encode())
        elif preupload:
            modes = [
                {"path": file["path"], "uploadMode": "lfs" if file["size"] > 1000 else "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._say(200, json.dumps({"files": modes}).encode())
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.server.address}/uploads/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self._say(200, json.dumps({"transfer": "basic", "objects": objects}).encode())
        elif commit:
            self._commit(commit[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._say(404, b"")

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "lfsFile":
                self.server.repositories[name][value["path"]] = self.server.files[value["oid"]]
            elif line["key"] == "file":
                self.server.repositories[name][value["path"]] = base64.b64decode(value["content"])
        said = {"commitUrl": f"{self.server.address}/{name}/commit/1", "commitOid": "1" * 40, "success": True}
        self._say(200, json.dumps(said).encode())

    def do_PUT(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((path, {name.lower(): value for name, value in self.headers.items()}))
        trouble = self.server.upload_troubles.pop(0) if self.server.upload_troubles else ""
        if trouble == "cut":
            self.rfile.read(1000)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if trouble == "silent":
            self.server.go_on.wait(60)
            return
        if trouble:
            return self._say(int(trouble), b"")
        if self.server.statuses:
            return self._say(self.server.statuses.pop(0), b"")
        self.server.files[path.removeprefix("/files/").removeprefix("/uploads/")] = body
        self._say(200, b"")

    def _list(self, name: str) -> None:
        files = self.server.repositories.get(name)
        if files is None:
            return self._say(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        siblings = [
            {"rfilename": file, "size": len(content), "lfs": {"sha256": _sha256(content), "size": len(content)}}
            for file, content in files.items()
        ]
        self._say(200, json.dumps({"siblings": siblings, "cardData": {"license": "openrail++"}}).encode())

    def _lead(self, name: str, file: str) -> None:
        if name in self.server.gated and self.headers.get("Authorization") != "Bearer hf_mine":
            return self._say(403, b"", {"X-Error-Code": "GatedRepo"})
        content = self.server.repositories[name][file]
        self.server.files[f"{name}/{file}"] = content[::-1] if f"{name}/{file}" in self.server.damaged else content
        where = f"http://{self.server.leads_to}:{self.server.server_address[1]}/files/{name}/{file}"
        self._say(302, b"", {"Location": where, "X-Linked-Etag": f'"{_sha256(content)}"'})

    def _give(self, name: str) -> None:
        if self.server.statuses:
            return self._say(self.server.statuses.pop(0), b"")
        content = self.server.files.get(name)
        if content is None:
            return self._say(404, b"")
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        same = self.headers.get("If-Range", etag) == etag
        start = int(asked[1]) if asked and self.server.ranges and same else 0
        if start >= len(content) > 0:
            return self._say(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        headers = {"ETag": etag} if self.server.etags else {}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._say(206 if start else 200, content[start:], headers | {"Content-Type": "application/octet-stream"})

    def _say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if body and status in (200, 206) and not self.path.startswith("/api/") and self.server.cuts:
            self.wfile.write(body[: self.server.cuts.pop(0)])
            self.close_connection = True
        elif self.server.holds_at is not None and self.path.startswith("/files/"):
            self.wfile.write(body[: self.server.holds_at])
            self.server.go_on.wait(60)
            self.wfile.write(body[self.server.holds_at :])
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def hub_running() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
