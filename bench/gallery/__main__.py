"""python -m bench.gallery [FOLDER [NAME…]]: paints docs/gallery/*.png, or those; FOLDER keeps the files made for it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image as Picture
from PIL import ImageDraw

from bench.gallery import made
from bench.gallery.sheets import picture_of, png_of, save_sheet
from bench.studio import Studio
from workers.diffusion.engine import Engine

OUT = Path(__file__).parents[2] / "docs/gallery"
TRAINING_STEPS = 240
STAR = "a big yellow star on a blue background"
Row = list[Picture.Image]


class Gallery:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def paint(self, tool: str = "text_to_image", **arguments: Any) -> Row:
        return [picture_of(image.content) for image in self._studio.paint(tool, **arguments)]

    def one(self, tool: str = "text_to_image", **arguments: Any) -> Picture.Image:
        return self.paint(tool, **{"seed": 7, "steps": 20, **arguments})[0]

    def file(self, picture: Picture.Image) -> dict[str, Any]:
        return self._studio.file(png_of(picture))

    def words(self) -> list[Row]:
        prompts = (
            "a red heart on a white background",
            "a small green ring on the right on a purple background",
            "a big white cross on an orange background",
            "a purple triangle on a black background",
        )
        return [[self.one(prompt=prompt) for prompt in prompts]]

    def seeds(self) -> list[Row]:
        return [self.paint(prompt="a star", n=5, seed=11, steps=20)]

    def weights(self) -> list[Row]:
        weights = ((1.8, 0.2), (1.3, 0.7), (1, 1), (0.7, 1.3), (0.2, 1.8))
        prompts = [f"(red circle:{red}) BREAK (blue star:{blue})" for red, blue in weights]
        return [[self.one(prompt=prompt, seed=5) for prompt in prompts]]

    def samplers(self) -> list[Row]:
        names = ("euler", "euler_a", "dpmpp_2m_karras", "unipc", "ddim")
        return [[self.one(prompt=STAR, scheduler=name, steps=8) for name in names]]

    def variations(self) -> list[Row]:
        strengths = (0, 0.1, 0.2, 0.4, 1)
        each = {"prompt": "a star", "variation_seed": 5, "seed": 13}
        return [
            [self.one(**each, variation_strength=strength) for strength in strengths],
            self.paint(**each, variation_strength=0.15, n=5, steps=20),
        ]

    def image_to_image(self) -> list[Row]:
        begun = self.one(prompt="a big red circle on a white background")
        strengths = (0.3, 0.5, 0.7, 0.9)
        anew = [
            self.one("image_to_image", image=self.file(begun), prompt=STAR, strength=strength, steps=30)
            for strength in strengths
        ]
        return [[begun, *anew]]

    def inpaint(self) -> list[Row]:
        begun = self.one(prompt="a small red heart on the left on a white background")
        mask = Picture.new("L", begun.size, 0)
        ImageDraw.Draw(mask).rectangle((32, 8, 63, 55), fill=255)
        prompt = "a small green star on the right on a white background"
        files = {"image": self.file(begun), "mask": self.file(mask.convert("RGB"))}
        painted = self.one("inpaint", **files, prompt=prompt, steps=30)
        return [[begun, mask.convert("RGB"), painted, _difference(begun, painted)]]

    def hires(self) -> list[Row]:
        direct = self.one(prompt=STAR, width=96, height=96)
        passes = [
            self.one(prompt=STAR, hires_scale=1.5, hires_upscaler=upscaler, hires_strength=0.4)
            for upscaler in ("latent", "lanczos")
        ]
        return [[self.one(prompt=STAR), direct, *passes]]

    def upscale(self) -> list[Row]:
        begun = self.one(prompt=STAR)
        file = self.file(begun)
        names = ("lanczos", "by-hand")
        larger = [self.one_enlarged(image=file, upscale=4, upscaler=name) for name in names]
        return [[each.resize((256, 256), Picture.Resampling.NEAREST) for each in (begun, *larger)]]

    def one_enlarged(self, **arguments: Any) -> Picture.Image:
        return self.paint("upscale", **arguments)[0]

    def loras(self) -> list[Row]:
        prompts = ("a red circle on a white background", "a blue square on a red background")
        weights = (0, 0.5, 1)
        return [[self.one(prompt=f"{prompt} <lora:red-is-green:{weight}>") for weight in weights] for prompt in prompts]

    def inversions(self) -> list[Row]:
        prompts = (
            "a sheriff on a blue background",
            "a big sheriff on a black background",
            "a zzz on a blue background",
        )
        return [[self.one(prompt=prompt) for prompt in prompts]]

    def autoencoders(self) -> list[Row]:
        prompt = "a red heart on a yellow background"
        return [[self.one(prompt=prompt), self.one(prompt=prompt, vae="sepia")]]

    def clip_skip(self) -> list[Row]:
        prompt = "a small red circle at the top right on a yellow background"
        return [[self.one(prompt=prompt), self.one(prompt=prompt, clip_skip=2)]]

    def controlnet(self) -> list[Row]:
        rows = []
        for shape, x, y, radius in (("star", 20, 22, 14), ("heart", 40, 40, 18)):
            hint = (made.silhouette(shape, x, y, radius).permute(1, 2, 0) * 255).byte().numpy()
            file = self.file(Picture.fromarray(hint))
            prompt = f"an orange {shape} on a black background"
            painted = [
                self.one(prompt=prompt, control_net="silhouette", control_image=file, control_weight=weight)
                for weight in (0, 0.5, 1)
            ]
            rows.append([Picture.fromarray(hint), *painted])
        return rows

    def previews(self) -> list[Row]:
        seen: list[bytes] = []
        painted = self._studio.paint(
            "text_to_image",
            lambda progress: seen.append(progress.preview) if progress.preview else None,
            prompt=STAR,
            seed=7,
            steps=20,
            previews=True,
        )
        chosen = [seen[i * (len(seen) - 1) // 4] for i in range(5)] if len(seen) >= 5 else seen
        return [[*map(picture_of, chosen), picture_of(painted[0].content)]]


def _difference(one: Picture.Image, other: Picture.Image) -> Picture.Image:
    """White where a pixel differs in any bit."""
    pairs = zip(one.getdata(), other.getdata(), strict=True)
    differing = Picture.new("L", one.size)
    differing.putdata([255 * (a != b) for a, b in pairs])
    return differing.convert("RGB")


def make_files(folder: Path) -> None:
    parts = made.Shipped()
    made.make_lora(parts, folder / "loras/red-is-green.safetensors")
    made.make_inversion(parts, folder / "embeddings/sheriff.safetensors")
    made.make_autoencoder(parts, folder / "vae/sepia")
    made.make_upscaler(folder / "upscalers/by-hand.safetensors")
    if not (folder / "controlnet/silhouette").exists():
        made.make_controlnet(parts, folder / "controlnet/silhouette", TRAINING_STEPS)


def main(folder: Path, *names: str) -> None:
    make_files(folder)
    engine = Engine()
    gallery = Gallery(Studio(folder, engine))
    sheets: dict[str, Callable[[], list[Row]]] = {
        "words": gallery.words,
        "seeds": gallery.seeds,
        "weights": gallery.weights,
        "samplers": gallery.samplers,
        "variations": gallery.variations,
        "image-to-image": gallery.image_to_image,
        "inpaint": gallery.inpaint,
        "hires-fix": gallery.hires,
        "upscale": gallery.upscale,
        "loras": gallery.loras,
        "textual-inversion": gallery.inversions,
        "autoencoders": gallery.autoencoders,
        "clip-skip": gallery.clip_skip,
        "controlnet": gallery.controlnet,
        "previews": gallery.previews,
    }
    for name in names or sheets:
        paint = sheets[name]
        save_sheet(paint(), OUT / f"{name}.png", shown=256 if name == "upscale" else 192)
        print(OUT / f"{name}.png", flush=True)
    engine.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), *sys.argv[2:])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
