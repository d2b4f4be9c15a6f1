"""LoRAs change weights as their files say, and leave nothing behind."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from app.checkpoints.catalogue import SHIPPED_FOLDER
from app.errors import CheckpointUnavailable
from workers.diffusion.checkpoint import names
from workers.diffusion.checkpoint.loading import Components, load
from workers.diffusion.loras.dressing import Dressing
from workers.diffusion.loras.low_rank import changed
from workers.diffusion.request import Lora, Weights

RANK, ALPHA, STRENGTH = 4, 2.0, 0.7
ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k"
OUT = "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
CONVOLUTION = "up_blocks.0.resnets.1.conv1"
PARTS = {
    "unet": (ATTENTION, OUT, CONVOLUTION, "down_blocks.0.downsamplers.0.conv", "time_embedding.linear_1"),
    "text_encoder": ("encoder.layers.0.self_attn.q_proj", "encoder.layers.1.self_attn.out_proj"),
    "text_encoder_2": ("encoder.layers.1.mlp.fc1",),
}
SHORT = {"unet": "unet", "text_encoder": "te1", "text_encoder_2": "te2"}
Matrices = dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="module")
def xl() -> SimpleNamespace:
    """Modules with the names of Stable Diffusion XL's, but few and small: `.modules` by part, and `.dressing`."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        attention_head_dim=8,
        cross_attention_dim=2048,
        use_linear_projection=True,
    )
    shape = {"vocab_size": 9, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = CLIPTextConfig(num_hidden_layers=2, projection_dim=16, **shape)
    modules = dict(zip(PARTS, (unet, CLIPTextModel(config), CLIPTextModelWithProjection(config)), strict=True))
    for module in modules.values():
        module.requires_grad_(False)
    return SimpleNamespace(modules=modules, dressing=Dressing(unet, list(modules.values())[1:]))


def weight(xl: SimpleNamespace, part: str, name: str) -> torch.Tensor:
    return getattr(xl.modules[part], "text_model", xl.modules[part]).get_submodule(name).weight


@pytest.fixture
def matrices(xl) -> Matrices:
    """(down, up) for some layers of all three modules."""
    g = torch.Generator().manual_seed(1)
    found = {}
    for part, name in ((part, name) for part, some in PARTS.items() for name in some):
        shape = weight(xl, part, name).shape
        ends = (1,) * (len(shape) - 2)
        found[part, name] = torch.randn(RANK, *shape[1:], generator=g), torch.randn(shape[0], RANK, *ends, generator=g)
    return found


def kohya(part: str, name: str, down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
    full = name if part == "unet" else f"text_model.{name}"
    key = f"lora_{SHORT[part]}_{full.replace('.', '_')}"
    return {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(ALPHA)}


def dotted(ends: tuple[str, str], full: bool = True):
    def write(part: str, name: str, down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
        key = f"{part}.text_model.{name}" if full and part != "unet" else f"{part}.{name}"
        return {f"{key}.{ends[0]}.weight": down, f"{key}.{ends[1]}.weight": up * (ALPHA / RANK)}

    return write


def save(file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Lora:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, file, metadata)
    return Lora(file.stem, str(file), STRENGTH)


def saved(file: Path, write, matrices: Matrices) -> Lora:
    tensors: dict[str, torch.Tensor] = {}
    for (part, name), (down, up) in matrices.items():
        tensors |= write(part, name, down, up)
    return save(file, tensors)


def merged(plain: torch.Tensor, down: torch.Tensor, up: torch.Tensor, strength: float = STRENGTH) -> torch.Tensor:
    product = torch.einsum("or,r...->o...", up.flatten(1), down)
    return plain + strength * ALPHA / RANK * product


def assert_worn(xl: SimpleNamespace, lora: Lora, matrices: Matrices) -> None:
    plain = {place: weight(xl, *place).clone() for place in matrices}
    xl.dressing.check([lora])
    xl.dressing.wear([lora])
    with xl.dressing.text([lora]):
        for place, pair in matrices.items():
            assert torch.allclose(weight(xl, *place), merged(plain[place], *pair), atol=1e-5), place
    xl.dressing.wear([])
    assert all(torch.equal(weight(xl, *place), plain[place]) for place in matrices)


@pytest.mark.parametrize(
    "write",
    [
        kohya,
        dotted(("lora_A", "lora_B")),
        dotted(("lora_A.default", "lora_B.default"), full=False),
        dotted(("lora.down", "lora.up")),
        dotted(("lora_linear_layer.down", "lora_linear_layer.up")),
    ],
    ids=["kohya", "diffusers", "PEFT", "diffusers of 2023", "diffusers of 2023, text encoder"],
)
def test_a_file_changes_the_weights_that_it_names(write, xl, matrices, tmp_path):
    assert_worn(xl, saved(tmp_path / "it.safetensors", write, matrices), matrices)


def test_a_file_may_name_layers_as_the_original_did(xl, matrices, tmp_path):
    original = names.unet_names(xl.modules["unet"].config)

    def write(part: str, name: str, down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
        if part == "unet":
            name = original(f"{name}.weight").removeprefix(names.UNET).removesuffix(".weight")
        return kohya(part, name, down, up)

    lora = saved(tmp_path / "it.safetensors", write, matrices)
    assert "lora_unet_middle_block_1" in Path(lora.path).read_bytes().decode(errors="ignore")
    assert_worn(xl, lora, matrices)


def test_the_oldest_files_name_attention_processors(xl, matrices, tmp_path):
    chosen = {place: pair for place, pair in matrices.items() if place[1] in (ATTENTION, OUT)}

    def write(part: str, name: str, down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
        module, _, layer = name.removesuffix(".0").rpartition(".")
        key = f"{module}.processor.{layer}_lora"
        return {f"{key}.down.weight": down, f"{key}.up.weight": up * (ALPHA / RANK)}

    assert_worn(xl, saved(tmp_path / "it.safetensors", write, chosen), chosen)


def test_alpha_may_stand_in_the_header(xl, matrices, tmp_path):
    (down, up), bare = matrices["unet", ATTENTION], dotted(("lora_A", "lora_B"))
    told = {"lora_adapter_metadata": json.dumps({"unet.r": RANK, "unet.lora_alpha": ALPHA})}
    lora = save(tmp_path / "it.safetensors", bare("unet", ATTENTION, down, up * (RANK / ALPHA)), told)
    assert_worn(xl, lora, {("unet", ATTENTION): (down, up)})


def test_several_add_up_and_one_of_weight_0_is_none(xl, matrices, tmp_path):
    place = ("unet", ATTENTION)
    lora = saved(tmp_path / "it.safetensors", kohya, matrices)
    plain, pointer = weight(xl, *place).clone(), weight(xl, *place).data_ptr()
    halves = [Lora("a", lora.path, 1.2), Lora("b", lora.path, -0.5), Lora("c", str(tmp_path / "none"), 0)]
    xl.dressing.wear(halves[:2])
    assert torch.allclose(weight(xl, *place), merged(plain, *matrices[place]), atol=1e-5)
    xl.dressing.wear([Lora("c", lora.path, 0)])
    assert weight(xl, *place).data_ptr() == pointer


def test_the_text_encoder_may_have_a_weight_of_its_own(xl, matrices, tmp_path):
    lora = Lora("it", saved(tmp_path / "it.safetensors", kohya, matrices).path, 1.0, text_weight=0.25)
    place = ("text_encoder", PARTS["text_encoder"][0])
    plain = weight(xl, *place).clone()
    with xl.dressing.text([lora]):
        assert torch.allclose(weight(xl, *place), merged(plain, *matrices[place], strength=0.25), atol=1e-5)
    assert xl.dressing.text_key([lora]) == xl.dressing.text_key([Lora("other", lora.path, 3.0, text_weight=0.25)])


def test_what_was_worn_goes_back_on_without_its_file(xl, matrices, tmp_path):
    lora = saved(tmp_path / "it.safetensors", kohya, matrices)
    xl.dressing.check([lora])
    Path(lora.path).unlink()
    for loras in ([lora], [], [lora]):
        xl.dressing.wear(loras)
    worn = weight(xl, "unet", ATTENTION).clone()
    xl.dressing.forget()
    assert not torch.equal(weight(xl, "unet", ATTENTION), worn)
    assert xl.dressing.bytes == 0
    with pytest.raises(CheckpointUnavailable, match="LoRA it is not there any more"):
        xl.dressing.check([lora])


def test_a_file_that_was_replaced_is_read_anew(xl, matrices, tmp_path):
    place = ("unet", ATTENTION)
    lora, plain = saved(tmp_path / "it.safetensors", kohya, matrices), weight(xl, *place).clone()
    xl.dressing.check([lora])
    xl.dressing.wear([lora])
    others = {each: (-down, up) for each, (down, up) in matrices.items()}
    saved(tmp_path / "it.safetensors", kohya, others)
    xl.dressing.check([lora])
    xl.dressing.wear([lora])
    assert torch.allclose(weight(xl, *place), merged(plain, *others[place]), atol=1e-5)
    xl.dressing.forget()


# kinds of change


def test_a_convolution_changes_as_two_behind_each_other():
    plain, down, mid, up = (torch.randn(*shape) for shape in ((6, 5, 3, 3), (4, 5, 1, 1), (4, 4, 3, 3), (6, 4, 1, 1)))
    picture = torch.randn(1, 5, 8, 8)
    behind = nn.functional.conv2d(nn.functional.conv2d(nn.functional.conv2d(picture, down), mid, padding=1), up)
    change = changed(plain, {"down": down, "mid": mid, "up": up, "alpha": torch.tensor(2.0)})
    assert torch.allclose(nn.functional.conv2d(picture, change, padding=1), behind / 2, atol=1e-4)


def test_a_hadamard_product_is_one_of_two_changes():
    parts = {f"hada_w{i}_{side}": torch.randn(*shape) for i in (1, 2) for side, shape in (("a", (6, 4)), ("b", (4, 5)))}
    change = changed(torch.zeros(6, 5), parts | {"alpha": torch.tensor(1.0)})
    one, other = (parts[f"hada_w{i}_a"] @ parts[f"hada_w{i}_b"] for i in (1, 2))
    assert torch.allclose(change, one * other / 4)


@pytest.mark.parametrize("ends", [(), (3, 3)])
def test_a_kronecker_product_repeats_one_matrix_in_another(ends):
    one, a, b = torch.randn(2, 3), torch.randn(4, RANK), torch.randn(RANK, 5 * int(np.prod(ends)))
    alpha = torch.tensor(ALPHA)
    change = changed(torch.zeros(8, 15, *ends), {"lokr_w1": one, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": alpha})
    other = (a @ b).reshape(4, 5, *ends) * (ALPHA / RANK)
    for i, j in ((0, 0), (1, 2)):
        assert torch.allclose(change[4 * i : 4 * i + 4, 5 * j : 5 * j + 5], one[i, j] * other, atol=1e-5)
    whole = changed(torch.zeros(8, 15), {"lokr_w1": one, "lokr_w2": torch.ones(4, 5), "alpha": alpha})
    assert torch.equal(whole[:4, :5], one[0, 0].expand(4, 5))


def test_products_of_convolutions_have_cores():
    wholes, parts = [], {"alpha": torch.tensor(float(RANK))}
    for i in (1, 2):
        core, out, into = torch.randn(RANK, RANK, 3, 3), torch.randn(RANK, 8), torch.randn(RANK, 6)
        wholes.append(torch.einsum("abhw,ao,bi->oihw", core, out, into))
        parts |= {f"hada_t{i}": core, f"hada_w{i}_a": out, f"hada_w{i}_b": into}
    assert torch.allclose(changed(torch.zeros(8, 6, 3, 3), parts), wholes[0] * wholes[1], atol=1e-4)
    kronecker = {"lokr_w1": torch.eye(2), "lokr_t2": core, "lokr_w2_a": out, "lokr_w2_b": into}
    change = changed(torch.zeros(16, 12, 3, 3), kronecker)
    assert torch.allclose(change[:8, :6], wholes[1], atol=1e-4)
    assert not change[:8, 6:].any()


def test_a_decomposed_change_has_lengths_of_its_own():
    plain, down, up, lengths = torch.randn(6, 5), torch.randn(4, 5), torch.randn(6, 4), torch.rand(6)
    for magnitude in (lengths, lengths[:, None]):
        whole = plain + changed(plain, {"down": down, "up": up, "magnitude": magnitude})
        assert torch.allclose(whole.norm(dim=1), lengths, atol=1e-5)
        assert torch.allclose(nn.functional.cosine_similarity(whole, plain + up @ down, dim=1), torch.ones(6))


def test_a_difference_is_taken_as_it_is(xl, tmp_path):
    layer = xl.modules["unet"].get_submodule(ATTENTION.replace("to_k", "to_out.0"))
    plain = layer.weight.clone(), layer.bias.clone()
    key = "lora_unet_" + ATTENTION.replace("to_k", "to_out.0").replace(".", "_")
    lora = save(tmp_path / "it.safetensors", {f"{key}.diff": torch.ones(32, 32), f"{key}.diff_b": torch.ones(32)})
    xl.dressing.wear([lora])
    assert torch.allclose(layer.weight, plain[0] + STRENGTH)
    assert torch.allclose(layer.bias, plain[1] + STRENGTH)
    xl.dressing.wear([])


# what is refused


def test_a_file_that_does_not_fit_is_refused_by_name(xl, tmp_path):
    narrow = kohya("unet", ATTENTION, torch.randn(RANK, 768), torch.randn(32, RANK))
    odd = kohya("unet", OUT, torch.randn(RANK, 32), torch.randn(48, RANK))
    torn = kohya("unet", OUT, torch.randn(RANK, 32), torch.randn(32, RANK + 1))
    half = {name: tensor for name, tensor in odd.items() if "up" not in name}
    said = {
        "narrow": (narrow, r"it is for Stable Diffusion 1 \(width 768\), and this checkpoint is of .* XL"),
        "flux": ({"lora_unet_double_blocks_0_img_attn.lora_down.weight": torch.ones(2, 2)}, "it is for other weights"),
        "vae": ({"decoder.conv_in.weight": torch.ones(2)}, "its file holds no LoRA"),
        "odd": (odd, "does not fit"),
        "torn": (torn, "do not go together"),
        "half": (half, "a kind that is not known here"),
        "none": (kohya("unet", OUT, torch.full((RANK, 32), torch.nan), torch.ones(32, RANK)), "its numbers are none"),
    }
    for name, (tensors, sentence) in said.items():
        lora = save(tmp_path / f"{name}.safetensors", tensors)
        with pytest.raises(CheckpointUnavailable, match=f"LoRA {name} can't be used: .*{sentence}"):
            xl.dressing.check([lora])
    (tmp_path / "page.safetensors").write_text("<!doctype html>")
    with pytest.raises(CheckpointUnavailable, match="page can't be used: its file can't be read"):
        xl.dressing.check([Lora("page", str(tmp_path / "page.safetensors"))])
    xl.dressing.wear([])


# through the engine's door


def pixels(painted) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(painted.images[0].content)).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def painted_lora(tiny, tmp_path_factory) -> SimpleNamespace:
    """A LoRA for the random checkpoint, and a folder with its weights merged by hand: `.lora`, `.merged`."""
    home = tmp_path_factory.mktemp("loras")
    plain = StableDiffusionPipeline.from_pretrained(tiny.folder, local_files_only=True)
    g = torch.Generator().manual_seed(2)
    tensors: dict[str, torch.Tensor] = {}
    for part, module in (("unet", plain.unet), ("text_encoder", plain.text_encoder)):
        for name, layer in module.named_modules():
            if not isinstance(layer, nn.Linear) or not ("attn" in name or "mlp" in name):
                continue
            down, up = (
                torch.randn(RANK, layer.in_features, generator=g),
                torch.randn(len(layer.weight), RANK, generator=g),
            )
            down, up = 0.1 * down, 0.2 * up
            tensors |= {key.replace("te1", "te"): value for key, value in kohya(part, name, down, up).items()}
            layer.weight.data = merged(layer.weight.data, down, up)
    plain.save_pretrained(home / "merged")
    return SimpleNamespace(lora=save(home / "it.safetensors", tensors), merged=home / "merged")


def test_a_picture_with_a_lora_is_that_of_the_merged_checkpoint(engine, ask, painted_lora):
    with_it = pixels(engine.paint(ask(loras=(painted_lora.lora,), steps=2)))
    merged_one, without = pixels(engine.paint(ask(painted_lora.merged, steps=2))), pixels(engine.paint(ask(steps=2)))
    assert np.abs(with_it - merged_one).max() <= 1
    assert np.abs(with_it - without).max() > 20


def test_pictures_with_and_without_a_lora_do_not_disturb_each_other(engine, ask, painted_lora):
    half = Lora("half", painted_lora.lora.path, 0.3)
    asked = [ask(loras=loras, seed=7, steps=2) for loras in ((), (painted_lora.lora,), (half,), ())]
    alone = [pixels(engine.paint(request)) for request in asked]
    with ThreadPoolExecutor(4) as threads:
        together = [pixels(painted) for painted in threads.map(engine.paint, asked)]
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() <= 1
    assert np.array_equal(alone[0], pixels(engine.paint(ask(seed=7, steps=2))))


def test_a_lora_that_does_not_fit_fails_its_own_request_only(engine, ask, tmp_path):
    lora = save(tmp_path / "xl.safetensors", kohya("unet", ATTENTION, torch.randn(RANK, 2048), torch.randn(32, RANK)))
    with pytest.raises(CheckpointUnavailable, match="LoRA xl can't be used: it is for Stable Diffusion XL"):
        engine.paint(ask(loras=(lora,)))
    engine.paint(ask(steps=1))


def swapping(parts: Components, word: str, other: str) -> dict[str, torch.Tensor]:
    """A LoRA by which the UNet reads `other` where `word` stands: a linear map from the one's numbers to the other's,
    put before all keys and values of its cross-attention.
    """
    words, model = parts.tokenizers[0], parts.text_encoders[0]
    texts = [f"a {each} star on a blue background" for each in (word, other)]
    ids = words(texts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    one, another = model(ids)[0][:, 1:10]
    left, sizes, right = torch.linalg.svd(torch.linalg.pinv(one) @ (another - one))
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in parts.unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            key = f"lora_unet_{name.replace('.', '_')}"
            tensors[f"{key}.lora_down.weight"] = left[:, :9].T
            tensors[f"{key}.lora_up.weight"] = layer.weight @ (right[:9].T * sizes[:9])
    return tensors


@torch.inference_mode()
def test_a_lora_paints_green_what_the_prompt_calls_red(engine, ask, tmp_path):
    shapes = Weights("atelier-shapes", str(SHIPPED_FOLDER / "atelier-shapes"), "shapes")
    parts = load(shapes, torch.device("cpu"), torch.float32)
    lora = save(tmp_path / "it.safetensors", swapping(parts, "red", "green"))
    asked = {"weights": shapes, "prompt": "a red star on a blue background", "seed": 3, "steps": 8}
    for strength, colour in ((0, 0), (1, 1)):
        made = pixels(engine.paint(ask(**asked, loras=(Lora("it", lora.path, strength),))))
        assert made[30:34, 30:38].mean(axis=(0, 1)).argmax() == colour
        assert made[:8].mean(axis=(0, 1)).argmax() == 2
