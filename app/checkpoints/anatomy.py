"""What a checkpoint is made of, by the headers of its files: how many numbers, how exact, in which tensors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from app.checkpoints.header import Unreadable, find_tensors
from app.checkpoints.identify import Fingerprint, files_of, fingerprint
from app.checkpoints.pickles import SIZES
from app.checkpoints.torch_files import Stored

_WEIGHTS = frozenset({".safetensors", ".ckpt", ".pt", ".pth", ".bin"})
_TWINS = "model_ema."  # running means beside the weights themselves: no parameters of their own


class Anatomy(msgspec.Struct, frozen=True):
    """`kind` is what most of the bytes are, as .safetensors files call it: F16, BF16, F32, F8_E4M3."""

    parameters: int = 0
    kind: str = ""


class Anatomies:
    """Those of checkpoints, each read once for as long as its files stay as they are. Blocks."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Fingerprint, Anatomy]] = {}

    def of(self, path: str) -> Anatomy:
        """An empty one for files that can't be read."""
        stamp, known = fingerprint(Path(path)), self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, _anatomy(Path(path)))
        return known[1]


def tensors_of(path: Path) -> dict[str, Stored]:
    """Those of a file, or of a folder's files with the folder's name before theirs. Raises Unreadable, OSError."""
    found: dict[str, Stored] = {}
    for file in files_of(path):
        if file.suffix.lower() in _WEIGHTS:
            prefix = "" if file == path else f"{file.parent.name}."
            with file.open("rb") as content:
                found |= {prefix + name: tensor for name, tensor in find_tensors(content).items()}
    return found


def _anatomy(path: Path) -> Anatomy:
    try:
        tensors = tensors_of(path)
    except (Unreadable, OSError):
        return Anatomy()
    weights = [tensor for name, tensor in tensors.items() if not name.startswith(_TWINS)]
    by_kind: Counter[str] = Counter()
    for tensor in weights:
        by_kind[tensor.kind] += tensor.length * SIZES.get(tensor.kind, 1)
    kind = by_kind.most_common(1)[0][0] if by_kind else ""
    return Anatomy(sum(tensor.length for tensor in weights), kind)
