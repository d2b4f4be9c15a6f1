"""Prompts become the same numbers as diffusers' pipelines make of them, and more words are read than those do."""

from __future__ import annotations

import io
import json
import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from app.errors import CheckpointUnavailable, NodeFailed
from workers.diffusion.checkpoint.tokenizer import CONFIGS, tokenizer
from workers.diffusion.loras.dressing import Dressing
from workers.diffusion.prompts.attention import passages
from workers.diffusion.prompts.chunks import chunks
from workers.diffusion.prompts.encoder import Prompt, PromptEncoder
from workers.diffusion.prompts.inversions import Inversion

PROMPT = "a photo of a cat, sitting on a red sofa, soft light"
LONG = ", ".join(f"a {thing} of {stuff}" for thing in ("cup", "house", "river", "hat", "boat") for stuff in "abcdefgh")


def text_encoder(kind, width: int, **changes) -> CLIPTextModel | CLIPTextModelWithProjection:
    """Of random weights, whose last norm is not a plain one."""
    shape = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 3, "num_attention_heads": 2}
    ends = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "projection_dim": width}
    model = kind(CLIPTextConfig(**shape | ends | changes)).eval()
    norm = getattr(model, "text_model", model).final_layer_norm
    torch.nn.init.normal_(norm.bias, mean=-0.2)
    return model


def prompt_encoder(words, models) -> PromptEncoder:
    """Without a UNet: no LoRA is worn here."""
    return PromptEncoder(words, models, Dressing(torch.nn.Module(), models))


@pytest.fixture(scope="module")
def sd1() -> SimpleNamespace:
    """A text encoder as Stable Diffusion 1 has it, but smaller: `.encoder`, and `.plain` as diffusers uses it."""
    torch.manual_seed(1)
    model, words = text_encoder(CLIPTextModel, 32), tokenizer("sd1")
    parts = dict.fromkeys(("vae", "unet", "scheduler", "safety_checker", "feature_extractor"))
    plain = StableDiffusionPipeline(text_encoder=model, tokenizer=words, requires_safety_checker=False, **parts)
    return SimpleNamespace(words=words, model=model, encoder=prompt_encoder([words], [model]), plain=plain)


@pytest.fixture(scope="module")
def sdxl() -> SimpleNamespace:
    """As `sd1`, with Stable Diffusion XL's two text encoders: the second pads with "!"."""
    torch.manual_seed(2)
    model, second = text_encoder(CLIPTextModel, 32), text_encoder(CLIPTextModelWithProjection, 48, eos_token_id=2)
    words, exclaiming = tokenizer("sdxl"), tokenizer("sdxl", "tokenizer_2")
    plain = StableDiffusionXLPipeline(
        vae=None, unet=None, scheduler=None,
        text_encoder=model, text_encoder_2=second, tokenizer=words, tokenizer_2=exclaiming,
    )  # fmt: skip
    return SimpleNamespace(words=words, encoder=prompt_encoder([words, exclaiming], [model, second]), plain=plain)


def merges(words: CLIPTokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(words.backend_tokenizer.to_str())["model"]["merges"]]


@torch.inference_mode()
def plainly(sd1: SimpleNamespace, text: str, clip_skip: int | None = None) -> torch.Tensor:
    return sd1.plain.encode_prompt(text, "cpu", 1, False, clip_skip=clip_skip)[0]


def tokens_of(cut) -> list[int]:
    return [len(chunk) for chunk in cut]


def test_a_plain_prompt_is_encoded_as_diffusers_does(sd1):
    for text in (PROMPT, ""):
        assert torch.equal(sd1.encoder.encode(Prompt(text)).embedding, plainly(sd1, text))


@torch.inference_mode()
def test_stable_diffusion_2_fills_up_with_another_token(sd1):
    words = tokenizer("sd2")
    model = text_encoder(CLIPTextModel, 32)
    ids = words("a cat", padding="max_length", max_length=77, return_tensors="pt").input_ids
    assert ids[0, -1] == 0
    assert torch.equal(prompt_encoder([words], [model]).encode(Prompt("a cat")).embedding, model(ids)[0])


@torch.inference_mode()
def test_both_text_encoders_of_xl_are_read_as_diffusers_does(sdxl):
    embedding, negative, pooled, negative_pooled = sdxl.plain.encode_prompt(PROMPT, device="cpu", negative_prompt="dim")
    for text, expected in ((PROMPT, (embedding, pooled)), ("dim", (negative, negative_pooled))):
        made = sdxl.encoder.encode(Prompt(text))
        assert torch.equal(made.embedding, expected[0])
        assert torch.equal(made.pooled, expected[1])


@torch.inference_mode()
def test_an_empty_negative_prompt_is_zeros_for_xl_alone(sd1, sdxl):
    _, negative, _, negative_pooled = sdxl.plain.encode_prompt(PROMPT, device="cpu")
    made = sdxl.encoder.encode(Prompt(" ", negative=True))
    assert torch.equal(made.embedding, negative)
    assert torch.equal(made.pooled, negative_pooled)
    assert sdxl.encoder.encode(Prompt("")).embedding.any()
    assert torch.equal(sd1.encoder.encode(Prompt("", negative=True)).embedding, plainly(sd1, ""))


@torch.inference_mode()
def test_clip_skip_counts_from_the_last_layer(sd1):
    ids = sd1.words(PROMPT, padding="max_length", max_length=77, return_tensors="pt").input_ids
    layers = sd1.model(ids, output_hidden_states=True).hidden_states
    for skip in (2, 3):
        expected = sd1.model.final_layer_norm(layers[-skip])
        assert torch.equal(sd1.encoder.encode(Prompt(PROMPT, clip_skip=skip)).embedding, expected)
    with pytest.raises(NodeFailed, match=r"clip_skip is 4, but .* has 3 layers"):
        sd1.encoder.encode(Prompt(PROMPT, clip_skip=4))


@torch.inference_mode()
def test_clip_skip_2_is_what_xl_always_reads(sdxl):
    one, two, three = (sdxl.encoder.encode(Prompt(PROMPT, clip_skip=skip)) for skip in (1, 2, 3))
    assert torch.equal(one.embedding, two.embedding)
    assert torch.equal(three.embedding, sdxl.plain.encode_prompt(PROMPT, device="cpu", clip_skip=1)[0])


def test_a_long_prompt_is_read_whole_in_chunks(sd1):
    cut = chunks(passages(LONG), sd1.words, {})
    made = sd1.encoder.encode(Prompt(LONG)).embedding
    alone = [plainly(sd1, sd1.words.decode([each.token for each in chunk])) for chunk in cut]
    assert len(cut) == 3
    assert made.shape == (1, 3 * 77, 32)
    assert (made - torch.cat(alone, dim=1)).abs().max() < 1e-5


def test_a_phrase_that_would_be_torn_goes_into_the_next_chunk(sd1):
    def lengths(prompt: str) -> list[int]:
        return tokens_of(chunks(passages(prompt), sd1.words, {}))

    assert lengths("cat " * 70 + ", a very big dog and more") == [71, 6]
    assert lengths("cat, " + "dog " * 75) == [75, 2]  # the comma is too far back
    assert lengths("cat " * 75 + ", dog") == [75, 2]
    assert lengths("cat " * 74 + ", dog") == [75, 1]
    assert lengths("cat " * 75) == [75]
    assert lengths("") == [0]


def test_break_begins_a_new_chunk(sd1):
    made = sd1.encoder.encode(Prompt("a cat BREAK a dog")).embedding
    alone = torch.cat([plainly(sd1, "a cat"), plainly(sd1, "a dog")], dim=1)
    assert (made - alone).abs().max() < 1e-5
    assert tokens_of(chunks(passages("a BREAK BREAK b BREAK"), sd1.words, {})) == [1, 0, 1]


def test_prompts_of_all_lengths_fit_together(sd1):
    cuts = [chunks(passages("a " + "BREAK a " * i), sd1.words, {}) for i in range(24)]
    assert [len(cut) for cut in cuts[:9]] == [1, 2, 3, 4, 6, 6, 8, 8, 12]
    assert math.lcm(*(len(cut) for cut in cuts)) == 24
    assert tokens_of(cuts[4]) == [1, 1, 1, 1, 1, 0]


def test_a_prompt_that_is_much_too_long_is_refused(sd1):
    with pytest.raises(NodeFailed, match="at most 1800 tokens"):
        sd1.encoder.encode(Prompt("cat " * 1801))
    with pytest.raises(NodeFailed, match="too long"):
        sd1.encoder.encode(Prompt("BREAK " * 25))


def test_a_weight_multiplies_its_tokens_and_keeps_the_mean(sd1, sdxl):
    plain = sd1.encoder.encode(Prompt("a big cat")).embedding[0]
    weighed = sd1.encoder.encode(Prompt("a (big:1.5) cat")).embedding[0]
    ratio = weighed / plain
    assert weighed.mean().item() == pytest.approx(plain.mean().item(), rel=1e-5)
    assert (ratio[2] / ratio[1]).mean().item() == pytest.approx(1.5, rel=1e-5)
    assert ratio[3:].std() < 1e-5
    pooled = [sdxl.encoder.encode(Prompt(text)).pooled for text in ("a big cat", "a (big:1.5) cat")]
    assert torch.equal(*pooled)


def test_numbers_without_a_mean_are_not_blown_up():
    torch.manual_seed(1)
    model = text_encoder(CLIPTextModel, 32)
    torch.nn.init.zeros_(model.final_layer_norm.bias)
    encoder = prompt_encoder([tokenizer("sd1")], [model])
    plain, weighed = (encoder.encode(Prompt(text)).embedding for text in ("a cat", "a (cat:1.2)"))
    assert (weighed[0, 2] / plain[0, 2]).mean().item() == pytest.approx(1.2, rel=1e-5)


def test_a_mark_put_together_by_an_escape_is_no_mark(sd1):
    assert torch.equal(sd1.encoder.encode(Prompt(r"a <|endoftext\|> cat")).embedding, plainly(sd1, "a  cat"))


# textual inversion


@pytest.fixture
def vectors() -> torch.Tensor:
    return torch.randn(2, 32, generator=torch.Generator().manual_seed(3))


def in_every_form(folder, vectors: torch.Tensor) -> dict[str, str]:
    """The vectors' files by the word that each is to be."""
    pickled = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "mine", "step": 100}
    module = torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)})
    old_module = torch.nn.ParameterDict()
    old_module._parameters["*"] = torch.nn.Parameter(vectors)
    save_file({"emb_params": vectors}, folder / "named.safetensors")
    save_file({"<anything>": vectors}, folder / "of-diffusers.safetensors")
    torch.save({"<anything>": vectors}, folder / "bin.bin")
    torch.save(pickled, folder / "pickled.pt")
    torch.save(pickled, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(pickled | {"string_to_param": module}, folder / "module.pt")
    torch.save(pickled | {"string_to_param": old_module}, folder / "old-module.pt")
    return {file.stem: str(file) for file in folder.iterdir()}


def test_an_embedding_of_every_form_is_read_as_diffusers_does(sd1, tmp_path, vectors):
    model = text_encoder(CLIPTextModel, 32)
    model.load_state_dict(sd1.model.state_dict())
    words = CLIPTokenizer(vocab=sd1.words.get_vocab(), merges=merges(sd1.words), model_max_length=77)
    parts = dict.fromkeys(("vae", "unet", "scheduler", "safety_checker", "feature_extractor"))
    plain = StableDiffusionPipeline(text_encoder=model, tokenizer=words, requires_safety_checker=False, **parts)
    plain.load_textual_inversion({"emb_params": vectors}, token="<it>")
    expected = plain.encode_prompt("a photo of <it>, red", "cpu", 1, False)[0]
    files = in_every_form(tmp_path, vectors)
    for word in files:
        made = sd1.encoder.encode(Prompt(f"a photo of {word}, red", embeddings=tuple(files.items())))
        assert torch.equal(made.embedding, expected), word


def test_an_embedding_with_a_words_own_vectors_is_that_word(sd1, tmp_path):
    ids = sd1.words("red", add_special_tokens=False).input_ids
    save_file({"emb_params": sd1.model.embeddings.token_embedding.weight[ids].clone()}, tmp_path / "it.safetensors")
    files = (("it", str(tmp_path / "it.safetensors")),)
    made = sd1.encoder.encode(Prompt("a (it:1.3) star", embeddings=files))
    assert torch.equal(made.embedding, sd1.encoder.encode(Prompt("a (red:1.3) star")).embedding)


def test_an_embedding_leaves_the_text_encoder_as_it_was(sd1, tmp_path, vectors):
    save_file({"emb_params": vectors}, tmp_path / "it.safetensors")
    before = sd1.model.embeddings.token_embedding.weight.clone()
    sd1.encoder.encode(
        Prompt("(embedding:It:1.2), <it> and it", embeddings=(("it", str(tmp_path / "it.safetensors")),))
    )
    assert torch.equal(sd1.model.embeddings.token_embedding.weight, before)
    assert not sd1.model.embeddings.token_embedding._forward_hooks


def test_an_embedding_is_found_as_a_word_of_its_own(sd1, vectors):
    word = {"it": Inversion((vectors,)), "it-2": Inversion((vectors,))}
    cut = chunks(passages("it, <IT> kit it's item it-2"), sd1.words, word)
    assert [place.token for place in cut[0] if place.inversion is None] == sd1.words(
        ", kit 's item", add_special_tokens=False
    ).input_ids
    assert sum(place.inversion is word["it"] for place in cut[0]) == 3 * 2
    assert sum(place.inversion is word["it-2"] for place in cut[0]) == 2


def test_all_vectors_of_an_embedding_stay_in_one_chunk(sd1, vectors):
    prompt = "cat " * 74 + "it dog"
    assert tokens_of(chunks(passages(prompt), sd1.words, {"it": Inversion((vectors,))})) == [74, 3]


def test_an_embedding_for_xl_has_vectors_for_both_text_encoders(sdxl, tmp_path, vectors):
    file = tmp_path / "it.safetensors"
    save_file({"clip_l": vectors, "clip_g": torch.randn(2, 48)}, file)
    made = sdxl.encoder.encode(Prompt("a photo of it", embeddings=(("it", str(file)),)))
    plain = sdxl.encoder.encode(Prompt("a photo of it"))
    for width in (slice(0, 32), slice(32, None)):
        assert not torch.equal(made.embedding[..., width], plain.embedding[..., width])


def test_what_is_no_embedding_for_this_checkpoint_is_refused_by_name(sd1, tmp_path, vectors):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "harmed"), "w"))

    save_file({"emb_params": torch.zeros(1, 1024)}, tmp_path / "sd2.safetensors")
    save_file({"a": vectors, "b": vectors + 1}, tmp_path / "two.safetensors")
    save_file({"emb_params": vectors * torch.nan}, tmp_path / "nan.safetensors")
    save_file({"emb_params": torch.zeros(76, 32)}, tmp_path / "many.safetensors")
    torch.save({"string_to_param": {"*": vectors}, "more": Attack()}, tmp_path / "attack.pt")
    (tmp_path / "page.pt").write_text("<!doctype html>")
    said = {
        "sd2": r"sd2 can't be used: it is for Stable Diffusion 2 \(width 1024\)",
        **{"two": "two can't be used: its file", "attack": "can't be read", "page": "can't be read"},
        **{"nan": "no numbers", "many": "between 1 and 75", "gone": "gone is not there any more"},
    }
    for word, sentence in said.items():
        path = next(tmp_path.glob(f"{word}.*"), tmp_path / word)
        with pytest.raises(CheckpointUnavailable, match=sentence):
            sd1.encoder.encode(Prompt(f"a {word}", embeddings=((word, str(path)),)))
    assert not (tmp_path / "harmed").exists()


# what is remembered


def test_a_prompt_is_encoded_once_until_something_changes(sd1, tmp_path, vectors):
    file = tmp_path / "it.safetensors"
    save_file({"emb_params": vectors}, file)
    prompt = Prompt("a photo of it", embeddings=(("it", str(file)),))
    first = sd1.encoder.encode(prompt)
    assert sd1.encoder.encode(prompt) is first
    save_file({"emb_params": torch.cat([vectors, vectors])}, file)
    assert not torch.equal(sd1.encoder.encode(prompt).embedding, first.embedding)


def test_only_so_many_bytes_are_remembered(sd1):
    encoder = prompt_encoder([sd1.words], [sd1.model])
    size = encoder.encode(Prompt("0")).bytes
    encoder._remembered._limit = 3 * size
    first = [encoder.encode(Prompt(str(i))) for i in range(4)]
    assert encoder.bytes == 3 * size
    assert encoder.encode(Prompt("3")) is first[3]
    assert encoder.encode(Prompt("0")) is not first[0]


# through the engine's door


def pixels(painted) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(painted.images[0].content)).convert("RGB")).astype(int)


def test_prompts_of_every_kind_are_painted_together_as_each_alone(engine, ask, tmp_path):
    width = json.loads((CONFIGS / "shapes/text_encoder/config.json").read_text())["hidden_size"]
    save_file({"emb_params": torch.randn(2, width)}, tmp_path / "it.safetensors")
    kinds = (
        {"prompt": "a red star"},
        {"prompt": "a (red:1.4) [star]"},
        {"prompt": "a red star", "clip_skip": 2},
        {"prompt": "a red star, " * 40},
        {"prompt": "a red star BREAK a blue background BREAK small", "negative_prompt": ""},
        {"prompt": "a red star, it", "embeddings": (("it", str(tmp_path / "it.safetensors")),)},
    )
    asked = [ask(**{"negative_prompt": "dim", "steps": 2, "seed": 7} | kind) for kind in kinds]
    alone = [pixels(engine.paint(request)) for request in asked]
    with ThreadPoolExecutor(len(asked)) as threads:
        together = [pixels(painted) for painted in threads.map(engine.paint, asked)]
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() <= 1
    assert all(np.abs(alone[0] - other).max() > 1 for other in alone[1:])
