"""Clients of other servers speak llama.go's API as far as it is theirs: OpenAI's below `/v1`, Ollama's below `/api`."""

from __future__ import annotations

import base64

import httpx
import pytest
from ollama import Client, ResponseError
from openai import NotFoundError, OpenAI

from tests.dialects import SHAPES
from tests.servers import Atelier


def test_openais_client_completes_a_prompt_with_a_picture(atelier: Atelier) -> None:
    base_url = f"{atelier.url}/llamago/v1"
    client = OpenAI(base_url=base_url, api_key=atelier.key, max_retries=0, _strict_response_validation=True)
    done = client.completions.create(model=SHAPES, prompt="a red ring", seed=7, stream=False, extra_body={"steps": 2})
    picture = httpx.get(done.choices[0].text).content
    assert base64.b64decode((done.model_extra or {})["image"]) == picture
    assert (done.choices[0].finish_reason, done.usage and done.usage.total_tokens) == ("stop", 0)
    assert client.models.retrieve(SHAPES).id in [model.id for model in client.models.list()]
    with pytest.raises(NotFoundError, match="model 'none' not found"):
        client.completions.create(model="none", prompt="a", stream=False)


def test_openais_client_reads_the_stream(atelier: Atelier) -> None:
    client = OpenAI(base_url=f"{atelier.url}/llamago/v1", api_key=atelier.key, max_retries=0)
    pieces = list(client.completions.create(model=SHAPES, prompt="a red ring", stream=True, extra_body={"steps": 2}))
    (url,) = {piece.choices[0].text for piece in pieces} - {""}
    assert httpx.get(url).headers["content-type"] == "image/png"
    assert [piece.choices[0].finish_reason for piece in pieces][-2:] == [None, "stop"]


def test_ollamas_client_looks_at_the_models(atelier: Atelier) -> None:
    client = Client(host=f"{atelier.url}/llamago", headers=atelier.bearer(atelier.key))
    assert SHAPES in [model.model for model in client.list().models]
    assert client.show(SHAPES).capabilities == ["image", "vision"]
    assert {model.model for model in client.ps().models} <= {model.model for model in client.list().models}
    with pytest.raises(ResponseError, match=f'"{SHAPES}" does not support chat'):
        client.chat(SHAPES, [{"role": "user", "content": "hello"}])
