"""Tensors come out of .safetensors files as they went in."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
import torch
from safetensors.torch import save_file

from workers.diffusion.checkpoint.reading import Tensors

KINDS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool]


@pytest.fixture
def opened():
    with ExitStack() as files:
        yield lambda *paths: Tensors(paths, files)


def test_every_kind_and_shape_of_numbers_is_read(opened, tmp_path):
    made = {str(kind): (torch.arange(24).reshape(2, 3, 4) * 3).to(kind) for kind in KINDS}
    made |= {"one": torch.tensor(7.0), "none": torch.zeros(0, 3)}
    save_file(made, tmp_path / "it.safetensors")
    tensors = opened(tmp_path / "it.safetensors")
    assert set(tensors) == set(made)
    for name, tensor in made.items():
        read = tensors.find(name).read()
        assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(read.double(), tensor.double())


def test_a_third_of_the_rows_is_read_alone(opened, tmp_path):
    rows = torch.randn(9, 5)
    save_file({"qkv": rows}, tmp_path / "it.safetensors")
    thirds = [opened(tmp_path / "it.safetensors").find("qkv", third=i).read() for i in range(3)]
    assert torch.equal(torch.cat(thirds), rows)


def test_the_first_name_that_is_there_counts_in_all_files(opened, tmp_path):
    for name in "ab":
        save_file({name: torch.ones(1)}, tmp_path / f"{name}.safetensors")
    tensors = opened(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert tensors.find("gone", "b", "a").read() == 1
    with pytest.raises(KeyError, match="it lacks weights, such as gone"):
        tensors.find("gone", "lost").read()


def header(entry):
    return {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | entry}


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (header({"data_offsets": [0, 8]}), "cut short, or its header is damaged"),
        (header({"data_offsets": [-4, 0]}), "cut short, or its header is damaged"),
        (header({"data_offsets": [0, 40], "shape": [10]}), "cut short"),
        (header({"data_offsets": 4}), "the header of it can't be read"),
        (header({"dtype": "F4"}), "numbers of kind F4"),
        ([1], "the header of it can't be read"),
        ({"a": 1}, "the header of it can't be read"),
    ],
)
def test_a_header_that_lies_is_refused(said, says, opened, tmp_path):
    text = json.dumps(said).encode()
    path = tmp_path / "it.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
    with pytest.raises(ValueError, match=says):
        opened(path)


def test_a_file_that_is_cut_while_it_is_read_is_refused(opened, tmp_path):
    path = tmp_path / "it.safetensors"
    save_file({"a": torch.zeros(100_000)}, path)
    tensors = opened(path)
    with path.open("r+b") as file:
        file.truncate(200_000)
    with pytest.raises(ValueError, match="it is cut short"):
        tensors.find("a").read()
