"""What the engine calculates in is said by a setting."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from workers.diffusion.engine import Engine, numbered, precision_of
from workers.diffusion.request import Tuning


@pytest.fixture(scope="module")
def brief():
    engine = Engine(device="cpu", tuning=Tuning("bfloat16"))
    yield engine
    engine.close()


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_a", "unipc", "lms", "pndm", "ddim"])
def test_a_picture_in_bfloat16_is_nearly_the_one_in_full(brief, engine, ask, sampler):
    request = ask(sampler=sampler, steps=3)
    one, other = (np.asarray(Image.open(io.BytesIO(each.paint(request).images[0].content))) for each in (brief, engine))
    assert np.abs(one.astype(int) - other).mean() < 4


def test_auto_is_half_on_a_gpu_and_single_on_a_cpu():
    assert precision_of(torch.device("cpu"), "auto") == torch.float32
    assert precision_of(torch.device("cuda"), "auto") == torch.float16
    assert precision_of(torch.device("cuda"), "bfloat16") == torch.bfloat16


def test_a_gpu_is_called_by_its_number(monkeypatch):
    """Threads that fill its memory are set on it, and torch sets none on a GPU without one."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch._C, "_cuda_setDevice", lambda number: chosen.append(number), raising=False)
    chosen = []
    for name in ("cuda", "cuda:1"):
        torch.cuda.set_device(numbered(torch.device(name)))
    assert chosen == [0, 1]
    assert numbered(torch.device("cpu")) == torch.device("cpu")
