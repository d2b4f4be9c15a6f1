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
from workers.diffusion.request import ImageRequest, UsedFile, Weights
from workers.nodes.hashing import Hashing, LateHashes
from workers.nodes.image_request import ImageRequests, weights_of
from workers.run_step import StepHalted

JOB: Any = SimpleNamespace(alive=lambda: None, is_halted=lambda: False)


def asked(path: Path, known: str = "") -> ImageRequest:
    return ImageRequest(Weights("a", str(path), "sd1", hash=known), files=(UsedFile("lora", "b", str(path), known),))


def late(path: Path, hashes: Hashes | None = None, known: str = "", job: Any = JOB) -> LateHashes:
    return Hashing(hashes or Hashes()).of(asked(path, known), job)


def told(path: Path, hashes: LateHashes, known: str = "") -> tuple[str, str]:
    """The checkpoint's, and the LoRA's, which is the same file."""
    finished = hashes.complete(asked(path, known))
    return finished.weights.hash, finished.files[0].hash


def prefix(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"first" * 1000)
    return path


def test_a_hash_is_computed_once_and_remembered(file: Path) -> None:
    hashes = Hashes()
    computed = late(file, hashes)
    computed.begin()
    assert told(file, computed) == told(file, computed) == (prefix(file), prefix(file))
    assert hashes.find(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_one_that_is_known_is_not_computed(tmp_path: Path) -> None:
    known = "0123456789"
    computed = late(tmp_path / "nowhere", known=known)
    computed.begin()
    assert told(tmp_path / "nowhere", computed, known) == (known, known)


def test_of_a_file_that_was_replaced_or_has_gone_there_is_none(file: Path) -> None:
    replaced, gone = late(file), late(file)
    file.write_bytes(b"second")
    assert told(file, replaced) == ("", "")
    file.unlink()
    assert told(file, gone) == ("", "")


def test_a_step_that_is_stopped_waits_for_none(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    os.mkfifo(endless)
    job = SimpleNamespace(alive=lambda: None, is_halted=lambda: True)
    with pytest.raises(StepHalted):
        told(endless, late(endless, job=job))
    endless.open("wb").close()


def test_a_request_reads_no_file_for_its_hash_and_another_content_is_another_checkpoint(
    tmp_path: Path, tiny: Any
) -> None:
    catalogue = Catalogue([tiny.folder.parent])
    checkpoint = catalogue.get("tiny-file")
    first = weights_of(checkpoint, catalogue)
    assert first.hash == ""
    catalogue.hashes.compute(Path(checkpoint.path))
    again = weights_of(checkpoint, catalogue)
    assert (again.hash, again) == (prefix(tiny.file), first)
    assert ImageRequests(catalogue, DiskArtifacts(tmp_path, 60)).loading({"model_name": "tiny-file"}).weights == first
