"""A diffusers folder, the single file made from it, and what diffusers makes of that file, are one checkpoint."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from app.errors import CheckpointUnavailable
from workers.diffusion.checkpoint import names
from workers.diffusion.checkpoint.export import export_single_file
from workers.diffusion.checkpoint.loading import load
from workers.diffusion.checkpoint.tokenizer import CONFIGS, tokenizer
from workers.diffusion.request import Weights
from workers.diffusion.shapes.train import make_tokenizer, new_text_encoder, new_unet

CPU = torch.device("cpu")


def meta_modules(family):
    with torch.device("meta"):
        config = json.loads((CONFIGS / family / "text_encoder/config.json").read_text())
        return (
            UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(CONFIGS / family / "unet")),
            AutoencoderKL.from_config(AutoencoderKL.load_config(CONFIGS / family / "vae")),
            CLIPTextModel(CLIPTextConfig(**config)),
        )


def shapes_of(module):
    return {name: tuple(weight.shape) for name, weight in module.state_dict().items()}


def test_the_sd1_configuration_is_stable_diffusion_1_to_the_parameter():
    counts = [sum(p.numel() for p in module.parameters()) for module in meta_modules("sd1")]
    assert counts == [859_520_964, 83_653_863, 123_060_480]


def test_the_shapes_configuration_is_what_the_trainer_builds(tmp_path):
    unet, _, text_encoder = meta_modules("shapes")
    words = make_tokenizer(tmp_path)
    assert shapes_of(unet) == shapes_of(new_unet())
    assert shapes_of(text_encoder) == shapes_of(new_text_encoder(words))
    assert tokenizer("shapes").get_vocab() == words.get_vocab()


def test_the_original_names_of_sd1_are_known():
    """A few names from the published file, for each rule one; diffusers' own conversion, below, holds for the rest."""
    unet, vae, _ = meta_modules("sd1")
    ours = {names.unet_names(unet.config)(name) for name in unet.state_dict()}
    ours |= {names.vae_names(vae.config)(name) for name in vae.state_dict()}
    unet_names = """time_embed.0.weight input_blocks.0.0.bias input_blocks.3.0.op.weight out.2.weight
        input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight input_blocks.11.0.in_layers.2.weight
        middle_block.1.proj_in.weight middle_block.2.out_layers.3.weight output_blocks.2.1.conv.weight
        output_blocks.5.2.conv.weight output_blocks.11.0.skip_connection.weight output_blocks.11.0.emb_layers.1.bias"""
    vae_names = """encoder.down.0.downsample.conv.weight encoder.mid.attn_1.q.weight decoder.up.3.upsample.conv.bias
        decoder.up.0.block.0.nin_shortcut.weight decoder.mid.block_2.conv2.weight decoder.norm_out.weight
        quant_conv.weight encoder.conv_out.bias encoder.mid.attn_1.proj_out.bias decoder.mid.attn_1.norm.weight"""
    expected = {names.UNET + name for name in unet_names.split()} | {names.VAE + name for name in vae_names.split()}
    assert expected <= ours
    assert len(ours) == len(unet.state_dict()) + len(vae.state_dict())


def test_diffusers_converts_the_original_names_back():
    unet, vae, _ = meta_modules("sd1")
    for module, rename, convert in (
        (unet, names.unet_names(unet.config), convert_ldm_unet_checkpoint),
        (vae, names.vae_names(vae.config), convert_ldm_vae_checkpoint),
    ):
        weights = module.state_dict()
        back = convert({rename(name): weight for name, weight in weights.items()}, module.config)
        assert {name: id(weight) for name, weight in back.items() if "attn" not in name} == {
            name: id(weight) for name, weight in weights.items() if "attn" not in name
        }
        assert back.keys() == weights.keys()


def shapes(path) -> Weights:
    return Weights("one", str(path), "shapes")


def test_folder_and_single_file_paint_the_same_bits(engine, ask, tiny):
    folder, file = shapes(tiny.folder), shapes(tiny.file)
    assert engine.paint(ask(weights=folder)).images == engine.paint(ask(weights=file)).images


def test_diffusers_reads_the_exported_file_as_we_do(tiny):
    ours = load(shapes(tiny.file), CPU, torch.float32)
    theirs = StableDiffusionPipeline.from_single_file(
        str(tiny.file), config=str(CONFIGS / "shapes"), local_files_only=True, tokenizer=ours.tokenizers[0]
    )
    for part, mine in (("unet", ours.unet), ("vae", ours.vae), ("text_encoder", ours.text_encoders[0])):
        weights = getattr(theirs, part).state_dict()
        for name, weight in mine.state_dict().items():
            assert torch.equal(weight, weights[name]), name


def test_old_merges_without_text_model_in_their_names_are_read(tiny, tmp_path):
    weights = {name.replace("transformer.text_model.", "transformer."): w for name, w in load_file(tiny.file).items()}
    save_file(weights, tmp_path / "old.safetensors")
    old, new = (load(shapes(path), CPU, torch.float32) for path in (tmp_path / "old.safetensors", tiny.file))
    for name, weight in new.text_encoders[0].state_dict().items():
        assert torch.equal(weight, old.text_encoders[0].state_dict()[name])


def test_the_precision_asked_for_is_the_one_loaded(tiny):
    for path in (tiny.folder, tiny.file):
        components = load(shapes(path), CPU, torch.bfloat16)
        assert {components.unet.dtype, components.vae.dtype, components.text_encoders[0].dtype} == {torch.bfloat16}


@pytest.mark.parametrize("damage", ["a weight missing", "another shape", "cut short", "another family"])
def test_weights_that_do_not_fit_are_refused_by_name(damage, tiny, tmp_path):
    path, weights = tmp_path / "broken.safetensors", load_file(tiny.file)
    match damage:
        case "a weight missing":
            del weights[names.UNET + "out.2.weight"]
        case "another shape":
            weights[names.UNET + "out.2.weight"] = torch.zeros(3, 3)
    save_file(weights, path)
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointUnavailable, match=r"broken\.safetensors could not be loaded") as caught:
        load(Weights("x", str(path), "sd1" if damage == "another family" else "shapes"), CPU, torch.float32)
    assert caught.value.params == "model_name"


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_folder_with_damaged_weights_is_refused_by_name(part, tiny, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny.folder, folder)
    [file] = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    weights.pop(min(weights))
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointUnavailable, match=f"damaged could not be loaded.*{part}/ lacks weights"):
        load(shapes(folder), CPU, torch.float32)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointUnavailable, match="damaged could not be loaded"):
        load(shapes(folder), CPU, torch.float32)


def test_an_export_keeps_the_precision(tiny, tmp_path):
    folder = tmp_path / "half"
    StableDiffusionPipeline.from_pretrained(tiny.folder, dtype=torch.float16).save_pretrained(folder)
    export_single_file(folder, tmp_path / "half.safetensors")
    assert {weight.dtype for weight in load_file(tmp_path / "half.safetensors").values()} == {torch.float16}
