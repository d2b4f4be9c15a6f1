"""What is shown of a checkpoint's files: their digest once it is known, and what they are made of."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from app.checkpoints.anatomy import Anatomies, Anatomy
from app.checkpoints.catalogue import SHIPPED, SHIPPED_FOLDER
from app.checkpoints.digests import UNKNOWN, Digests
from app.checkpoints.hashes import Hashes


def test_a_digest_is_zeros_until_it_has_been_reckoned(tmp_path: Path) -> None:
    file, digests = tmp_path / "a.safetensors", Digests(Hashes(tmp_path / "hashes.json"))
    file.write_bytes(b"weights")
    assert digests.of(str(file)) == UNKNOWN
    end = time.monotonic() + 60
    while digests.of(str(file)) == UNKNOWN and time.monotonic() < end:
        time.sleep(0.01)
    assert digests.of(str(file)) == hashlib.sha256(b"weights").hexdigest()
    assert Digests(Hashes(tmp_path / "hashes.json")).of(str(file)) != UNKNOWN


def test_what_is_not_there_has_no_digest(tmp_path: Path) -> None:
    assert Digests(Hashes()).of(str(tmp_path / "gone.safetensors")) == UNKNOWN


def test_a_folder_is_counted_with_all_of_its_files() -> None:
    assert Anatomies().of(str(SHIPPED_FOLDER / SHIPPED)) == Anatomy(6_035_019, "F16")


def test_running_means_are_no_parameters_and_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file, anatomies = tmp_path / "a.safetensors", Anatomies()
    write(file, {"a": ("BF16", [2, 3]), "b": ("F32", [1]), "model_ema.a": ("F32", [100])})
    assert anatomies.of(str(file)) == Anatomy(7, "BF16")
    write(file, {"a": ("F32", [5])})
    assert anatomies.of(str(file)) == Anatomy(5, "F32")
    file.write_bytes(b"no weights")
    assert anatomies.of(str(file)) == Anatomy()


def write(file: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    """A .safetensors file with these kinds and shapes."""
    header, end = {}, 0
    for name, (kind, shape) in tensors.items():
        begin, end = end, end + {"BF16": 2, "F32": 4}[kind] * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
