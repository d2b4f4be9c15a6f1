"""Files that PyTorch saved become .safetensors files, once, in a child that can do nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.checkpoints import conversion
from app.checkpoints.catalogue import Catalogue
from app.checkpoints.conversion import Conversions, convert
from app.checkpoints.header import Unreadable
from app.checkpoints.identify import identify
from app.checkpoints.prediction import prediction_of
from app.errors import CheckpointUnavailable, Unavailable
from workers.diffusion.prompts.inversions import read_inversion

TELLTALE = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


def nobody(done: int, of: int) -> None: ...


def never(done: int, of: int) -> None:
    raise AssertionError("there is nothing to convert")


@pytest.fixture(scope="module")
def old(tiny, tmp_path_factory) -> Path:
    """The random checkpoint as people shared it in 2022."""
    path = tmp_path_factory.mktemp("old") / "old.ckpt"
    torch.save({"state_dict": load_file(tiny.file), "epoch": 7, "global_step": 1000}, path)
    return path


def test_a_pickled_checkpoint_is_known_for_what_it_is(old, tiny):
    one, other = identify(old), identify(tiny.file)
    assert (one.name, one.family, one.side, one.problem) == ("old", other.family, other.side, None)
    assert Catalogue([old.parent]).get("old").path == str(old)
    assert len(Catalogue([old.parent]).hashes.compute(old)[:10]) == 10


def test_what_has_the_name_of_a_checkpoint_is_kept_beside_its_conversion(old, tmp_path):
    """A checkpoint, a textual inversion and a VAE may be called alike: none takes another's place."""
    conversions, places = Conversions(tmp_path / "converted"), []
    for path in (tmp_path / "a.ckpt", tmp_path / "embeddings/a.ckpt", tmp_path / "vae/a.ckpt"):
        path.parent.mkdir(exist_ok=True)
        torch.save({"weight": torch.zeros(len(places) + 1)}, path)
        places.append((path, conversions.ready(path, nobody)))
    assert [conversions.ready(path, never) for path, _ in places] == [place for _, place in places]
    assert [load_file(place)["weight"].numel() for _, place in places] == [1, 2, 3]


def test_a_long_name_is_converted_too(old, tmp_path):
    names = ["\u68a6" * 80 + end for end in "ab"]
    conversions = Conversions(tmp_path / "converted")
    for name in names:
        torch.save({"weight": torch.zeros(1)}, tmp_path / f"{name}.ckpt")
        conversions.ready(tmp_path / f"{name}.ckpt", nobody)
    for name in names:
        conversions.ready(tmp_path / f"{name}.ckpt", never)


def test_it_is_found_by_its_name_with_and_without_the_end(old):
    catalogue = Catalogue([old.parent])
    assert catalogue.get("old.ckpt") == catalogue.get("old")


def test_what_stable_diffusion_2_predicts_is_read_out_of_it_too(tmp_path):
    for name, spread in (("noise", 0.03), ("velocity", 0.3)):
        torch.save({"state_dict": {TELLTALE: torch.randn(320) * spread}}, tmp_path / name)
    assert [prediction_of(tmp_path / name) for name in ("noise", "velocity")] == ["epsilon", "v_prediction"]


def test_words_that_pytorch_saved_are_read_as_those_in_their_own_form(tmp_path):
    vectors = torch.randn(2, 768).half().float()
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "x"}, tmp_path / "x.pt")
    made = Conversions(tmp_path / "made").ready(tmp_path / "x.pt", nobody)
    assert torch.equal(read_inversion("x", made, (768,)).vectors[0], vectors)


def test_it_becomes_the_same_weights_in_half_precision(old, tiny, tmp_path):
    made = Conversions(tmp_path).ready(old, nobody)
    original = load_file(tiny.file)
    assert load_file(made).keys() == original.keys()
    for name, weight in load_file(made).items():
        assert torch.equal(weight, original[name].half() if original[name].is_floating_point() else original[name])


def test_it_is_converted_once(old, tmp_path):
    first = Conversions(tmp_path).ready(old, nobody)
    assert Conversions(tmp_path).ready(old, never) == first == Conversions(tmp_path).find(old)


def test_of_several_at_once_one_converts_and_all_have_it(old, tmp_path):
    made, conversions = [], Conversions(tmp_path)
    threads = [threading.Thread(target=lambda: made.append(conversions.ready(old, nobody))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", made[0].name]


def test_a_file_that_is_replaced_is_converted_again_and_the_old_one_goes(tmp_path):
    path, conversions = tmp_path / "a.ckpt", Conversions(tmp_path / "made")
    torch.save({"w": torch.zeros(3)}, path)
    first = conversions.ready(path, nobody)
    torch.save({"w": torch.ones(4)}, path)
    second = conversions.ready(path, nobody)
    assert load_file(second)["w"].tolist() == [1, 1, 1, 1]
    assert not first.exists()


def test_what_needs_no_conversion_is_served_as_it_is(tiny, tmp_path):
    for path in (tiny.file, tiny.folder):
        assert Conversions(tmp_path).ready(path, never) == path
    disguised = tmp_path / "disguised.ckpt"
    disguised.symlink_to(tiny.file)
    assert Conversions(tmp_path).ready(disguised, never) == disguised


def test_a_stop_ends_the_conversion_and_leaves_nothing(old, tmp_path):
    class Stop(Exception):
        pass

    def stop(done: int, of: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        Conversions(tmp_path).ready(old, stop)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert Conversions(tmp_path).ready(old, nobody).is_file()


def test_what_half_precision_can_not_hold_stays_and_averages_go(tmp_path):
    weights = {
        "model.diffusion_model.a": torch.randn(5, 6).t(),
        "model.diffusion_model.large": torch.tensor([1e6, 1.0]),
        "model.diffusion_model.broken": torch.tensor([float("nan"), float("inf")]),
        "model.diffusion_model.wide": torch.randn(3).bfloat16(),
        "model.diffusion_model.double": torch.randn(3).double(),
        "model.diffusion_model.empty": torch.zeros(0, 3),
        "position_ids": torch.arange(77),
        "model_ema.a": torch.zeros(5),
    }
    torch.save(weights, tmp_path / "a.ckpt")
    convert(tmp_path / "a.ckpt", tmp_path / "a.safetensors", "F16", nobody)
    made = load_file(tmp_path / "a.safetensors")
    assert made.keys() == weights.keys() - {"model_ema.a"}
    for name, weight in made.items():
        own = name.endswith(("large", "position_ids"))
        assert torch.equal(weight.nan_to_num(), (weights[name] if own else weights[name].half()).nan_to_num()), name


@pytest.mark.parametrize(("kind", "dtype"), [("F16", torch.float16), ("BF16", torch.bfloat16), ("F32", torch.float32)])
def test_any_precision_becomes_any_other_as_torch_would_do_it(kind, dtype, tmp_path):
    numbers = torch.cat([torch.randn(999), torch.tensor([0.0, -0.0, 1e-30, 3e4, float("inf"), float("nan")])])
    weights = {str(own): numbers.to(own) for own in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}
    save_file(weights, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", kind, nobody)
    for name, weight in load_file(tmp_path / "b.safetensors").items():
        assert weight.dtype == dtype
        assert torch.equal(weight.nan_to_num(), weights[name].float().to(dtype).nan_to_num())


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_hostile_file_is_refused_with_its_reason_and_runs_nothing(tmp_path):
    path = tmp_path / "nice.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(3)}, "hook": Touch(tmp_path / "ran")}, path)
    with pytest.raises(CheckpointUnavailable, match=r"'nice' can't be used: nice\.ckpt wants 'posix\.system'"):
        Conversions(tmp_path / "made").ready(path, nobody)
    assert not (tmp_path / "ran").exists()
    assert "posix.system" in identify(path).problem


def test_a_damaged_file_and_one_without_weights_are_refused(tmp_path):
    torch.save({"w": torch.zeros(300)}, tmp_path / "cut.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "cut.ckpt").read_bytes()[:-40])
    torch.save({"epoch": 3}, tmp_path / "empty.ckpt")
    for name, says in (("cut", "is damaged or cut short"), ("empty", "holds no weights"), ("gone", "can't be read")):
        with pytest.raises(CheckpointUnavailable, match=f"'{name}' can't be used: .*{says}"):
            Conversions(tmp_path / "made").ready(tmp_path / f"{name}.ckpt", nobody)


def test_a_full_disk_is_said_before_anything_is_written(old, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(Unavailable, match=r"old\.ckpt can't be converted: that takes .* GB are free"):
        Conversions(tmp_path).ready(old, nobody)


def test_a_disk_that_fills_meanwhile_ends_the_conversion(old, tmp_path):
    told = pytest.raises(Unreadable, match="can't be converted: File too large")
    with told, old.open("rb") as given, (tmp_path / "made").open("wb") as made:
        conversion._run_child((given.fileno(), made.fileno()), "F16", 10_000, nobody)


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd')",
        "open('/tmp/made', 'w')",
        "__import__('socket').socket()",
        "__import__('os').fork()",
        "__import__('os').execv('/bin/true', ['true'])",
        "__import__('os').kill(1, 0)",
        "__import__('os').unlink('/tmp/nothing')",
    ],
)
def test_the_child_has_no_right_but_to_its_two_files(attempt):
    code = f"""
import os, socket
from workers.conversion.__main__ import _wall_in
_wall_in(5, 1 << 20)
try:
    {attempt}
except PermissionError:
    os._exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7


def test_a_zip_file_with_a_pickle_of_torch_scripts_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.pt", "w") as archive:
        archive.writestr("s/data.pkl", b"\x80\x02c__torch__.module\nNet\n)\x81.")
    with pytest.raises(CheckpointUnavailable, match=r"__torch__\.module\.Net"):
        Conversions(tmp_path / "made").ready(tmp_path / "s.pt", nobody)
