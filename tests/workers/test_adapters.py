"""What goes with a checkpoint is found by kind and name, and known for what it is."""

from __future__ import annotations

import shutil

import pytest
import torch

from app.checkpoints.adapters import Adapters
from app.errors import CheckpointUnavailable
from tests.workers.headers import sd, write

K = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
DOTTED = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
VAE = {"encoder.conv_in.weight": [128, 3, 3, 3], "decoder.conv_in.weight": [512, 4, 3, 3]}
CONTROL = "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize(
    ("kind", "tensors", "family"),
    [
        ("lora", {f"lora_unet_{K}.lora_down.weight": [4, 768]}, "sd1"),
        ("lora", {f"lora_unet_{K}.lora_down.weight": [4, 1024]}, "sd2"),
        ("lora", {f"unet.{DOTTED}.lora_A.weight": [4, 2048]}, "sdxl"),
        ("lora", {f"unet.{DOTTED}.lora.down.weight": [4, 768]}, "sd1"),
        ("lora", {f"lora_unet_{K}.hada_w1_b": [4, 64]}, "shapes"),
        ("lora", {"lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": [4, 768]}, "sdxl"),
        ("lora", {"lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": [4, 768]}, "sd1"),
        ("lora", {"lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight": [4, 320, 3, 3]}, None),
        ("embedding", {"emb_params": [4, 768]}, "sd1"),
        ("embedding", {"<cat>": [1024]}, "sd2"),
        ("embedding", {"clip_l": [4, 768], "clip_g": [4, 1280]}, "sdxl"),
        ("vae", VAE, None),
        ("vae", {"first_stage_model." + name: shape for name, shape in VAE.items()}, None),
        ("controlnet", {"control_model.input_hint_block.0.weight": [16, 3, 3, 3], CONTROL: [320, 768]}, "sd1"),
        ("controlnet", {"controlnet_cond_embedding.conv_in.weight": [1], f"{DOTTED}.weight": [320, 2048]}, "sdxl"),
        ("upscaler", {"conv_first.weight": [64, 3, 3, 3]}, None),
        ("upscaler", {"body.0.weight": [64, 3, 3, 3], "body.1.weight": [64]}, None),
    ],
)
def test_an_adapter_is_found_and_its_family_known(kind, tensors, family, tmp_path):
    folder = {"lora": "loras", "embedding": "embeddings", "upscaler": "upscalers"}.get(kind, kind)
    path = write(tmp_path / folder / "it.safetensors", tensors)
    for name in ("it", "it.safetensors"):
        found = Adapters(tmp_path).find(kind, name)
        assert (found.kind, found.name, found.path, found.family) == (kind, "it", str(path), family)


def test_where_widths_say_nothing_its_makers_words_do(tmp_path):
    conv = {"lora_unet_mid_block_resnets_0_conv1.lora_down.weight": [4, 1280, 3, 3]}
    for i, (said, family) in enumerate(
        [
            ({"ss_base_model_version": "sd_v1"}, "sd1"),
            ({"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
            ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "sd2"),
            ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "sd1"),
        ]
    ):
        write(tmp_path / f"loras/{i}.safetensors", conv, said=said | {"modelspec.trigger_phrase": "a, b"})
        found = Adapters(tmp_path).find("lora", str(i))
        assert (found.family, found.trigger_words) == (family, ("a", "b"))


@pytest.mark.parametrize(
    ("kind", "tensors", "says"),
    [
        ("lora", VAE, r"it\.safetensors is a VAE alone, not a LoRA. It belongs into vae/"),
        ("vae", {f"lora_unet_{K}.lora_down.weight": [4, 768]}, "is a LoRA, not a VAE. It belongs into loras/"),
        ("controlnet", sd(), "is a checkpoint, not a ControlNet. It belongs into the folder of the checkpoints"),
        ("lora", {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": [4, 3072]}, "such as Flux"),
        ("vae", VAE | {"decoder.conv_in.weight": [512, 16, 3, 3]}, "is a VAE of 16 channels"),
        ("upscaler", {"something": [1]}, "is no upscaler: it holds nothing that Atelier knows"),
    ],
)
def test_what_lies_in_the_wrong_folder_is_named_for_what_it_is(kind, tensors, says, tmp_path):
    folder = {"lora": "loras", "upscaler": "upscalers"}.get(kind, kind)
    write(tmp_path / folder / "it.safetensors", tensors)
    adapters = Adapters(tmp_path)
    assert adapters.names(kind) == []
    with pytest.raises(CheckpointUnavailable, match=says):
        adapters.find(kind, "it")


def test_damaged_ones_say_so(tmp_path):
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras/page.safetensors").write_bytes(b"<!DOCTYPE html>")
    (tmp_path / "loras/old.pt").write_bytes(b"PK\x03\x04")
    write(tmp_path / "loras/cut.safetensors", {f"lora_unet_{K}.lora_down.weight": [4, 768]}, cut=1)
    problems = {each.name: each.problem for each in Adapters(tmp_path).list("lora")}
    assert "is cut short" in problems["cut"]
    assert "is damaged or cut short" in problems["old"]
    assert "is a web page" in problems["page"]


def test_what_pytorch_saved_is_known_by_what_it_holds(tmp_path):
    for folder, content in {
        "embeddings": {"string_to_param": {"*": torch.zeros(2, 768)}, "name": "x"},
        "upscalers": {"params_ema": {"conv_first.weight": torch.zeros(4, 3, 3, 3)}},
        "loras": {f"lora_unet_{K}.lora_down.weight": torch.zeros(4, 768)},
        "vae": {"state_dict": {name: torch.zeros(4, 4, 3, 3) for name in VAE}},
    }.items():
        (tmp_path / folder).mkdir()
        torch.save(content, tmp_path / folder / "old.pt")
    adapters = Adapters(tmp_path)
    assert adapters.find("embedding", "old").family == "sd1"
    assert [adapters.names(kind) for kind in ("embedding", "upscaler", "lora", "vae")] == [["old"]] * 4
    shutil.copy(tmp_path / "loras/old.pt", tmp_path / "vae/lora.pt")
    torch.save({name: torch.zeros(1) for name in VAE}, tmp_path / "vae/flat.pt")
    with pytest.raises(CheckpointUnavailable, match="other shapes than their names say"):
        adapters.find("vae", "flat")
    with pytest.raises(CheckpointUnavailable, match="is a LoRA"):
        adapters.find("vae", "lora")


def test_a_tiny_vae_finishes_no_picture(tmp_path):
    write(tmp_path / "vae/taesd.safetensors", {"1.weight": [64, 4, 3, 3], "3.conv.0.weight": [64, 64, 3, 3]})
    adapters = Adapters(tmp_path)
    assert [each.problem for each in adapters.list("vae")] == [None]
    with pytest.raises(CheckpointUnavailable, match="it is a tiny one") as caught:
        adapters.find("vae", "taesd")
    assert caught.value.params == "vae"


def test_controlnets_and_vaes_may_be_folders(tmp_path):
    net = {"controlnet_cond_embedding.conv_in.weight": [16, 3, 3, 3], "down_blocks.0.attn2.to_k.weight": [320, 768]}
    for place, shapes in (("controlnet/canny", net), ("vae/soft", VAE), ("vae/canny", net)):
        write(tmp_path / place / "diffusion_pytorch_model.safetensors", shapes)
        (tmp_path / place / "config.json").write_text("{}")
    adapters = Adapters(tmp_path)
    with pytest.raises(CheckpointUnavailable, match="canny is a ControlNet, not a VAE"):
        adapters.find("vae", "canny")
    assert adapters.find("controlnet", "canny").family == "sd1"
    assert adapters.find("vae", "soft").path == str(tmp_path / "vae/soft")
    (tmp_path / "vae/soft/diffusion_pytorch_model.safetensors").write_bytes(b"<html>")
    with pytest.raises(CheckpointUnavailable, match=r"diffusion_pytorch_model\.safetensors is a web page"):
        adapters.find("vae", "soft")


def test_one_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    adapters = Adapters(tmp_path)
    with pytest.raises(CheckpointUnavailable, match=r"no LoRA 'x'. None is installed. Put its file into .*/loras\."):
        adapters.find("lora", "x")
    write(tmp_path / "loras/b.safetensors", {f"lora_unet_{K}.lora_down.weight": [4, 768]})
    write(tmp_path / "loras/a.safetensors", VAE)
    for name in ("x", "../loras/b", "", "b.toml"):
        with pytest.raises(CheckpointUnavailable, match=r"Installed: b\.") as caught:
            adapters.find("lora", name)
        assert caught.value.params == "loras"


def test_the_folders_are_followed(tmp_path):
    adapters = Adapters(tmp_path)
    for i in range(5):  # as fast as it goes: well within one tick of the folder's clock
        path = write(tmp_path / f"loras/{i}.safetensors", {f"lora_unet_{K}.lora_down.weight": [4, 768]})
        assert adapters.names("lora") == [str(j) for j in range(i + 1)]
    write(path, {f"lora_unet_{K}.lora_down.weight": [4, 2048]})
    found = adapters.find("lora", "4")
    assert found.family == "sdxl"
    path.unlink()
    assert adapters.names("lora") == ["0", "1", "2", "3"]
