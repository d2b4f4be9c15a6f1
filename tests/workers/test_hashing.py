"""A checkpoint's hash is computed beside its first picture, of the content that was asked for."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.artifacts.disk import DiskArtifacts
from app.checkpoints.catalogue import Catalogue
from app.checkpoints.hashes import Hashes
from workers.diffusion.request import Weights
from workers.nodes.hashing import Hashing, LateHash
from workers.nodes.image_request import ImageRequests, weights_of
from workers.run_step import StepHalted

JOB: Any = SimpleNamespace(alive=lambda: None, is_halted=lambda: False)


def late_hash(path: Path, hashes: Hashes | None = None, known: str = "", job: Any = JOB) -> LateHash:
    return Hashing(hashes or Hashes()).of(Weights("a", str(path), "sd1", hash=known), job)


def prefix(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"first" * 1000)
    return path


def test_a_hash_is_computed_once_and_remembered(file: Path) -> None:
    hashes = Hashes()
    late = late_hash(file, hashes)
    late.begin()
    assert late.result() == late.result() == prefix(file)
    assert hashes.find(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_one_that_is_known_is_not_computed(tmp_path: Path) -> None:
    late = late_hash(tmp_path / "nowhere", known="0123456789")
    late.begin()
    assert late.result() == ""


def test_of_a_file_that_was_replaced_or_has_gone_there_is_none(file: Path) -> None:
    replaced, gone = late_hash(file), late_hash(file)
    file.write_bytes(b"second")
    assert replaced.result() == ""
    file.unlink()
    assert gone.result() == ""


def test_a_step_that_is_stopped_waits_for_none(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    os.mkfifo(endless)
    job = SimpleNamespace(alive=lambda: None, is_halted=lambda: True)
    with pytest.raises(StepHalted):
        late_hash(endless, job=job).result()
    endless.open("wb").close()


def test_a_request_reads_no_file_for_its_hash_and_another_content_is_another_checkpoint(
    tmp_path: Path, tiny: Any
) -> None:
    catalogue = Catalogue([tiny.folder.parent])
    checkpoint = catalogue.get("tiny-file")
    first = weights_of(checkpoint, catalogue)
    assert first.hash == ""
    catalogue.hash_prefix(checkpoint)
    again = weights_of(checkpoint, catalogue)
    assert (again.hash, again) == (prefix(tiny.file), first)
    assert ImageRequests(catalogue, DiskArtifacts(tmp_path, 60)).loading({"model_name": "tiny-file"}).weights == first
