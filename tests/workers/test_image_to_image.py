"""What begins with a picture is painted as diffusers paints it, in one batch with everything else."""

from __future__ import annotations

import io
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw

from app.errors import CheckpointUnavailable, NodeFailed
from tests.workers.plain import painted_by_diffusers
from workers.diffusion.checkpoint import tiling
from workers.diffusion.drawing.schedulers import SAMPLERS
from workers.diffusion.pictures.upscalers import RRDBNet
from workers.diffusion.request import Control, Enlargement, EnlargeRequest, Hires, StopRequested

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SOME = ("euler", "euler_a", "heun", "ddim", "dpmpp_sde", "dpmpp_2m_karras", "unipc", "pndm", "lms")


def pixels(image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.content)).convert("RGB")).astype(int)


def painted(engine, request) -> np.ndarray:
    return pixels(engine.paint(request).images[0])


def furthest(one, other) -> int:
    return int(np.abs(one - other).max())


def png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    picture = Image.new("RGB", (64, 64), (40, 70, 215))
    ImageDraw.Draw(picture).ellipse((10, 14, 44, 48), (220, 40, 40))
    return picture


@pytest.fixture(scope="module")
def mask() -> Image.Image:
    """Its edges lie between latents: diffusers looks at one pixel of each, and would miss what lies beside it."""
    picture = Image.new("L", (64, 64), 0)
    picture.paste(255, (16, 8, 48, 40))
    return picture


@pytest.fixture(scope="module")
def components(tiny) -> dict:
    return StableDiffusionPipeline.from_pretrained(tiny.folder, local_files_only=True).components


def theirs(kind, components, request, **more) -> np.ndarray:
    """The picture of the request by a pipeline of diffusers of this `kind`, alone."""
    chosen = SAMPLERS[request.sampler]
    clip = {"clip_sample": False} if request.sampler == "ddim" else {}
    skip = {"skip_prk_steps": True} if request.sampler == "pndm" else {}
    scheduler = chosen.kind.from_config({**SCHEDULE, "set_alpha_to_one": False}, **clip, **skip, **chosen.options)
    pipeline = kind(**components | {"scheduler": scheduler}, requires_safety_checker=False)
    return painted_by_diffusers(pipeline, request, **more)


def new_net(tiny, folder, seed):
    """A random ControlNet for latents of four pixels; a fresh one ends in zeros and changes nothing."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel.from_pretrained(tiny.folder, subfolder="unet", local_files_only=True)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 12))
    for module in (net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
        for weight in module.parameters():
            torch.nn.init.normal_(weight, std=0.1)
    net.save_pretrained(folder)
    return net.eval()


@pytest.fixture(scope="module")
def nets(tiny, tmp_path_factory):
    """Two: (path, net) of each."""
    folders = [tmp_path_factory.mktemp("nets") / name for name in ("edges", "depth")]
    return [(str(folder), new_net(tiny, folder, i)) for i, folder in enumerate(folders)]


@pytest.fixture(scope="module")
def filler(tiny, tmp_path_factory):
    """A checkpoint made for inpainting: (folder, its UNet)."""
    folder = tmp_path_factory.mktemp("checkpoints") / "filler"
    shutil.copytree(tiny.folder, folder)
    unet = UNet2DConditionModel.from_pretrained(tiny.folder, subfolder="unet", local_files_only=True)
    torch.manual_seed(3)
    wide = UNet2DConditionModel.from_config({**unet.config, "in_channels": 9}).eval()
    with torch.no_grad():
        wide.conv_out.weight.mul_(20)
    wide.save_pretrained(folder / "unet")
    return folder, wide


def test_a_mixed_crowd_gets_what_diffusers_paints_one_by_one(engine, ask, at_once, components, scene, mask, nets):
    """Pictures of a text, of a picture, of a part of one, and with ControlNets, by many samplers, in the same calls."""
    image, hole = png(scene), png(mask)
    (path, net), _ = nets
    control = Control("edges", path, png(mask), 0.8, 0.0, 0.7)
    crowd, alone = [], []
    for i, name in enumerate(SOME):
        changes = {"sampler": name, "seed": i, "steps": 3 + i % 3, "guidance_scale": (1.0, 4.0, 7.0)[i % 3]}
        match i % 3:
            case 0:
                request = ask(image=image, strength=0.6, **changes)
                expected = theirs(StableDiffusionImg2ImgPipeline, components, request, image=scene, strength=0.6)
            case 1:
                strength = 1.0 if i % 2 else 0.75
                request = ask(image=image, mask=hole, strength=strength, **changes)
                more = {"image": scene, "mask_image": mask, "strength": strength, "width": 64, "height": 64}
                expected = theirs(StableDiffusionInpaintPipeline, components, request, **more)
            case 2:
                request = ask(controls=(control,), **changes)
                more = {"controlnet_conditioning_scale": 0.8, "control_guidance_end": 0.7, "width": 64, "height": 64}
                parts = components | {"controlnet": net}
                expected = theirs(StableDiffusionControlNetPipeline, parts, request, image=mask.convert("RGB"), **more)
        crowd.append(request)
        alone.append(expected)
    inside, rows = np.asarray(mask) > 0, []
    unet = engine.residency.pipeline(crowd[0].weights).components.unet
    hook = unet.register_forward_pre_hook(lambda module, given: rows.append(len(given[0])))
    together = at_once(crowd)
    hook.remove()
    assert max(rows) == sum(2 if request.guidance_scale > 1 else 1 for request in crowd)
    for request, made, expected in zip(crowd, together, alone, strict=True):
        where = inside if request.mask else np.ones_like(inside)
        assert furthest(pixels(made.images[0])[where], expected[where]) <= 1, request.sampler


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_checkpoint_made_for_inpainting_sees_mask_and_picture(engine, ask, components, filler, scene, mask, strength):
    folder, unet = filler
    request = ask(path=folder, image=png(scene), mask=png(mask), strength=strength)
    more = {"image": scene, "mask_image": mask, "strength": strength, "width": 64, "height": 64}
    expected = theirs(StableDiffusionInpaintPipeline, components | {"unet": unet}, request, **more)
    inside = np.asarray(mask) > 0
    assert furthest(painted(engine, request)[inside], expected[inside]) <= 1


def test_a_checkpoint_made_for_inpainting_paints_whole_pictures_too(engine, ask, components, filler):
    folder, unet = filler
    request = ask(path=folder)
    more = {"image": Image.new("RGB", (64, 64)), "mask_image": Image.new("L", (64, 64), 255), "strength": 1.0}
    expected = theirs(StableDiffusionInpaintPipeline, components | {"unet": unet}, request, width=64, height=64, **more)
    assert furthest(painted(engine, request), expected) <= 1


def test_two_control_nets_are_added(engine, ask, components, nets, scene, mask):
    pictures, weights = [scene, mask.convert("RGB")], [0.5, 1.2]
    controls = tuple(
        Control(f"net {i}", path, png(pictures[i]), weights[i], start=0.25 * i) for i, (path, _) in enumerate(nets)
    )
    request = ask(controls=controls)
    more = {"controlnet_conditioning_scale": weights, "control_guidance_start": [0.0, 0.25], "width": 64, "height": 64}
    parts = components | {"controlnet": [net for _, net in nets]}
    expected = theirs(StableDiffusionControlNetPipeline, parts, request, image=pictures, **more)
    assert furthest(painted(engine, request), expected) <= 1


def test_pixels_outside_the_mask_are_the_originals_to_the_last_bit(engine, ask, scene, mask):
    for soft in (mask, mask.resize((40, 40))):
        made = painted(engine, ask(image=png(scene), mask=png(soft), strength=1.0))
        outside = np.asarray(soft.resize((64, 64), Image.Resampling.BILINEAR)) == 0
        assert np.array_equal(made[outside], np.asarray(scene)[outside])
        assert furthest(made[~outside], np.asarray(scene)[~outside]) > 10


def test_references_are_mixed_into_the_picture_that_is_begun_with(engine, ask, scene, mask):
    """At strength 0 that picture is what comes: of two references their mean, and with a mask only within it."""
    dark, light = (png(Image.new("RGB", (32, 32), colour)) for colour in ((20, 40, 60), (60, 80, 100)))
    both = {"image": png(scene), "references": (dark, light), "reference_weight": 0.25, "strength": 0.0}
    expected = np.rint(np.asarray(scene) * 0.75 + np.array([40, 60, 80]) * 0.25)
    assert furthest(painted(engine, ask(**both)), expected) <= 1
    inside = np.asarray(mask) > 0
    within = painted(engine, ask(**both, mask=png(mask)))
    assert furthest(within[inside], expected[inside]) <= 1
    assert np.array_equal(within[~inside], np.asarray(scene)[~inside])


def test_a_reference_changes_what_is_painted_but_nothing_outside_the_mask(engine, ask, scene, mask):
    asked = {"image": png(scene), "mask": png(mask), "strength": 0.6}
    alone = painted(engine, ask(**asked))
    other = painted(engine, ask(**asked, references=(png(Image.new("RGB", (64, 64), "lime")),)))
    inside = np.asarray(mask) > 0
    assert furthest(alone[inside], other[inside]) > 10
    assert np.array_equal(alone[~inside], other[~inside])


def test_the_less_strength_the_nearer_to_the_picture(engine, ask, scene):
    made = [painted(engine, ask(image=png(scene), strength=strength, steps=6)) for strength in (0, 0.1, 0.5, 1)]
    assert np.array_equal(made[0], np.asarray(scene))
    round_trip = made[1]
    assert np.abs(made[2] - round_trip).mean() < np.abs(made[3] - round_trip).mean()


def test_n_pictures_of_a_picture_are_those_of_their_seeds(engine, ask, scene):
    request = ask(image=png(scene), n=3, seed=40)
    for i, image in enumerate(engine.paint(request).images):
        assert image.seed == 40 + i
        assert furthest(pixels(image), painted(engine, request.alone(i))) <= 1


def test_variations_keep_the_seed_and_turn_towards_others(engine, ask):
    seven = ask(seed=7, sampler="dpmpp_2m", variation_seed=1)
    original = painted(engine, seven)
    near = engine.paint(replace(seven, n=2, variation_strength=0.1)).images
    far, other = (painted(engine, replace(seven, variation_strength=strength)) for strength in (0.8, 1.0))
    assert [image.seed for image in near] == [7, 7]
    assert 0 < np.abs(pixels(near[0]) - original).mean() < np.abs(far - original).mean()
    assert furthest(pixels(near[0]), pixels(near[1])) > 1
    assert furthest(other, painted(engine, replace(seven, seed=1))) <= 1


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("upscalers") / "twice.pth"
    torch.save(RRDBNet(8, 4, 1, 1).state_dict(), path)
    return str(path)


@pytest.mark.parametrize("kind", ["lanczos", "network"])
def test_a_second_pass_paints_over_the_first_ones_picture(kind, engine, ask, upscaler):
    by = upscaler if kind == "network" else kind
    first = engine.paint(ask()).images[0]
    larger = engine.enlarge(EnlargeRequest(first.content, Enlargement(1.5, by)))
    second = painted(engine, ask(image=larger.content, width=96, height=96, strength=0.6, steps=6))
    seen = []
    request = ask(hires=Hires(1.5, 0.6, steps=6, upscaler=by))
    [image] = engine.paint(request, on_progress=seen.append).images
    assert (image.width, image.height) == (96, 96)
    assert furthest(pixels(image), second) <= 1
    assert (seen[-1].step, seen[-1].steps) == (4 + 3, 4 + 3)


def test_a_second_pass_may_go_over_the_latents(engine, ask, nets, mask):
    """With a ControlNet, whose picture is brought to both sizes."""
    control = Control("edges", nets[0][0], png(mask))
    images = engine.paint(ask(n=2, hires=Hires(1.5, 0.5), controls=(control,))).images
    assert [pixels(image).shape for image in images] == [(96, 96, 3)] * 2
    assert furthest(pixels(images[1]), painted(engine, ask(hires=Hires(1.5, 0.5), controls=(control,)).alone(0))) > 1


def test_a_painted_picture_is_enlarged(engine, ask, upscaler):
    [image] = engine.paint(ask(steps=1, enlarge=Enlargement(2.5, upscaler), format="jpeg")).images
    assert (image.width, image.height) == (160, 160)
    assert pixels(image).shape == (160, 160, 3)
    [shown] = engine.paint(ask(steps=1, shown_size=(100, 90), enlarge=Enlargement(2))).images
    assert (shown.width, shown.height) == (200, 180)


def test_others_are_painted_while_a_picture_is_enlarged_between_its_passes(engine, ask, upscaler):
    reached, others_painted = threading.Event(), threading.Event()

    def should_stop() -> bool:
        """Asked by the engine, too; the thread that asked for the picture waits here before the first tile."""
        if threading.current_thread().name == "engine":
            return False
        reached.set()
        return not others_painted.wait(60)

    with ThreadPoolExecutor(1) as threads:
        request = ask(steps=1, hires=Hires(2.0, upscaler=upscaler))
        larger = threads.submit(engine.paint, request, lambda progress: None, should_stop)
        assert reached.wait(60)
        assert engine.paint(ask(steps=1)).images
        others_painted.set()
        assert pixels(larger.result().images[0]).shape == (128, 128, 3)


def test_large_pictures_go_through_the_autoencoder_in_tiles(engine, ask, scene, monkeypatch):
    request = ask(image=png(scene), width=96, height=96, strength=0.3)
    whole = painted(engine, request)
    monkeypatch.setattr(tiling, "MOST_PIXELS", 64 * 64)
    vae, tiles = engine.residency.pipeline(request.weights).components.vae, []
    hooks = [each.register_forward_hook(lambda *given: tiles.append(1)) for each in (vae.encoder, vae.decoder)]
    tiled = painted(engine, request)
    for hook in hooks:
        hook.remove()
    assert len(tiles) > 4
    assert tiled.shape == whole.shape
    assert not vae.use_tiling


def test_a_stop_is_heard_while_a_picture_is_enlarged(engine, scene, upscaler):
    with pytest.raises(StopRequested):
        engine.enlarge(EnlargeRequest(png(scene), Enlargement(2, upscaler)), should_stop=lambda: True)


def test_previews_show_what_is_coming(engine, ask, scene):
    seen = []
    engine.paint(ask(steps=6, previews=True), on_progress=seen.append)
    shown = [progress.preview for progress in seen if progress.preview]
    assert shown
    assert Image.open(io.BytesIO(shown[0])).format == "JPEG"
    engine.paint(ask(steps=2), on_progress=seen.append)
    assert seen[-1].preview is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": b"<html>"}, "image is no picture"),
        ({"mask": b"mask"}, "mask needs the image"),
        ({"strength": 1.5}, "strength 1.5 is out of range"),
        ({"controls": (Control("edges", "/nowhere/edges", b"no picture"),)}, "picture for the ControlNet edges is no"),
        ({"hires": Hires(), "enlarge": Enlargement(1e6)}, "it may have"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(changes, says, engine, ask):
    with pytest.raises(NodeFailed, match=says):
        engine.paint(ask(steps=1, **changes))


def test_files_that_are_gone_are_named(engine, ask, scene):
    gone = Control("edges", "/nowhere/edges.safetensors", png(scene))
    for changes in ({"controls": (gone,)}, {"hires": Hires(upscaler="/nowhere/4x.pth")}):
        with pytest.raises(CheckpointUnavailable, match="is not there any more"):
            engine.paint(ask(**changes))
    assert engine.paint(ask(steps=1))


def test_a_picture_of_another_size_is_cut_to_the_one_that_is_painted(engine, ask, scene):
    wide = Image.new("RGB", (128, 64), "white")
    wide.paste(scene, (32, 0))
    request = ask(image=png(scene), strength=0.5)
    assert furthest(painted(engine, replace(request, image=png(wide))), painted(engine, request)) <= 1
