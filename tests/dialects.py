"""The dialects as tests ask for pictures in them, and what their runs were given."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from typing import Any, NamedTuple

import httpx
from PIL import Image

from tests.servers import ROOT, Atelier

Json = dict[str, Any]

SHAPES = "atelier-shapes"
QUICKLY = {"ATELIER_PAINTER_STEP_S": "0.001"}
"""How the engine of these tests paints that has none."""


def png(mode: str = "RGB", color: Any = "red", size: tuple[int, int] = (64, 64)) -> bytes:
    """A picture of one colour."""
    return written(Image.new(mode, size, color))


def half(mode: str = "L", left: Any = 255, right: Any = 0, size: tuple[int, int] = (64, 64)) -> bytes:
    """A picture of two halves."""
    picture = Image.new(mode, size, right)
    picture.paste(left, (0, 0, size[0] // 2, size[1]))
    return written(picture)


def written(picture: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


class Pictures(NamedTuple):
    """What is to be changed."""

    image: bytes = b""
    references: tuple[bytes, ...] = ()
    mask: bytes = b""


NO_PICTURES = Pictures()
BASE: Json = {"model": SHAPES, "prompt": "a ring", "steps": 2, "seed": 3}
"""What a request says if nothing else is said, as far as its dialect can."""

_PLACES: dict[str, Json] = {
    "dify": {"model": "inputs.model_name", "prompt": "inputs.prompt", "steps": "inputs.steps", "seed": "inputs.seed"},
    "openai": {"model": "model", "prompt": "prompt", "steps": "steps", "seed": "seed"},
    "ollama": {"model": "model", "prompt": "prompt", "steps": "steps", "seed": "options.seed"},
    "early": {"model": "model", "prompt": "prompt"},
    "llamago": {"model": "model", "prompt": "prompt", "steps": "options.steps", "seed": "options.seed"},
    "allm": {"model": "model", "prompt": "prompt", "steps": "options.steps", "seed": "options.seed"},
}


class Speaker:
    """Asks a server for pictures in any dialect. `words` are the dialect's own, with dots for what lies deeper."""

    def __init__(self, server: Atelier) -> None:
        self.server = server
        self._keys = {"text-to-image": server.key}

    def ask(
        self, dialect: str, words: Json | None = None, pictures: Pictures = NO_PICTURES, headers: Json | None = None
    ) -> httpx.Response:
        """The answer, whatever it is. None among the words takes one of the base away."""
        said = {_PLACES[dialect][name]: value for name, value in BASE.items() if name in _PLACES[dialect]}
        said = {name: value for name, value in (said | (words or {})).items() if value is not None}
        asked: httpx.Response = getattr(self, f"_{dialect}")(said, pictures, headers or {})
        return asked

    def step(self, dialect: str, words: Json | None = None, pictures: Pictures = NO_PICTURES) -> Json:
        """What the worker was told by a request that is painted."""
        answer = self.ask(dialect, words, pictures)
        assert answer.status_code == 200, answer.text
        return self.step_of(answer)

    def step_of(self, answer: httpx.Response) -> Json:
        for key in self._keys.values():
            if (found := painting_step(self.server, answer, key)) is not None:
                return found
        raise AssertionError("no app has the run")

    def _key(self, document: str) -> str:
        if document not in self._keys:
            self._keys[document] = self.server.app_key(ROOT / "workflows" / f"{document}.yml")
        return self._keys[document]

    def _dify(self, said: Json, pictures: Pictures, headers: Json) -> httpx.Response:
        document = "inpaint" if pictures.mask else "image-edit" if pictures.image else "text-to-image"
        key = self._key(document)
        bearer = self.server.bearer(key)
        body = _deep({"user": "dify"} | said)

        def uploaded(content: bytes) -> Json:
            files, user = {"file": ("a.png", content, "image/png")}, {"user": body["user"]}
            file = self.server.http.post("/v1/files/upload", files=files, data=user, headers=bearer).json()
            return {"type": "image", "transfer_method": "local_file", "upload_file_id": file["id"]}

        if pictures.image:
            body["inputs"]["image"] = uploaded(pictures.image)
        if pictures.mask:
            body["inputs"]["mask"] = uploaded(pictures.mask)
        if pictures.references:
            body["inputs"]["reference"] = [uploaded(each) for each in pictures.references]
        return self.server.http.post("/v1/workflows/run", json=body, headers=bearer | headers)

    def _openai(self, said: Json, pictures: Pictures, headers: Json) -> httpx.Response:
        said = {"response_format": "b64_json"} | said
        if not pictures.image:
            return self.server.http.post("/v1/images/generations", json=_deep(said), headers=headers)
        images = (pictures.image, *pictures.references)
        parts = [("image[]" if pictures.references else "image", ("a.png", each, "image/png")) for each in images]
        if pictures.mask:
            parts.append(("mask", ("mask.png", pictures.mask, "image/png")))
        texts = {name: str(value) for name, value in said.items()}
        return self.server.http.post("/v1/images/edits", data=texts, files=parts, headers=headers)

    def _ollama(self, said: Json, pictures: Pictures, headers: Json) -> httpx.Response:
        return self.server.http.post("/api/generate", json=_with_images(said, pictures), headers=headers)

    def _llamago(self, said: Json, pictures: Pictures, headers: Json) -> httpx.Response:
        return self.server.http.post("/llamago/api/generate", json=_with_images(said, pictures), headers=headers)

    def _early(self, said: Json, pictures: Pictures, headers: Json) -> httpx.Response:
        body = _deep(said | ({"images": [b64(pictures.image)]} if pictures.image else {}))
        return self.server.http.post("/ollama/v1/images/generations", json=body, headers=headers)

    def _allm(self, said: Json, pictures: Pictures, headers: Json) -> httpx.Response:
        fields: Json = {}
        if pictures.image:
            images = (pictures.image, *pictures.references)
            fields |= {"operation": "edit", "input_images": list(map(allm_image, images))}
        if pictures.mask:
            fields["mask"] = allm_image(pictures.mask)
        body = {"__type__": "ALLM.ImageRequest", "data": fields | _deep(said)}
        return self.server.http.post("/v1/allm/image", json=body, headers=headers)


def allm_image(content: bytes) -> Json:
    source = {"type": "binary", "value": b64(content)}
    return {"__type__": "ALLM.Image", "data": {"source": source, "mime_type": "image/png"}}


def _with_images(said: Json, pictures: Pictures) -> Json:
    said = {"stream": False} | said
    if pictures.image:
        said["images"] = [b64(each) for each in (pictures.image, *pictures.references)]
    return _deep(said | ({"options.mask": b64(pictures.mask)} if pictures.mask else {}))


def _deep(said: Json) -> Json:
    body: Json = {}
    for name, value in said.items():
        place, _, last = name.rpartition(".")
        (body.setdefault(place, {}) if place else body)[last] = value
    return body


def painting_step(server: Atelier, answer: httpx.Response, key: str = "") -> Json | None:
    """What the worker was asked for by the run of an answer: the inputs of its step, files by their SHA-256.

    None for a run that the key's app does not have.
    """
    headers = server.bearer(key or server.key)
    run = server.http.get(f"/v1/workflows/run/{answer.headers['x-workflow-run-id']}", headers=headers).json()
    if "id" not in run:
        return None
    query = {"user": json.loads(run["inputs"])["sys.user_id"], "after": 0}
    told = server.http.get(f"/v1/workflow/{run['id']}/events", params=query, headers=headers).text
    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: {")]
    (done,) = [e["data"] for e in events if e["event"] == "node_finished" and e["data"]["node_type"] == "tool"]
    told = {name: _plain(server, value) for name, value in done["inputs"].items()}
    return told | {"sys.user_id": query["user"]}


def _plain(server: Atelier, value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(server, each) for each in value]
    if isinstance(value, dict) and "url" in value:
        return hashlib.sha256(server.http.get(value["url"]).content).hexdigest()
    return value


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
