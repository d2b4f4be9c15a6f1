"""The pictures that come with a request, read before the engine hears of it: decoding is not its work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.errors import NodeFailed
from workers.diffusion.pictures.images import Pixels, Share, Size, mixed, pixels_of, share_of
from workers.diffusion.pictures.opening import opened
from workers.diffusion.request import ImageRequest

GRID = 8  # pixels; the sides of a second pass are rounded to it


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Cut to the sizes that are painted. `hints` are the ControlNets' pictures, for the size of each pass."""

    image: Pixels | None = None
    begun: Pixels | None = None  # what denoising begins from: the image, with the references mixed in where it changes
    share: Share | None = None  # of the image: how much of each pixel is painted
    hints: Mapping[Size, tuple[Pixels, ...]] = field(default_factory=dict)


def given_with(request: ImageRequest) -> Given:
    """Raises NodeFailed for files that can't be read, and for a mask that has nothing to be a mask of."""
    size = (request.width, request.height)
    _check(request)
    image = None if request.image is None else opened(request.image, "image")
    share = None
    if request.mask is not None and image is not None:
        share = share_of(opened(request.mask, "mask"), image.size, size)
    references = [opened(each, f"reference {i}") for i, each in enumerate(request.references, 1)]
    pictures = [opened(control.image, f"picture for the ControlNet {control.name}") for control in request.controls]
    sizes = {size, hires_size(request)}
    pixels = None if image is None else pixels_of(image, size)
    others = [pixels_of(each, size) for each in references]
    return Given(
        image=pixels,
        begun=pixels if pixels is None or not others else mixed(pixels, others, request.reference_weight, share),
        share=share,
        hints={each: tuple(pixels_of(picture, each) for picture in pictures) for each in sizes},
    )


def hires_size(request: ImageRequest) -> Size:
    """The size of the second pass; without one that of the first."""
    if request.hires is None:
        return request.width, request.height
    scale = request.hires.scale
    width, height = (max(round(side * scale / GRID), 1) * GRID for side in (request.width, request.height))
    return width, height


def _check(request: ImageRequest) -> None:
    if min(request.width, request.height) < 1:
        raise NodeFailed(
            f"A picture of {request.width} x {request.height} can't be painted: both must be multiples of {GRID}."
        )
    if request.mask is not None and request.image is None:
        raise NodeFailed("A mask needs the image that it belongs to.")
    if request.references and request.image is None:
        raise NodeFailed("References need an image that they are mixed into.")
    if not 0 <= request.reference_weight <= 1:
        raise NodeFailed(f"The weight {request.reference_weight} of the references must be between 0 and 1.")
    if request.mask is not None and request.hires is not None:
        raise NodeFailed("A picture of which only a part is painted can't have a second pass (hires).")
    if not 0 <= request.strength <= 1:
        raise NodeFailed(f"The strength {request.strength} is out of range: it must be between 0 and 1.")
