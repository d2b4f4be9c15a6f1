"""Files that PyTorch saved are read without being run, and what is no checkpoint is refused with its reason."""

from __future__ import annotations

import collections
import inspect
import io
import os
import pickle
import random
import re
import struct
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from app.checkpoints.header import Unreadable, find_tensors, is_pickled, tensor_shapes

TENSORS = {
    "model.weight": torch.randn(3, 4),
    "model.turned": torch.randn(4, 3).t(),
    "model.half": torch.randn(5).half(),
    "model.wide": torch.randn(2, 2).bfloat16(),
    "model.ids": torch.arange(4),
    "model.one": torch.tensor(2.5),
}
SHAPES = {name: list(tensor.shape) for name, tensor in TENSORS.items()}


def saved(content, *, old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def zipped(program: bytes, **members: bytes) -> bytes:
    """A file as PyTorch makes them, around any pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for name, content in members.items():
            archive.writestr(f"archive/data/{name.removeprefix('_')}", content)
    return file.getvalue()


def shapes_in(content: bytes):
    return {name: list(tensor.shape) for name, tensor in find_tensors(io.BytesIO(content)).items()}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("around", ["nothing", "state_dict", "training", "ordered"])
def test_what_torch_saves_is_read(around, old):
    content = {
        "nothing": TENSORS,
        "state_dict": {"state_dict": TENSORS},
        "training": {"state_dict": TENSORS, "epoch": 3, "optimizer_states": [{"state": {0: torch.ones(9)}}]},
        "ordered": collections.OrderedDict(TENSORS),
    }[around]
    assert shapes_in(saved(content, old=old)) == SHAPES


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_each_number_lies_where_it_is_said_to_lie(old):
    content = saved(TENSORS, old=old)
    found = find_tensors(io.BytesIO(content))["model.weight"]
    numbers = np.frombuffer(content, "<f4", found.length, found.start).reshape(found.shape)
    assert np.array_equal(numbers, TENSORS["model.weight"].numpy())


def test_numbers_of_numpy_and_objects_of_lightning_do_no_harm(monkeypatch):
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")

    class ModelCheckpoint:
        pass

    ModelCheckpoint.__module__ = module.__name__
    ModelCheckpoint.__qualname__ = "ModelCheckpoint"
    module.ModelCheckpoint = ModelCheckpoint
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    callbacks = {ModelCheckpoint: {"best_model_score": torch.tensor(0.5), "dirpath": "x"}, "object": ModelCheckpoint()}
    content = {"state_dict": TENSORS, "callbacks": callbacks, "loss": np.float64(0.1), "at": np.arange(3), "s": {1, 2}}
    for old in (False, True):
        assert shapes_in(saved(content, old=old)) == SHAPES


def test_the_words_of_a_textual_inversion_have_the_name_that_others_give_them():
    embedding = {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.zeros(2, 768)}, "name": "cat"}
    assert shapes_in(saved(embedding)) == {"emb_params": [2, 768]}
    older = {"string_to_param": torch.nn.ParameterDict({"*": torch.zeros(2, 768)})}
    assert shapes_in(saved(older, old=True)) == {"emb_params": [2, 768]}


def test_what_was_trained_on_several_gpus_has_its_plain_names():
    assert shapes_in(saved({"params_ema": {f"module.{name}": each for name, each in TENSORS.items()}})) == SHAPES


def test_the_first_bytes_tell_and_not_the_name(tmp_path, tiny):
    (tmp_path / "a.safetensors").write_bytes(saved(TENSORS))
    assert tensor_shapes(tmp_path / "a.safetensors") == SHAPES
    (tmp_path / "b.ckpt").write_bytes(tiny.file.read_bytes())
    assert tensor_shapes(tmp_path / "b.ckpt") == tensor_shapes(tiny.file)
    assert [is_pickled(tmp_path / name) for name in ("a.safetensors", "b.ckpt")] == [True, False]


class Call:
    """Pickled, it is a call."""

    def __init__(self, what, *arguments) -> None:
        self.call = what, arguments

    def __reduce__(self):
        return self.call


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def hostile(way: str, shell: str) -> tuple[bytes, str]:
    """A pickle that would run the shell's command, and what the refusal names."""
    word = text(shell)
    match way:
        case "reduce":
            return pickle.dumps(Call(os.system, shell), 2), "posix.system"
        case "reduce, protocol 0":
            return pickle.dumps(Call(os.system, shell), 0), "posix.system"
        case "name on the stack":
            return pickle.dumps({"state_dict": Call(os.system, shell)}, 5), "posix.system"
        case "inside a state dict":
            return pickle.dumps({"state_dict": {"a": [Call(os.system, shell)]}}, 2), "posix.system"
        case "inst":
            return b"(" + word + b"iposix\nsystem\n.", "posix.system"
        case "obj":
            return b"(cposix\nsystem\n" + word + b"o.", "posix.system"
        case "new":
            return b"\x80\x02csubprocess\nPopen\n" + word + b"\x85\x81.", "subprocess.Popen"
        case "new with keywords":
            return b"\x80\x04csubprocess\nPopen\n" + word + b"\x85}\x92.", "subprocess.Popen"
        case "eval":
            return b"\x80\x02c__builtin__\neval\n" + text(f"__import__('os').system({shell!r})") + b"\x85R.", "eval"
        case "exec":
            return b"\x80\x02cbuiltins\nexec\n" + text(f"import os; os.system({shell!r})") + b"\x85R.", "builtins.exec"
        case "getattr":
            return b"\x80\x02cbuiltins\ngetattr\ncos\nX\x06\0\0\0system\x86R" + word + b"\x85R.", "builtins.getattr"
        case "a path through what is known":
            return b"\x80\x04\x8c\x05torch\x8c\x0ahub.system\x93" + word + b"\x85R.", "torch.hub.system"
        case "a pickle within":
            inner = pickle.dumps(Call(os.system, shell), 2)
            return pickle.dumps(Call(torch.storage._load_from_bytes, inner), 2), "torch.storage._load_from_bytes"
        case "partial":
            return b"\x80\x02cfunctools\npartial\ncposix\nsystem\n" + word + b"\x86R.", "functools.partial"
        case "state that is set":
            return b"\x80\x02ctypes\nFunctionType\n}b" + word + b"\x85R.", "types.FunctionType"
        case "build on a known name":
            setter = b"\x80\x02ccollections\nOrderedDict\n)R}X\x0c\0\0\0__setstate__"
            return setter + b"cposix\nsystem\nsb" + word + b"b.", "posix.system"
        case "extension":
            return b"\x80\x02\x82\x01" + word + b"\x85R.", "EXT1"
        case "persistent text":
            return b"Pposix system\n.", "PERSID"
        case "storage of another kind":
            return b"\x80\x02(X\x07\0\0\0storagecposix\nsystem\n" + word + b"X\0\0\0\0K\x01tQ.", "posix.system"
        case "buffer":
            return b"\x80\x05\x97.", "NEXT_BUFFER"
    raise AssertionError(way)


WAYS = re.findall(r'^        case "(.+)":$', inspect.getsource(hostile), re.MULTILINE)


def test_there_are_twenty_ways():
    assert len(WAYS) == 20


@pytest.mark.parametrize("way", WAYS)
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(way, tmp_path):
    program, names = hostile(way, f"touch {tmp_path}/ran")
    old = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    for content in (zipped(program), old + program):
        with pytest.raises(Unreadable, match=names.replace(".", r"\.")):
            find_tensors(io.BytesIO(content))
    assert not (tmp_path / "ran").exists()


def test_such_a_pickle_does_run_where_pickles_are_run(tmp_path):
    program, _ = hostile("reduce", f"touch {tmp_path}/ran")
    pickle.loads(program)
    assert (tmp_path / "ran").exists()


def nested(depth: int) -> bytes:
    return b"\x80\x02}" + b")" + b"\x85" * depth + b"K\x01s."


def lists_in_lists(depth: int) -> bytes:
    """Each dictionary holds the one before twice: few bytes, and 2^depth leaves."""
    program = b"\x80\x02}q\0"
    for i in range(depth):
        program += b"}q" + bytes([i + 1]) + b"(X\1\0\0\0ah" + bytes([i]) + b"X\1\0\0\0bh" + bytes([i]) + b"u"
    return program + b"."


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (nested(400_000), "a tuple for a key"),
        (b"\x80\x02" + b"}" * 600_001 + b".", "too many instructions"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.", "more than 32 MB"),
        (b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"x.", "more than 32 MB"),
        (b"I" + b"9" * 100_000 + b"\n.", "is damaged"),
        (b"\x80\x02K\x01K\x02s.", "is damaged"),
        (b"\x80\x02h\x07.", "is damaged"),
        (b"\x80\x02K\x01)R.", "has no name"),
        (b"\x80\x02", "is damaged"),
        (b"", "is damaged"),
        (b"\x80\x02]q\0h\0a.", "holds no names for its weights"),
    ],
    ids=range(11),
)
def test_a_pickle_that_would_take_all_memory_or_time_is_refused(program, says):
    with pytest.raises(Unreadable, match=says):
        find_tensors(io.BytesIO(zipped(program)))


def test_a_pickle_that_multiplies_is_read_no_deeper_than_checkpoints_go():
    assert shapes_in(zipped(lists_in_lists(60))) == {}


def test_a_pickle_that_unpacks_to_gigabytes_is_not_unpacked():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"0" * (40 << 20))
    with pytest.raises(Unreadable, match="packed or encrypted"):
        find_tensors(io.BytesIO(file.getvalue()))


MANY = b"(" + b"N" * 30_000 + b"tq\x010"
PAIRS = b"(" + b"K\x01K\x02\x86" * 20_000 + b"%bq\x010"
DICT = b"ccollections\nOrderedDict\n"


@pytest.mark.parametrize(
    "program",
    [
        MANY + DICT + b"(" + b"h\x01" * 30_000 + b"t\x85R.",
        PAIRS % b"t" + (DICT + b"h\x01\x85R0") * 20_000 + b"}.",
        PAIRS % b"l" + (b"(" + DICT + b"h\x01o0") * 20_000 + b"}.",
        MANY + (b"ctorch\nSize\nh\x01R0") * 20_000 + b"}.",
        b"}(" + b"".join(b"\x8a\x0b" + (i * (2**61 - 1)).to_bytes(11, "little") + b"N" for i in range(30_000)) + b"u.",
        b"}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(30_000)) + b"uq\x010}("
        + b"".join(text(f"{i}") + b"h\x01" for i in range(30_000)) + b"u.",
    ],
    ids=["pairs of many parts", "one tuple, often", "one list, often", "names", "keys of one hash", "many names"],
)  # fmt: skip
def test_a_short_pickle_makes_no_long_work(program):
    """Each would take hours, or all memory, if what it names were looked at as often as it is named."""
    with pytest.raises(Unreadable):
        find_tensors(io.BytesIO(zipped(b"\x80\x02" + program)))


OLD = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}))


@pytest.mark.parametrize(
    "keys", [pickle.dumps(5, 2), b"\x80\x02])" + b"\x85" * 100_000 + b"a."], ids=["a number", "deep"]
)
def test_storages_without_names_are_damage(keys):
    with pytest.raises(Unreadable, match="its storages have no names"):
        find_tensors(io.BytesIO(OLD + keys))


def test_no_member_of_a_zip_file_is_unpacked():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/byteorder", b"\0" * (1 << 20), zipfile.ZIP_DEFLATED)
    with pytest.raises(Unreadable, match="packed or encrypted"):
        find_tensors(io.BytesIO(file.getvalue()))
    locked = bytearray(zipped(b"\x80\x02}."))
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(Unreadable, match="packed or encrypted"):
        find_tensors(io.BytesIO(locked))


def test_a_zip_file_of_countless_members_is_no_checkpoint():
    with pytest.raises(Unreadable, match="more parts than any checkpoint"):
        find_tensors(io.BytesIO(zipped(b"\x80\x02}.", **{f"_{i:0200}": b"" for i in range(17_000)})))


def tensor(first: int, shape: tuple[int, ...], strides: tuple[int, ...], count: int = 4) -> bytes:
    """The pickle of one tensor over a storage that says it has `count` numbers."""

    def sides(values) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK" + bytes([count]) + b"tQ"
    rest = b"\x8a\x08" + struct.pack("<q", first) + sides(shape) + sides(strides) + b"\x89ccollections\nOrderedDict\n)R"
    return b"\x80\x02}X\1\0\0\0actorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tRs."


def test_a_tensor_made_by_hand_is_read():
    assert shapes_in(zipped(tensor(0, (2, 2), (2, 1)), _0=b"\0" * 16)) == {"a": [2, 2]}


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (tensor(1, (2, 2), (2, 1)), "ends behind its storage"),
        (tensor(0, (2, 2), (1 << 40, 1)), "ends behind its storage"),
        (tensor(-1, (2, 2), (2, 1)), "can't be"),
        (tensor(0, (-2, 2), (2, 1)), "can't be"),
        (tensor(0, (2, 2), (-2, 1)), "can't be"),
        (tensor(0, (1 << 30, 1 << 30), (0, 0)), "larger than its storage"),
        (tensor(0, (2,), (2, 1)), "don't match"),
        (tensor(0, (1,) * 9, (1,) * 9), "too many sides"),
    ],
    ids=range(8),
)
def test_a_tensor_that_reaches_beyond_its_own_numbers_is_refused(program, says):
    with pytest.raises(Unreadable, match=says):
        find_tensors(io.BytesIO(zipped(program, _0=b"\0" * 16)))


def test_one_storage_that_is_named_over_and_over_is_refused():
    one = torch.zeros(50_000)
    with pytest.raises(Unreadable, match="more weights than it holds"):
        shapes_in(saved({f"model.{i}": one for i in range(20)}))


def test_a_zip_file_of_somebody_else_is_named():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    with pytest.raises(Unreadable, match="none that PyTorch has written"):
        find_tensors(io.BytesIO(file.getvalue()))
    with pytest.raises(Unreadable, match="none that PyTorch has written"):
        find_tensors(io.BytesIO(pickle.dumps({"a": 1}, 2)))


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_a_file_that_is_cut_short_is_damaged(old):
    content = saved(TENSORS, old=old)
    for length in range(9, len(content), 97):
        with pytest.raises(Unreadable):
            find_tensors(io.BytesIO(content[:length]))


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_whatever_is_damaged_is_read_or_refused(old):
    content, chance = saved({"state_dict": TENSORS, "loss": np.float64(1)}, old=old), random.Random(6)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            found = find_tensors(io.BytesIO(damaged))
        except Unreadable:
            continue
        assert all(each.start >= 0 and each.start + each.span <= len(damaged) for each in found.values())
