"""Checkpoints are known by what their files hold, and found by their names."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.checkpoints.catalogue import Catalogue
from app.checkpoints.checkpoint import SD1
from app.checkpoints.hashes import Hashes, stamp_of
from app.checkpoints.identify import identify
from app.checkpoints.weight_files import weight_files
from app.errors import CheckpointUnavailable
from tests.workers.headers import P, diffusers_folder, sd, sd2, sdxl, without, write
from workers.diffusion.checkpoint.weight_files import weight_files as loaded_files

DTYPES = {"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16}


def test_stable_diffusion_1_is_recognised(tmp_path):
    found = identify(write(tmp_path / "v1-5.safetensors", sd()))
    assert (found.name, found.family, found.problem) == ("v1-5", "sd1", None)
    assert (found.side, found.guidance_scale) == (512, 7.5)
    assert found.size_bytes > 49408 * 768 * 2


@pytest.mark.parametrize(
    ("tensors", "family", "side"),
    [
        (sd(channels=9), "sd1-inpaint", 512),
        (sd2(), "sd2", 512),
        (sd2(9), "sd2-inpaint", 512),
        (sdxl(), "sdxl", 1024),
        (sdxl(9), "sdxl-inpaint", 1024),
    ],
)
def test_each_family_is_recognised(tensors, family, side, tmp_path):
    found = identify(write(tmp_path / "it.safetensors", tensors))
    assert (found.family, found.problem, found.side, found.lacks) == (family, None, side, ())
    assert found.is_inpainting is family.endswith("inpaint")


@pytest.mark.parametrize(
    ("tensors", "lacks"),
    [
        (without("first_stage_model"), ("vae",)),
        (without("cond_stage_model"), ("text_encoder",)),
        (without("embedders.1", sdxl()), ("text_encoder",)),
        (without("stage_model"), ("text_encoder", "vae")),
    ],
)
def test_what_a_file_lacks_is_known(tensors, lacks, tmp_path):
    assert identify(write(tmp_path / "it.safetensors", tensors)).lacks == lacks


@pytest.mark.parametrize("kind", ["F16", "F32", "BF16"])
@pytest.mark.parametrize(("spread", "says", "side"), [(0.03, "epsilon", 512), (0.3, "v_prediction", 768)])
def test_what_stable_diffusion_2_predicts_is_read_from_one_bias(kind, spread, says, side, tmp_path):
    name = f"{P}output_blocks.11.1.transformer_blocks.0.norm1.bias"
    bias = (torch.randn(320, generator=torch.Generator().manual_seed(0)) * spread).to(DTYPES[kind])
    weights = {key: torch.zeros(shape, dtype=bias.dtype) for key, shape in sd2().items() if "token" not in key}
    weights |= {name: bias, "cond_stage_model.model.token_embedding.weight": torch.zeros(49408, 1)}
    save_file(weights, tmp_path / "it.safetensors")
    found = identify(tmp_path / "it.safetensors")
    assert (found.prediction, found.side) == (says, side)


def test_an_old_merge_is_stable_diffusion_1_too(tmp_path):
    tensors = {name.replace("transformer.text_model", "transformer"): shape for name, shape in sd().items()}
    assert identify(write(tmp_path / "old.safetensors", tensors)).family == "sd1"


@pytest.mark.parametrize("family", ["sd1-inpaint", "sdxl", "sdxl-inpaint"])
def test_a_folder_of_any_family_is_recognised(family, tmp_path):
    """By the pipeline that it is for, and by its UNet."""
    kind = f"StableDiffusion{'XL' * ('xl' in family)}{'Inpaint' * ('inpaint' in family)}Pipeline"
    unet = {"in_channels": 9 if "inpaint" in family else 4, "sample_size": 128}
    found = identify(diffusers_folder(tmp_path / "it", kind=kind, **unet))
    assert (found.family, found.problem, found.side) == (family, None, 1024)


def test_a_folders_scheduler_says_what_it_predicts(tmp_path):
    folder = diffusers_folder(tmp_path / "it", cross_attention_dim=1024)
    assert (identify(folder).family, identify(folder).prediction) == ("sd2", "")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text('{"prediction_type": "v_prediction"}')
    assert identify(folder).prediction == "v_prediction"
    (folder / "scheduler/scheduler_config.json").write_text('{"prediction_type": "sample"}')
    assert "has a UNet that predicts 'sample'" in identify(folder).problem


def test_the_checkpoint_that_ships_is_recognised_as_folder_and_as_file(tiny):
    for path in (tiny.folder, tiny.file):
        found = identify(path)
        assert (found.family, found.problem, found.side, found.guidance_scale) == ("shapes", None, 64, 4.0)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"lora_unet_down_blocks_0.lora_down.weight": [4, 320]}, "is a LoRA"),
        ({"unet.down_blocks.0.to_q.lora_A.weight": [4, 320]}, "is a LoRA"),
        ({"emb_params": [4, 768]}, "is a textual inversion"),
        ({"clip_l": [4, 768], "clip_g": [4, 1280]}, "is a textual inversion"),
        ({"control_model.input_hint_block.0.weight": [16, 3, 3, 3]}, "is a ControlNet"),
        ({"controlnet_cond_embedding.conv_in.weight": [16, 3, 3, 3]}, "is a ControlNet"),
        ({"encoder.conv_in.weight": [128, 3, 3, 3], "decoder.conv_in.weight": [512, 4, 3, 3]}, "is a VAE alone"),
        ({"first_stage_model.decoder.conv_in.weight": [512, 4, 3, 3]}, "is a VAE alone"),
        ({"conv_first.weight": [64, 3, 3, 3]}, "ESRGAN"),
        ({"model.0.weight": [64, 3, 3, 3], "model.1.sub.0.weight": [1]}, "ESRGAN"),
        ({"text_model.embeddings.token_embedding.weight": [49408, 768]}, "is a text encoder alone"),
        ({"conv_in.weight": [320, 4, 3, 3], "time_embedding.linear_1.weight": [1280, 320]}, "is a UNet alone"),
        ({"<my-cat>": [2, 768]}, "is a textual inversion"),
        ({"lora_controlnet": [1], "x.down": [4, 4]}, "is a Control-LoRA"),
        ({"ip_adapter.1.to_k_ip.weight": [1, 1]}, "is an IP-Adapter"),
        ({"1.weight": [64, 4, 3, 3], "3.conv.0.weight": [1]}, "is a tiny VAE"),
        ({"input_blocks.0.0.weight": [320, 4, 3, 3], "time_embed.0.weight": [1280, 320]}, "is a UNet alone"),
        (sd(1280, block=4), "is an SDXL refiner"),
        (sd(2048, block=4), "is a distilled SDXL checkpoint"),
        (sdxl() | {"edm_mean": [1]}, "is a Playground 2.5 checkpoint"),
        (sd2() | {f"{P}label_emb.0.0.weight": [1280, 2048]}, "is an unCLIP checkpoint"),
        (sd(1024, channels=5), "is a depth-guided checkpoint"),
        (sd(1024, channels=7), "is an upscaler checkpoint"),
        (sd(64, channels=9), "unknown kind"),
        (sd(channels=8), "instruct-pix2pix"),
        (sd(999), "unknown kind"),
        ({f"{P}joint_blocks.0.x_block.attn.qkv.weight": [1, 1]}, "is a Stable Diffusion 3 checkpoint"),
        ({"double_blocks.0.img_attn.proj.weight": [1, 1]}, "is a Flux checkpoint"),
        ({f"{P}double_blocks.0.img_attn.proj.weight": [1, 1]}, "is a Flux checkpoint"),
        (sd(words=49410), "text encoder of 49,410 tokens"),
        ({"something.else": [1]}, "holds no Stable Diffusion UNet"),
        ({}, "holds no Stable Diffusion UNet"),
    ],
)
def test_every_other_kind_is_named_and_refused(tensors, says, tmp_path):
    found = identify(write(tmp_path / "thing.safetensors", tensors))
    assert found.family is None
    assert found.problem.startswith("thing.safetensors ")
    assert says in found.problem


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.safetensors", b"", "is empty"),
        ("a.safetensors", b"<!DOCTYPE html><html>Sign in", "is a web page"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS pointer"),
        ("a.safetensors", b"PK\x03\x04" + b"\0" * 99, "is damaged or cut short"),
        ("a.safetensors", (50).to_bytes(8, "little") + b"{not json" + b" " * 90, "header can't be read"),
        ("a.safetensors", (2).to_bytes(8, "little") + b"[]", "header can't be read"),
        ("a.safetensors", (21).to_bytes(8, "little") + b'{"a": {"shape": [1]}}', "header can't be read"),
        ("a.safetensors", (2**62).to_bytes(8, "little") + b"{}", "header can't be read"),
        ("a.ckpt", b"PK\x03\x04", "is damaged or cut short"),
        ("a.pt", b"\x80\x02", "is damaged or cut short"),
        ("a.pt", b"\x80\x02cposix\nsystem\n", "wants 'posix.system' to be run"),
        ("a.gguf", b"GGUF", "is a GGUF file"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert says in identify(tmp_path / name).problem


def tensor(shape=(2,), offsets=(0, 4), dtype="F16"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


TELLTALE = f"{P}output_blocks.11.1.transformer_blocks.0.norm1.bias"


@pytest.mark.parametrize(
    "entries",
    [
        {"a": tensor(offsets=(-4, 4))},
        {"a": tensor(offsets=(0, 2**70))},
        {"a": tensor(offsets=(4, 0))},
        {"a": tensor(offsets=(0, 4, 4))},
        {"a": tensor(offsets=(2, 6))},
        {"a": tensor(), "b": tensor()},
        {"a": tensor(shape=(10**12,))},
        {"a": tensor(shape=(-1, -2))},
        {"a": tensor(shape="12")},
        {"a": tensor(shape=(1,) * 100_000)},
        {"a": tensor(dtype=5)},
        {"a": [1]},
    ],
)
def test_a_header_that_leads_beyond_its_file_is_refused(entries, tmp_path):
    """Also where the tensor is the one whose numbers are read to tell what Stable Diffusion 2 predicts."""
    for name, named in (("a", entries), ("sd2", {TELLTALE if key == "a" else key: entries[key] for key in entries})):
        text = json.dumps(named).encode()
        (tmp_path / f"{name}.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"1234")
    for found in Catalogue([tmp_path]).list():
        assert re.search(r"header can't be read|where they can't lie", found.problem)


def test_a_header_of_countless_tensors_is_refused(tmp_path):
    found = identify(write(tmp_path / "a.safetensors", {str(i): [] for i in range(50_001)}))
    assert "more tensors than any checkpoint" in found.problem


def test_a_file_that_is_cut_short_says_by_how_much(tmp_path):
    assert "is cut short" in identify(write(tmp_path / "a.safetensors", sd(), cut=1)).problem
    assert "more bytes" in identify(write(tmp_path / "a.safetensors", sd(), cut=-1)).problem


def test_a_diffusers_folder_tells_its_own_size(tmp_path):
    found = identify(diffusers_folder(tmp_path / "mine"))
    assert (found.name, found.family, found.problem, found.side) == ("mine", "sd1", None, 768)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "model_index.json").unlink(), "without its model_index.json"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "damaged model_index.json"),
        (lambda folder: (folder / "vae/model.safetensors").unlink(), "no .safetensors file in vae/"),
        (lambda folder: (folder / "unet/config.json").unlink(), "has no unet/config.json"),
        (lambda folder: (folder / "unet/model.safetensors").write_bytes(b"<html>"), "unet/model.safetensors is a web"),
        (
            lambda folder: write(folder / "vae/model-00001-of-00003.safetensors", {"a": [1]}),
            "lacks 2 of the files of its vae",
        ),
        (lambda folder: (folder / "unet/config.json").write_text('{"in_channels": [4]}'), "damaged config.json"),
        (lambda folder: (folder / "vae/config.json").write_text('{"block_out_channels": 4}'), "damaged config.json"),
        (lambda folder: (folder / "vae/config.json").write_text("[" * 100_000), "damaged config.json"),
        (
            lambda folder: (folder / "text_encoder/config.json").write_text('{"vocab_size": "all"}'),
            "damaged config.json",
        ),
        (lambda folder: (folder / "model_index.json").write_text('{"_class_name": ["a"]}'), "damaged model_index.json"),
    ],
)
def test_a_damaged_folder_says_what_is_missing(damage, says, tmp_path):
    folder = diffusers_folder(tmp_path / "mine")
    damage(folder)
    assert says in identify(folder).problem


def test_a_folder_of_another_pipeline_is_named(tmp_path):
    flux = diffusers_folder(tmp_path / "flux", kind="FluxPipeline")
    assert "folder for FluxPipeline" in identify(flux).problem
    refiner = diffusers_folder(tmp_path / "r", kind="StableDiffusionXLImg2ImgPipeline", cross_attention_dim=1280)
    assert "SDXL refiner" in identify(refiner).problem
    pix2pix = diffusers_folder(tmp_path / "p", in_channels=8)
    assert "instruct-pix2pix" in identify(pix2pix).problem


def test_the_list_has_the_broken_ones_too_and_nothing_else(tmp_path):
    write(tmp_path / "b.safetensors", sd())
    (tmp_path / "a.ckpt").write_bytes(b"")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    found = Catalogue([tmp_path, tmp_path / "not there"]).list()
    assert [(each.name, each.problem is None) for each in found] == [("a", False), ("b", True)]


def test_one_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    write(tmp_path / "dreams.safetensors", sd())
    (tmp_path / "broken.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointUnavailable) as caught:
        Catalogue([tmp_path]).get("nope")
    assert caught.value.message == (
        f"There is no checkpoint 'nope'. Installed: dreams. Put a .safetensors file into {tmp_path}."
    )
    assert (caught.value.params, caught.value.status) == ("model_name", 400)


def test_a_broken_one_is_refused_with_its_reason(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointUnavailable, match=r"'broken' can't be used: broken\.safetensors is empty"):
        Catalogue([tmp_path]).get("broken")


@pytest.mark.parametrize("name", ["../secret", "..", "/etc/passwd", "sub/secret", "", "secret\0"])
def test_a_name_leads_nowhere_else(name, tmp_path):
    write(tmp_path / "secret.safetensors", sd())
    (tmp_path / "models/sub").mkdir(parents=True)
    write(tmp_path / "models/sub/secret.safetensors", sd())
    with pytest.raises(CheckpointUnavailable, match="There is no checkpoint"):
        Catalogue([tmp_path / "models"]).get(name)


def test_names_may_be_anything_else_and_end_as_the_file_does(tmp_path):
    write(tmp_path / "梦 (v2.1) [fp16].safetensors", sd())
    catalogue = Catalogue([tmp_path])
    assert catalogue.get("梦 (v2.1) [fp16]") == catalogue.get("梦 (v2.1) [fp16].safetensors")


def test_one_is_found_by_its_own_name_in_any_case_without_a_look_at_the_others(tmp_path):
    for name in ("One", "two"):
        write(tmp_path / f"{name}.safetensors", sd())
    catalogue = Catalogue([tmp_path], aliases={"other": "One"})
    assert [found and found.name for found in map(catalogue.called, ("one", "other", "three"))] == ["One", None, None]
    assert [path.stem for path in catalogue._known] == ["One"]


def test_letters_and_their_accents_may_be_apart(tmp_path):
    """As they are in names that come from a Mac."""
    write(tmp_path / "re\u0301ve.safetensors", sd())
    (tmp_path / "re\u0301ve.toml").write_text("steps = 9")
    catalogue = Catalogue([tmp_path])
    assert catalogue.get("r\u00e9ve") == catalogue.get("re\u0301ve.safetensors")
    assert (catalogue.get("r\u00e9ve").name, catalogue.get("r\u00e9ve").steps) == ("r\u00e9ve", 9)


def test_a_name_that_no_text_can_have_is_left_out(tmp_path):
    write(tmp_path / "plain.safetensors", sd())
    for folder in ("", "vae"):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name in (b"caf\xe9", b"red\x1b[31m", b"two\nlines", b".hidden"):
            Path(os.fsdecode(os.fsencode(tmp_path / folder) + b"/" + name + b".safetensors")).write_bytes(b"")
    catalogue = Catalogue([tmp_path])
    assert [each.name for each in catalogue.list()] == ["plain"]
    assert catalogue.adapters.list("vae") == []


def test_a_name_may_end_as_any_form_of_checkpoint_does(tmp_path):
    write(tmp_path / "a.b.safetensors", sd())
    catalogue = Catalogue([tmp_path])
    for name in ("a.b", "a.b.ckpt", "a.b.pt", "a.b.SAFETENSORS"):
        assert catalogue.get(name).name == "a.b"


def test_of_one_name_the_file_wins_over_the_folder_and_the_first_folder_over_the_second(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    diffusers_folder(one / "same")
    (one / "same.ckpt").write_bytes(b"")
    two.mkdir()
    write(two / "same.safetensors", sd())
    assert Catalogue([one, two]).get("same").path == str(one / "same")
    write(one / "same.safetensors", sd())
    assert Catalogue([one, two]).get("same").path == str(one / "same.safetensors")


def test_the_default_is_the_well_known_then_the_configured_then_ours(tmp_path):
    catalogue = Catalogue([tmp_path], default="mine")
    with pytest.raises(CheckpointUnavailable, match=r"no default checkpoint.*None is installed"):
        catalogue.default()
    for name in ("atelier-shapes", "mine", "v1-5-pruned-emaonly"):
        write(tmp_path / f"{name}.safetensors", sd())
        assert catalogue.default().name == name
    write(tmp_path / "v1-5-pruned-emaonly.safetensors", sd(), cut=1)
    assert catalogue.default().name == "mine"


def test_the_catalogue_follows_the_disk(tmp_path):
    catalogue = Catalogue([tmp_path])
    assert catalogue.list() == []
    for i in range(20):  # as fast as it goes: well within one tick of the folder's clock
        write(tmp_path / f"{i}.safetensors", sd())
        assert catalogue.get(str(i)).family == SD1.name
    (tmp_path / "3.safetensors").unlink()
    with pytest.raises(CheckpointUnavailable, match="There is no checkpoint '3'"):
        catalogue.get("3")
    write(tmp_path / "4.safetensors", sd(1280, block=4))
    with pytest.raises(CheckpointUnavailable, match="SDXL refiner"):
        catalogue.get("4")


def test_a_look_up_costs_microseconds(tmp_path):
    for i in range(50):
        write(tmp_path / f"{i}.safetensors", sd())
    diffusers_folder(tmp_path / "folder")
    os.utime(tmp_path, (1, 1))
    catalogue = Catalogue([tmp_path])
    for name in ("7", "folder"):
        catalogue.get(name)
        start = time.thread_time()  # what others do meanwhile costs none of it
        for _ in range(100):
            catalogue.get(name)
        assert (time.thread_time() - start) / 100 < 0.001


def test_the_hash_is_the_one_that_other_servers_show(tmp_path):
    path = write(tmp_path / "a.safetensors", {"emb_params": [4, 768]})
    catalogue = Catalogue([tmp_path])
    [found] = catalogue.list()
    assert catalogue.hashes.compute(Path(found.path))[:10] == hashlib.sha256(path.read_bytes()).hexdigest()[:10]
    write(path, {"emb_params": [5, 768]})
    assert catalogue.hashes.compute(Path(found.path))[:10] == hashlib.sha256(path.read_bytes()).hexdigest()[:10]


def test_two_folders_that_differ_in_any_part_have_two_hashes(tmp_path):
    hashes, seen = Hashes(tmp_path / "hashes.json"), set()
    folder = diffusers_folder(tmp_path / "a")
    for change in (
        lambda: None,
        lambda: write(folder / "vae/model.safetensors", {"weight": [2]}),
        lambda: write(folder / "text_encoder/model.safetensors", {"weight": [3]}),
        lambda: write(folder / "unet/model.safetensors", {"weight": [4]}),
        lambda: (folder / "vae/config.json").write_text('{"force_upcast": false}'),
    ):
        change()
        assert hashes.find(folder) is None
        seen.add(hashes.compute(folder))
        assert hashes.find(folder) == Hashes(tmp_path / "hashes.json").find(folder)
    assert len(seen) == 5


def test_what_has_no_part_in_its_pictures_has_none_in_a_folders_hash(tmp_path):
    one, other = (
        diffusers_folder(tmp_path / "a"),
        diffusers_folder(tmp_path / "b", kind="StableDiffusionImg2ImgPipeline"),
    )
    write(other / "unet/model.non_ema.safetensors", {"weight": [9]})
    write(other / "vae/model.fp16.safetensors", {"weight": [9]})
    (other / "README.md").write_text("hello")
    assert Hashes().compute(one) == Hashes().compute(other)


def test_a_component_in_a_folder_has_a_hash_that_changes_with_it(tmp_path):
    folder = tmp_path / "vae/soft"
    write(folder / "diffusion_pytorch_model.safetensors", {"weight": [1]})
    (folder / "config.json").write_text("{}")
    hashes = Hashes()
    first, stamp = hashes.compute(folder), stamp_of(str(folder))
    write(folder / "diffusion_pytorch_model.safetensors", {"weight": [2]})
    assert hashes.compute(folder) != first
    assert stamp_of(str(folder)) != stamp


def test_a_folders_files_are_those_that_a_worker_loads(tmp_path):
    versions = ["", ".fp16", ".non_ema", "-00001-of-00002", "-00002-of-00002", ".fp16-00001-of-00002", ".bf16.fp16"]
    for i, some in enumerate([versions, versions[1:3], versions[5:], versions[3:], versions[1:2], versions[2:3]]):
        for version in some:
            write(tmp_path / f"{i}/model{version}.safetensors", {})
        assert weight_files(tmp_path / f"{i}") == loaded_files(tmp_path / f"{i}")


def test_a_checkpoint_is_found_by_its_hash_once_that_is_known(tiny):
    catalogue = Catalogue([tiny.file.parent])
    found = catalogue.get("tiny-file")
    prefix = hashlib.sha256(tiny.file.read_bytes()).hexdigest()[:10]
    assert catalogue.with_hash(prefix) is None
    catalogue.hashes.compute(Path(found.path))[:10]
    assert catalogue.with_hash(prefix.upper()) == found
    assert catalogue.with_hash("") is None


def test_the_catalogue_needs_no_torch():
    code = "import sys, app.checkpoints.catalogue; sys.exit(bool({'torch', 'diffusers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
