"""Each family of Stable Diffusion, in each form that its files have, gives the same modules."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from app.errors import CheckpointUnavailable
from tests.workers.families import FAMILIES, small_checkpoint
from tests.workers.plain import painted_by_diffusers
from workers.diffusion.checkpoint import names
from workers.diffusion.checkpoint.loading import load
from workers.diffusion.checkpoint.tokenizer import CONFIGS, tokenizer
from workers.diffusion.request import Weights

CPU = torch.device("cpu")
PARAMETERS = {  # of the published checkpoints
    "sd1": [859_520_964, 83_653_863, 123_060_480],
    "sd2": [865_910_724, 83_653_863, 340_387_840],
    "sdxl": [2_567_463_684, 83_653_863, 123_060_480, 694_659_840],
}


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A random checkpoint of each family, made when it is first asked for."""
    made = {}

    def get(family):
        if family not in made:
            made[family] = small_checkpoint(family, tmp_path_factory.mktemp(family))
        return made[family]

    return get


def loaded(path, family, configs, dtype=torch.float32, **more):
    return load(Weights("it", str(path), family, **more), CPU, dtype, configs)


def modules_of(parts):
    return [parts.unet, parts.vae, *parts.text_encoders]


def same_modules(one, two):
    for ours, theirs in zip(modules_of(one), modules_of(two), strict=True):
        weights = theirs.state_dict()
        assert ours.state_dict().keys() == weights.keys()
        for name, weight in ours.state_dict().items():
            assert torch.equal(weight, weights[name]), name


@pytest.mark.parametrize("family", PARAMETERS)
def test_the_configurations_are_the_published_ones_to_the_parameter(family):
    home = CONFIGS / family
    with torch.device("meta"):
        built = [
            UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(home / "unet")),
            AutoencoderKL.from_config(AutoencoderKL.load_config(home / "vae")),
        ]
        for part, kind in (("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection)):
            if (home / part).is_dir():
                built.append(kind(CLIPTextConfig.from_dict(json.loads((home / part / "config.json").read_text()))))
    assert [sum(p.numel() for p in module.parameters()) for module in built] == PARAMETERS[family]


@pytest.mark.parametrize("family", PARAMETERS)
def test_an_inpainting_checkpoint_sees_five_channels_more_and_is_else_the_same(family):
    for part in ("unet", "text_encoder"):
        plain, inpaint = (
            json.loads((CONFIGS / name / part / "config.json").read_text()) for name in (family, f"{family}-inpaint")
        )
        differ = {name for name in plain if plain[name] != inpaint[name]}
        assert differ - {"sample_size", "upcast_attention"} == ({"in_channels"} if part == "unet" else set())


@pytest.mark.parametrize("family", FAMILIES)
def test_folder_and_single_file_are_the_same_checkpoint(family, small):
    it = small(family)
    folder, file = (loaded(path, family, it.configs) for path in (it.folder, it.file))
    same_modules(folder, file)
    assert folder.schedule == file.schedule
    assert file.is_inpainting is family.endswith("inpaint")
    assert len(file.tokenizers) == len(file.text_encoders) == (2 if family.startswith("sdxl") else 1)


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_diffusers_reads_the_single_file_as_we_do(family, small):
    it = small(family)
    ours, weights = loaded(it.file, family, it.configs), load_file(it.file)
    prefix = names.TEXT_ENCODERS["text_encoder_2" if family == "sdxl" else "text_encoder"][0] + "model."
    for module, theirs in (
        (ours.unet, convert_ldm_unet_checkpoint(dict(weights), ours.unet.config)),
        (ours.vae, convert_ldm_vae_checkpoint(dict(weights), ours.vae.config)),
        (ours.text_encoders[-1], convert_open_clip_checkpoint(ours.text_encoders[-1], dict(weights), prefix)),
    ):
        for name, weight in module.state_dict().items():
            found = theirs[name if name in theirs else f"text_model.{name}"]
            assert torch.equal(weight, found.reshape(weight.shape)), name


def test_diffusers_paints_with_a_folder_of_ours_and_we_have_its_modules(small):
    it = small("sdxl")
    theirs = StableDiffusionXLPipeline.from_pretrained(it.folder, local_files_only=True)
    ours = loaded(it.file, "sdxl", it.configs)
    for part, mine in (("unet", ours.unet), ("vae", ours.vae), ("text_encoder_2", ours.text_encoders[1])):
        weights = getattr(theirs, part).state_dict()
        assert all(torch.equal(weight, weights[name]) for name, weight in mine.state_dict().items())


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_folder_is_painted_as_diffusers_paints_it(family, small, engine, ask):
    """Stable Diffusion 2 by velocity, with what OpenCLIP says of the prompt; SDXL with what two text encoders say."""
    folder = small(family).folder
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    theirs = kind.from_pretrained(folder, local_files_only=True)
    theirs.scheduler = PNDMScheduler.from_config(theirs.scheduler.config)
    theirs.set_progress_bar_config(disable=True)
    request = ask(path=folder, weights=Weights(family, str(folder), family), sampler="pndm", width=32, height=32)
    picture = painted_by_diffusers(theirs, request, width=32, height=32)
    [ours] = engine.paint(request).images
    ours = np.asarray(Image.open(io.BytesIO(ours.content)).convert("RGB")).astype(int)
    assert np.abs(ours - picture).max() <= 1
    assert ours.std() > 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_file_of_any_precision_is_loaded_in_the_one_asked_for(dtype, small, tmp_path):
    it = small("sd2")
    save_file({name: w.to(dtype) for name, w in load_file(it.file).items()}, tmp_path / "it.safetensors")
    parts = loaded(tmp_path / "it.safetensors", "sd2", it.configs, torch.bfloat16)
    assert {module.dtype for module in modules_of(parts)} == {torch.bfloat16}


def test_the_autoencoder_of_sdxl_is_kept_from_half_precision(small):
    it = small("sdxl")
    parts = loaded(it.file, "sdxl", it.configs, torch.float16)
    assert (parts.unet.dtype, parts.vae.dtype) == (torch.float16, torch.float32)


def test_ema_twins_and_numbers_of_positions_are_passed_over(small, tmp_path):
    it = small("sd1")
    weights = load_file(it.file)
    weights |= {
        "model_ema." + name.removeprefix("model.").replace(".", ""): torch.full_like(weight, torch.nan)
        for name, weight in weights.items()
        if name.startswith(names.UNET)
    }
    weights["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77.0)[None]
    save_file(weights, tmp_path / "ema.safetensors")
    same_modules(loaded(tmp_path / "ema.safetensors", "sd1", it.configs), loaded(it.file, "sd1", it.configs))


def test_a_folder_with_the_names_of_before_2023_is_read(small, tmp_path):
    it = small("sd1")
    folder = shutil.copytree(it.folder, tmp_path / "old")
    for part, rename in (("vae", names.old_vae_name), ("text_encoder", lambda n: names.text_encoder_names(n)[0])):
        [file] = (folder / part).glob("*.safetensors")
        save_file({rename(name): w for name, w in load_file(file).items()}, file, metadata={"format": "pt"})
    same_modules(loaded(folder, "sd1", it.configs), loaded(it.folder, "sd1", it.configs))


def test_of_several_variants_in_a_folder_the_plain_one_is_read(small, tmp_path):
    it = small("sd1")
    folder = shutil.copytree(it.folder, tmp_path / "many")
    for part in ("unet", "vae", "text_encoder"):
        [file] = (folder / part).glob("*.safetensors")
        for variant in ("fp16", "non_ema"):
            damaged = {name: torch.zeros_like(weight) for name, weight in load_file(file).items()}
            save_file(damaged, file.with_suffix(f".{variant}.safetensors"))
    same_modules(loaded(folder, "sd1", it.configs), loaded(it.folder, "sd1", it.configs))


def without(path, prefix, tmp_path):
    lesser = tmp_path / "lesser.safetensors"
    save_file({name: weight for name, weight in load_file(path).items() if not name.startswith(prefix)}, lesser)
    return lesser


@pytest.mark.parametrize("form", ["checkpoint", "original names", "diffusers' names", "folder", "whole folder"])
def test_a_file_without_a_vae_takes_the_one_that_is_named(form, small, tmp_path):
    it = small("sd1")
    lesser = without(it.file, names.VAE, tmp_path)
    with pytest.raises(CheckpointUnavailable, match=r"lesser\.safetensors has no VAE in it"):
        loaded(lesser, "sd1", it.configs)
    vae = tmp_path / "vae.safetensors"
    match form:
        case "checkpoint":
            vae = it.file
        case "original names":
            weights = {name.removeprefix(names.VAE): weight for name, weight in load_file(it.file).items()}
            save_file(
                {name: w for name, w in weights.items() if name.startswith(("encoder.", "decoder.", "q", "p"))}, vae
            )
        case "diffusers' names":
            vae = next((it.folder / "vae").glob("*.safetensors"))
        case "folder":
            vae = it.folder / "vae"
        case "whole folder":
            vae = it.folder
    same_modules(loaded(lesser, "sd1", it.configs, vae_path=str(vae)), loaded(it.file, "sd1", it.configs))


def test_a_vae_may_take_the_place_of_a_folders_own(small, tmp_path):
    one, other = small("sd1"), small("sd2")
    parts = loaded(one.folder, "sd1", one.configs, vae_path=str(other.file))
    wanted = loaded(other.file, "sd2", other.configs).vae.state_dict()
    assert all(torch.equal(weight, wanted[name]) for name, weight in parts.vae.state_dict().items())


@pytest.mark.parametrize(("family", "prefix"), [("sd1", "cond_stage"), ("sd2", "cond_stage"), ("sdxl", "conditioner")])
def test_a_file_without_text_encoders_takes_those_that_are_named(family, prefix, small, tmp_path):
    it = small(family)
    lesser, whole = without(it.file, prefix, tmp_path), loaded(it.file, family, it.configs)
    with pytest.raises(CheckpointUnavailable, match="has no text encoder in it"):
        loaded(lesser, family, it.configs)
    places = [it.folder, it.file]
    if family != "sdxl":
        places += [it.folder / "text_encoder", next((it.folder / "text_encoder").glob("*.safetensors"))]
    for place in places:
        same_modules(loaded(lesser, family, it.configs, text_encoder_path=str(place)), whole)


def test_a_named_part_that_is_not_in_its_file_or_damaged_is_told_apart_from_the_checkpoint(small, tmp_path):
    sd1, sdxl = small("sd1"), small("sdxl")
    part = without(sd1.file, names.VAE, tmp_path)
    with pytest.raises(CheckpointUnavailable, match=r"can't have the VAE of lesser\.safetensors: there is none in it"):
        loaded(sd1.file, "sd1", sd1.configs, vae_path=str(part))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(CheckpointUnavailable, match=r"lesser\.safetensors is cut short"):
        loaded(sd1.file, "sd1", sd1.configs, vae_path=str(part))
    with pytest.raises(CheckpointUnavailable, match="with 2 text encoders, and text_encoder has 1"):
        loaded(sdxl.file, "sdxl", sdxl.configs, text_encoder_path=str(sdxl.folder / "text_encoder"))


@pytest.mark.parametrize(("family", "says"), [("sd1", "epsilon"), ("sd2", "v_prediction"), ("sd2-inpaint", "epsilon")])
def test_what_the_unet_predicts_is_the_familys_unless_somebody_knows_better(family, says, small):
    it = small(family)
    assert loaded(it.file, family, it.configs).schedule["prediction_type"] == says
    other = "epsilon" if says == "v_prediction" else "v_prediction"
    assert loaded(it.file, family, it.configs, prediction=other).schedule["prediction_type"] == other


def test_a_folders_scheduler_and_a_marked_sdxl_file_know_better(small, tmp_path):
    it = small("sdxl")
    marked = tmp_path / "v.safetensors"
    save_file(load_file(it.file) | {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}, marked)
    folder = shutil.copytree(it.folder, tmp_path / "v")
    config = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    config |= {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    for path in (marked, folder):
        schedule = loaded(path, "sdxl", it.configs).schedule
        assert (schedule["prediction_type"], schedule["rescale_betas_zero_snr"]) == ("v_prediction", True)


def test_open_clips_tokens_are_filled_up_with_zeros_and_exclamations_stay_words(small):
    it = small("sdxl")
    first, second = loaded(it.file, "sdxl", it.configs).tokenizers
    assert (first.pad_token_id, second.pad_token_id) == (len(first) - 1, 0)
    clip, open_clip = tokenizer("sd1"), tokenizer("sd2")
    ids = [words("a cat!", padding="max_length", max_length=7).input_ids for words in (clip, open_clip)]
    assert ids == [[49406, 320, 2368, 256, 49407, 49407, 49407], [49406, 320, 2368, 256, 49407, 0, 0]]


def test_a_folder_with_words_of_its_own_brings_their_tokenizer(small, tmp_path):
    it = small("sd1")
    folder = shutil.copytree(it.folder, tmp_path / "taught")
    words = loaded(folder, "sd1", it.configs).tokenizers[0].__class__.from_pretrained(folder / "tokenizer")
    words.add_tokens(["<my-cat>"])
    words.save_pretrained(folder / "tokenizer")
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True)
    text.resize_token_embeddings(len(words))
    text.save_pretrained(folder / "text_encoder")
    parts = loaded(folder, "sd1", it.configs)
    assert parts.tokenizers[0]("<my-cat>").input_ids[1] == len(words) - 1
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(CheckpointUnavailable, match="text encoder of 780 tokens, sd1 has 779"):
        loaded(folder, "sd1", it.configs)
