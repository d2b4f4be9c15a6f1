"""A worker whose pictures cost nothing: `tests.chaos.painter`, and for the prompt `large` files of 3 MiB."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from dataclasses import replace

import workers.main
from tests.chaos import painter
from workers.diffusion.request import Image, ImageRequest

BYTES = 3 * 1024 * 1024  # 4 MiB as base64
_small = painter.picture


def picture(request: ImageRequest, seed: int) -> Image:
    made = _small(request, seed)
    if request.prompt != "large":
        return made
    noise = os.urandom(BYTES - len(made.content) - 12)
    chunk = struct.pack(">I", len(noise)) + b"noIs" + noise + struct.pack(">I", zlib.crc32(b"noIs" + noise))
    return replace(made, content=made.content[:-12] + chunk + made.content[-12:])


if __name__ == "__main__":
    painter.picture = picture
    workers.main._engine = lambda settings, catalogue: painter.Painter(settings.data_dir)  # type: ignore[assignment, return-value]
    workers.main.main(int(sys.argv[1]), *sys.argv[2:])
