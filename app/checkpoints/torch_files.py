"""Files that `torch.save` wrote (.ckpt, .pt, .pth, .bin): where in them each tensor lies. Nothing in them is run.

Since PyTorch 1.6 they are zip files of a pickle and, unpacked beside it, the numbers of each storage; before, a row of
pickles with the numbers behind them. What they are is told by their first bytes, never by their names.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from app.checkpoints.pickles import SIZES, Broken, Husk, Refused, Storage, Tensor, read_pickle

MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_ZIP = MAGIC[0]
_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_PROTOCOL = 1001
_WRAPPERS = ("state_dict", "params_ema", "params")
_PARALLEL = "module."  # where it was trained on several GPUs
_DEEPEST = 3
_MOST_DIRECTORY_BYTES = 4 << 20  # of a zip file: that of two thousand tensors has 150 KB
MOST_TENSORS = 50_000


class Stored(NamedTuple):
    """A tensor in a file: `start` is the byte of its first number, `strides` are in numbers."""

    kind: str  # as .safetensors files call it
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int

    @property
    def length(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def span(self) -> int:
        """Bytes from its first number to behind its last; 0 for a tensor without numbers."""
        if not self.length:
            return 0
        last = sum((side - 1) * stride for side, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * SIZES[self.kind]


class NotReadable(Exception):
    """The file is refused or damaged. Its text completes a sentence that begins with the file's name."""


def is_torch_file(start: bytes) -> bool:
    """Whether the first bytes of a file are those of a zip file or of a pickle."""
    return start.startswith(MAGIC)


def stored_tensors(file: BinaryIO) -> dict[str, Stored]:
    """The tensors of the model in the file by their names; of a training's file only the model's. Raises NotReadable.

    Every one of them lies within the file, and together they are not much larger than it.
    """
    size = file.seek(0, 2)
    file.seek(0)
    try:
        is_zip = file.read(4) == _ZIP
        file.seek(0)
        saved, places = _read_zip(file, size) if is_zip else _read_old(file, size)
        found = dict(_placed(saved, places))
    except Refused as error:
        raise NotReadable(str(error)) from None
    except (Broken, zipfile.BadZipFile, ValueError, KeyError, EOFError, OverflowError, NotImplementedError) as error:
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, Broken) else str(error)
        raise NotReadable(
            f"is damaged or cut short: it can't be read as a PyTorch file ({reason[:120]}). Download it again."
        ) from None
    if sum(tensor.length * SIZES[tensor.kind] for tensor in found.values()) > 2 * size:
        raise NotReadable("names more weights than it holds. It is damaged, or made to do harm.")
    return found


def read_stored(path: Path) -> dict[str, Stored]:
    """The same of a path. Raises OSError, too."""
    with path.open("rb") as file:
        return stored_tensors(file)


Places = dict[str, tuple[int, int]]  # a storage's key → its first byte in the file and its bytes


class _Directory:
    """A zip file of which nothing but its directory is read, and no more of that than a checkpoint needs."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = _MOST_DIRECTORY_BYTES) -> bytes:
        if size > _MOST_DIRECTORY_BYTES:
            raise Refused("is a zip file of more parts than any checkpoint has.")
        return self._file.read(size)


def _read_zip(file: BinaryIO, size: int) -> tuple[Any, Places]:
    """Members are read where they lie: what is packed is never unpacked, however large it would become."""
    with zipfile.ZipFile(cast(BinaryIO, _Directory(file))) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise Refused("is a zip file, but none that PyTorch has written.")
    folder = pickles[0].removesuffix("data.pkl")
    order = entries.get(f"{folder}byteorder")
    if order is not None:
        file.seek(_first_byte(file, order, size))
        if file.read(min(order.file_size, 6)) == b"big":
            raise Refused("has its numbers in the order of another kind of machine (big-endian).")
    program = entries[pickles[0]]
    begin = file.seek(_first_byte(file, program, size))
    saved = read_pickle(file)
    if file.tell() > begin + program.file_size:
        raise Broken("its pickle has no end")
    storages = f"{folder}data/"
    places = {
        name.removeprefix(storages): (_first_byte(file, entry, size), entry.file_size)
        for name, entry in entries.items()
        if name.startswith(storages)
    }
    return saved, places


def _first_byte(file: BinaryIO, entry: zipfile.ZipInfo, size: int) -> int:
    """Where a member's content begins. Raises Broken unless it lies there as it is, all of it."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise Refused("has its weights packed or encrypted. Save it again with torch.save, or get another version.")
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != _ZIP:
        raise Broken("a member has no header")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = entry.header_offset + 30 + lengths
    if start + entry.file_size > size:
        raise Broken("a member ends behind the file's end")
    return start


def _read_old(file: BinaryIO, size: int) -> tuple[Any, Places]:
    if read_pickle(file) != _OLD_MAGIC or read_pickle(file) != _OLD_PROTOCOL:
        raise Refused("is a pickle, but none that PyTorch has written.")
    system = read_pickle(file)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise Refused("has its numbers in the order of another kind of machine (big-endian).")
    saved, keys = read_pickle(file), read_pickle(file)
    if not isinstance(keys, list) or not all(isinstance(key, str | int) for key in keys):
        raise Broken("its storages have no names")
    kinds = {storage.key: storage.kind for storage in _storages(saved)}
    places: Places = {}
    at = file.tell()
    for key in map(str, keys):
        file.seek(at)
        if key not in kinds:
            raise Broken("a storage that no tensor uses")
        length = int.from_bytes(file.read(8), "little") * SIZES[kinds[key]]
        places[key] = at + 8, length
        at += 8 + length
        if at > size:
            raise Broken("a storage ends behind the file's end")
    return saved, places


def _storages(saved: Any) -> Iterator[Storage]:
    """Of all tensors, also those that are no part of the model: their numbers lie in the same row."""
    seen: set[int] = set()
    waiting = [saved]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value.storage
        elif isinstance(value, Storage):
            yield value
        elif isinstance(value, dict | list | tuple | Husk) and id(value) not in seen:
            seen.add(id(value))
            waiting += (
                value.values() if isinstance(value, dict) else [value.state] if isinstance(value, Husk) else value
            )


def _placed(saved: Any, places: Places) -> Iterator[tuple[str, Stored]]:
    if not isinstance(saved, dict | Husk):
        raise Refused("holds no names for its weights, so it is no checkpoint.")
    for name, tensor in _named(_model_of(saved), "", _DEEPEST):
        yield name, _stored(tensor, places[tensor.storage.key])


def _model_of(saved: Any) -> Any:
    """What a training, or an upscaler's author, has put around the weights is taken off.

    The words of a textual inversion get the one name that they have in .safetensors files.
    """
    for _ in range(_DEEPEST):
        if not isinstance(saved, dict):
            return saved
        if "string_to_param" in saved:
            vectors = [vector for _, vector in _named(saved["string_to_param"], "", 1)]
            return {"emb_params": vectors[0]} if vectors else {}
        inner = next((saved[word] for word in _WRAPPERS if isinstance(saved.get(word), dict)), None)
        if inner is None:
            break
        saved = inner
    if saved and all(_is_text(name) and name.startswith(_PARALLEL) for name in saved):
        return {name.removeprefix(_PARALLEL): value for name, value in saved.items()}
    return saved


def _named(value: Any, name: str, deep: int) -> Iterator[tuple[str, Tensor]]:
    """Tensors by their path: those of a dictionary in a dictionary have a dot between."""
    waiting = [(name, value, deep)]
    found = looked = 0
    while waiting:
        name, value, deep = waiting.pop()
        if isinstance(value, Husk):
            value = value.state.get("_parameters") if isinstance(value.state, dict) else None
        looked += 1 + (len(value) if isinstance(value, dict) else 0)
        if found > MOST_TENSORS or looked > 10 * MOST_TENSORS:
            raise Refused("holds more tensors than any checkpoint.")
        if isinstance(value, Tensor):
            found += 1
            yield name, value
        elif isinstance(value, dict) and deep:
            inner = [(f"{name}.{key}" if name else key, each, deep - 1) for key, each in value.items() if _is_text(key)]
            waiting += reversed(inner)


def _is_text(key: Any) -> bool:
    return isinstance(key, str) and len(key) < 1000


def _stored(tensor: Tensor, place: tuple[int, int]) -> Stored:
    start, length = place
    storage = tensor.storage
    size = SIZES[storage.kind]
    if len(tensor.shape) != len(tensor.strides):
        raise Broken("a tensor whose sides and strides don't match")
    stored = Stored(storage.kind, tensor.shape, tensor.strides, start + (storage.first + tensor.first) * size)
    if stored.start + stored.span > start + length:
        raise Broken("a tensor ends behind its storage's end")
    if stored.length * size > length:
        raise Broken("a tensor is larger than its storage")
    return stored
