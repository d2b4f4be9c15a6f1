"""What OpenAI's own models take, and what checkpoints take: the limits that belong to a name."""

from __future__ import annotations

import re

import msgspec

from app.graph.tools.image_parameters import WIDEST
from app.runs.models import plain_name
from app.runs.sizes import SMALLEST, STEP

AUTO = "auto"
SQUARES = ("256x256", "512x512", "1024x1024")
_GPT_SIZES = ("1024x1024", "1024x1536", "1536x1024", AUTO)
_GPT = re.compile(r"gpt-image-([0-9]{1,4})(?:\.([0-9]{1,4}))?(?:-.*)?|chatgpt-image-.*")
_ONLY_GPT = frozenset({"background", "moderation", "output_format", "output_compression", "stream", "partial_images"})


class Profile(msgspec.Struct, frozen=True):
    """The limits of a model.

    `is_openais`: a name of theirs, for which some checkpoint stands in. `sizes`: the only ones; empty: any whose sides
    are multiples of `grid` and at most `widest`, no longer than `flattest` times the other and with no more than
    `most_pixels` together, as far as these are not 0. `unknown`: fields of the API that this model does not have.
    `edits` and `varies`: what else than generating it can do. `takes_squares_alone`: pictures that it changes must be
    square PNG files below 4 MB.
    """

    is_openais: bool = False
    is_gpt: bool = False
    sizes: tuple[str, ...] = ()
    grid: int = STEP
    widest: int = WIDEST
    flattest: int = 0
    most_pixels: int = 0
    qualities: tuple[str, ...] = ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd")
    most_prompt: int = 32_000
    most_n: int = 10
    unknown: frozenset[str] = frozenset()
    edits: bool = True
    varies: bool = True
    most_images: int = 16
    takes_squares_alone: bool = False

    @property
    def sizes_in_words(self) -> str:
        ratio = f", at most 1 to {self.flattest} flat or narrow" if self.flattest else ""
        most = f", at most {self.most_pixels} pixels in all" if self.most_pixels else ""
        sides = f"both multiples of {self.grid} from {SMALLEST} to {self.widest}"
        return f"'auto' and WIDTHxHEIGHT in pixels, {sides}{ratio}{most}"


CHECKPOINT = Profile()
DALL_E_2 = Profile(
    is_openais=True,
    sizes=SQUARES,
    qualities=("standard", "auto"),
    most_prompt=1000,
    unknown=_ONLY_GPT | {"style", "input_fidelity"},
    most_images=1,
    takes_squares_alone=True,
)
DALL_E_3 = Profile(
    is_openais=True,
    sizes=("1024x1024", "1024x1792", "1792x1024"),
    qualities=("standard", "hd", "auto"),
    most_prompt=4000,
    most_n=1,
    unknown=_ONLY_GPT | {"input_fidelity"},
    edits=False,
    varies=False,
)
GPT = Profile(
    is_openais=True,
    is_gpt=True,
    sizes=_GPT_SIZES,
    qualities=("low", "medium", "high", AUTO),
    unknown=frozenset({"response_format", "style"}),
    varies=False,
)
GPT_2 = msgspec.structs.replace(GPT, sizes=(), grid=16, widest=3840, flattest=3, most_pixels=3840 * 2160)
GPT_2_5 = msgspec.structs.replace(GPT_2, qualities=("low", "medium", "high", "xhigh", "max", AUTO))


def profile_of(name: str) -> Profile:
    """Of whatever a request names as its model; without a name a checkpoint's."""
    plain = plain_name(name)
    if plain in ("dall-e-2", "dall-e-3"):
        return DALL_E_2 if plain == "dall-e-2" else DALL_E_3
    found = _GPT.fullmatch(plain)
    if found is None:
        return CHECKPOINT
    version = int(found[1] or 1), int(found[2] or 0)
    return GPT_2_5 if version >= (2, 5) else GPT_2 if version >= (2, 0) else GPT
