"""python -m workers.conversion INPUT_DESCRIPTOR OUTPUT_DESCRIPTOR KIND SECONDS MOST_BYTES

Writes the tensors of the one file into the other as .safetensors, and tells on standard output how far it is: a line of
JSON for each `{"done": BYTES, "of": BYTES}`, the last one `{"tensors": NUMBER}` or `{"error": SENTENCE}`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any

from app.checkpoints.header import Unreadable, find_tensors
from workers.code_sandbox import kernel
from workers.conversion.weights import NothingToConvert, write_safetensors

_MEMORY_BYTES = 2 << 30  # address space: numpy's own half a gigabyte, and the largest tensor a few times
_CODECS = ("ascii", "cp437", "latin-1", "raw_unicode_escape", "unicode_escape", "utf-8")


def main(input_descriptor: int, output_descriptor: int, kind: str, seconds: int, most_bytes: int) -> None:
    with open(input_descriptor, "rb") as source, open(output_descriptor, "wb") as target:
        try:
            _wall_in(seconds, most_bytes)
        except OSError as error:
            _tell({"error": f"can't be converted safely on this machine, so it is not: {error.strerror or error}."})
            return
        try:
            count = write_safetensors(source, find_tensors(source), target, kind, _tell_progress)
            target.flush()
            said: dict[str, Any] = {"tensors": count}
        except (Unreadable, NothingToConvert) as error:
            said = {"error": str(error)}
        except MemoryError:
            said = {"error": "takes more memory to read than any checkpoint: it is damaged, or made to do harm."}
        except OSError as error:
            said = {"error": f"can't be converted: {error.strerror or error}."}
    _tell(said)


def _wall_in(seconds: int, most_bytes: int) -> None:
    """From here on: no file, no connection, no process; so much time, memory and output. Raises OSError.

    Codecs are modules, so those that are needed are loaded before.
    """
    for codec in _CODECS:
        b"".decode(codec)
    for what, limit in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, most_bytes),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    if sys.platform == "linux":
        kernel.die_with_parent(signal.SIGKILL)
        kernel.drop_capabilities()
        kernel.restrict_system_calls()


def _tell_progress(done: int, of: int) -> None:
    _tell({"done": done, "of": of})


def _tell(said: dict[str, Any]) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
