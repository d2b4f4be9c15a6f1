"""Pickles, read without being run: texts, numbers, containers and tensors come out, and nothing is called.

A pickle is a program for a small machine, and Python's own machine imports and calls whatever the program names. This
one is another machine for the same programs. It has no way to import or to call: a name is only looked up in the lists
below, which are what PyTorch, NumPy and old trainers write into checkpoints, and what comes of it is made here. Any
other name is refused. What can't be a tensor becomes a `Husk`, which does nothing.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

MOST_BYTES = 32 << 20  # of one pickle: that of a checkpoint has half a megabyte, its tensors lie beside it
MOST_INSTRUCTIONS = 600_000  # a checkpoint of two thousand tensors has 80,000

SIZES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1},
}
"""Bytes of a number, by the names that .safetensors files have for kinds of them."""

_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
_DICTS = frozenset({"collections.OrderedDict"})
_TENSORS = frozenset({"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"})
_PARAMETERS = frozenset({"torch._utils._rebuild_parameter"})
_RECONSTRUCTORS = frozenset({"copy_reg._reconstructor", "copyreg._reconstructor"})
_HUSKS_LISTED = """
    __builtin__.object builtins.object __builtin__.set builtins.set __builtin__.frozenset builtins.frozenset
    __builtin__.dict builtins.dict __builtin__.list builtins.list __builtin__.bytearray builtins.bytearray
    __builtin__.complex builtins.complex __builtin__.slice builtins.slice __builtin__.long builtins.int
    _codecs.encode collections.defaultdict collections.Counter argparse.Namespace datetime.datetime
    datetime.timedelta pathlib.PosixPath pathlib.WindowsPath numpy.dtype numpy.ndarray numpy.float64 numpy.float32
    numpy.int64 numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct numpy._core.multiarray.scalar
    numpy._core.multiarray._reconstruct torch.Size torch.device torch.Tensor torch.nn.parameter.Parameter
    torch.nn.modules.container.ParameterDict torch.float64 torch.float32 torch.float16 torch.bfloat16 torch.int64
    torch.int32 torch.int16 torch.int8 torch.uint8 torch.bool pytorch_lightning.callbacks.ModelCheckpoint
    pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint
    pytorch_lightning.callbacks.early_stopping.EarlyStopping pytorch_lightning.utilities.parsing.AttributeDict
    lightning_fabric.utilities.data.AttributeDict
"""
_HUSKS = frozenset(_HUSKS_LISTED.split())
_KNOWN = _DICTS | _TENSORS | _PARAMETERS | _RECONSTRUCTORS | _HUSKS | {f"torch.{name}" for name in _STORAGES}


class Refused(Exception):
    """The pickle names something that is no part of a checkpoint. Its text completes a sentence."""


class Broken(Exception):
    """It is no pickle, or no whole one."""


class Name(NamedTuple):
    """Something that the pickle names: `posix.system`, say."""

    path: str


class Storage(NamedTuple):
    """A run of `length` numbers in the file, known by its key, beginning with number `first` of that run."""

    key: str
    kind: str
    length: int
    first: int = 0


class Tensor(NamedTuple):
    storage: Storage
    first: int  # in numbers, like the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Husk:
    """What is left of an object: what it is called, and what it was told of its state."""

    __slots__ = ("name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: Any = None


def read_pickle(file: BinaryIO) -> Any:
    """The object of the pickle that begins here; afterwards the file stands behind it. Raises Refused, Broken."""
    machine = _Machine()
    bounded = _Bounded(file)
    try:
        for instruction, argument, _ in pickletools.genops(cast(BinaryIO, bounded)):
            machine.spend(1)
            if instruction.name == "STOP":
                return machine.stack.pop()
            machine.do(instruction.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise Broken(f"{type(error).__name__}: {error}") from None
    raise Broken("it has no end")


class _Bounded:
    """A file of which no more than a pickle's most bytes can be read, whatever lengths the pickle names."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = MOST_BYTES

    def read(self, size: int) -> bytes:
        self._take(size)
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(self._left + 1)
        self._take(len(line))
        return line

    def _take(self, size: int) -> None:
        self._left -= size
        if size < 0 or self._left < 0:
            raise Refused(f"holds a pickle of more than {MOST_BYTES >> 20} MB, which no checkpoint needs.")


_MARK = object()
_NUMBERS_AND_TEXTS_LISTED = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
"""
_NUMBERS_AND_TEXTS = frozenset(_NUMBERS_AND_TEXTS_LISTED.split())
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEYS = (str, int, float, bytes, Name, type(None))
_WIDEST_KEY = 1 << 48  # larger numbers can be chosen so that a dictionary takes them all for one


class _Machine:
    """Stack and memo. Sets are lists here: nothing looks into them, and their members need not be hashed.

    Keys of dictionaries are plain for the same reason: to hash a tuple that is nested a million times ends a process.
    """

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._left = MOST_INSTRUCTIONS

    def spend(self, instructions: int) -> None:
        self._left -= instructions
        if self._left < 0:
            raise Refused("holds a pickle of too many instructions to be a checkpoint's.")

    def do(self, instruction: str, argument: Any) -> None:
        stack = self.stack
        if instruction in _NUMBERS_AND_TEXTS:
            stack.append(argument)
        elif instruction in _CONSTANTS:
            stack.append(_CONSTANTS[instruction])
        elif instruction in _EMPTY:
            stack.append(_EMPTY[instruction]())
        elif instruction in _TUPLES:
            count = _TUPLES[instruction]
            stack[-count:] = [tuple(self._last(count))]
        else:
            act = _ACTS.get(instruction)
            if act is None:
                raise Refused(f"holds the pickle instruction {instruction}, which no checkpoint needs.")
            act(self, argument)

    def _last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("stack")
        return self.stack[-count:]

    def _since_mark(self) -> list[Any]:
        """Takes what lies above the uppermost mark, and the mark."""
        above: list[Any] = []
        while (top := self.stack.pop()) is not _MARK:
            above.append(top)
        return above[::-1]

    def _mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _nothing(self, _: Any) -> None: ...

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _keep(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self.stack[-1]

    def _get(self, index: int) -> None:
        self.stack.append(self._memo[index])

    def _make_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _make_list(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def _make_dict(self, _: Any) -> None:
        self.stack.append(_dict_of(self._since_mark()))

    def _add_one(self, _: Any) -> None:
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    def _add_all(self, _: Any) -> None:
        values = self._since_mark()
        _extend(self.stack[-1], values)

    def _set_one(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _update(self.stack[-1], [key, value])

    def _set_all(self, _: Any) -> None:
        pairs = self._since_mark()
        _update(self.stack[-1], pairs)

    def _name(self, argument: str) -> None:
        self.stack.append(_known(*argument.split(" ", 1)))

    def _name_of_stack(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_known(module, name))

    def _reduce(self, _: Any) -> None:
        arguments, what = self.stack.pop(), self.stack.pop()
        self._call(what, arguments)

    def _new_with_keywords(self, _: Any) -> None:
        self.stack.pop()
        self._reduce(None)

    def _instance(self, argument: str) -> None:
        what = _known(*argument.split(" ", 1))
        self._call(what, tuple(self._since_mark()))

    def _object(self, _: Any) -> None:
        what, *arguments = self._since_mark()
        self._call(what, tuple(arguments))

    def _call(self, what: Any, arguments: Any) -> None:
        """What a call would give: made here, for the few names that matter. Looking at its arguments is work, too."""
        if not isinstance(what, Name) or not isinstance(arguments, tuple):
            raise Refused("calls something that has no name, which no checkpoint needs. It was not run.")
        self.spend(len(arguments))
        self.spend(sum(len(part) for part in arguments if isinstance(part, list | tuple)))
        self.stack.append(_made(what, arguments))

    def _build(self, _: Any) -> None:
        """What an object is told of its state. Of a dictionary or a tensor that is what they carry besides."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Husk):
            self.stack[-1].state = state

    def _storage(self, _: Any) -> None:
        self.stack.append(_storage_of(self.stack.pop()))


_ACTS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _Machine._nothing),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine._keep),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._get),
    **dict.fromkeys(("LIST", "FROZENSET"), _Machine._make_list),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), _Machine._add_all),
    "MARK": _Machine._mark,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._pop_mark,
    "DUP": _Machine._duplicate,
    "TUPLE": _Machine._make_tuple,
    "DICT": _Machine._make_dict,
    "APPEND": _Machine._add_one,
    "SETITEM": _Machine._set_one,
    "SETITEMS": _Machine._set_all,
    "GLOBAL": _Machine._name,
    "STACK_GLOBAL": _Machine._name_of_stack,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._reduce,
    "NEWOBJ_EX": _Machine._new_with_keywords,
    "INST": _Machine._instance,
    "OBJ": _Machine._object,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._storage,
}


def _known(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise TypeError("a name that is no text")
    path = f"{module}.{name}"
    if path not in _KNOWN:
        raise Refused(
            f"wants {path[:100]!r} to be run when it is opened, which no checkpoint needs: it may do harm. It was not "
            "run. Get the .safetensors version of it."
        )
    return Name(path)


def _made(what: Name, arguments: tuple[Any, ...]) -> Any:
    if what.path in _DICTS:
        made: dict[Any, Any] = {}
        for key, value in arguments[0] if arguments else ():
            _update(made, [key, value])
        return made
    if what.path in _TENSORS:
        storage, first, shape, strides = arguments[:4]
        return Tensor(_checked_storage(storage), _number(first), _numbers(shape), _numbers(strides))
    if what.path in _PARAMETERS:
        return arguments[0]
    if what.path in _RECONSTRUCTORS:
        return Husk(arguments[0].path)
    return Husk(what.path)


def _storage_of(persistent_id: Any) -> Storage | Name:
    """PyTorch's words for numbers that lie outside the pickle. Of an old view: which part of which run.

    Old files name a module's class in such words, too, with its source, which nobody needs.
    """
    if persistent_id[0] == "module" and isinstance(persistent_id[1], Name):
        return persistent_id[1]
    word, kind, key, _, count, *view = persistent_id
    if word not in ("storage", b"storage") or not isinstance(kind, Name):
        raise ValueError("no storage")
    found = _STORAGES.get(kind.path.removeprefix("torch."))
    if found is None:
        raise Refused(f"holds numbers of a kind that is not known ({kind.path}).")
    first = 0
    if view and view[0] is not None:
        key, first, count = view[0]
    if not isinstance(key, str | int):
        raise TypeError("a storage without a key")
    return Storage(str(key), found, _number(count), _number(first))


def _checked_storage(storage: Any) -> Storage:
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without numbers")
    return storage


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise ValueError("a length that can't be")
    return value


def _numbers(values: Sequence[Any]) -> tuple[int, ...]:
    if len(values) > 8:
        raise ValueError("a tensor of too many sides")
    return tuple(map(_number, values))


def _dict_of(parts: list[Any]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    _update(made, parts)
    return made


def _update(target: Any, parts: list[Any]) -> None:
    """Keys and values in turns. Husks take whatever they are given, and keep nothing."""
    if isinstance(target, Husk):
        return
    for key, value in zip(parts[::2], parts[1::2], strict=True):
        if not isinstance(key, _KEYS):
            raise Refused(f"holds a dictionary with a {type(key).__name__} for a key, which no checkpoint has.")
        if isinstance(key, int) and abs(key) > _WIDEST_KEY:
            raise Refused("holds a dictionary with a number for a key that is larger than any of a checkpoint.")
        target[key] = value


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, Husk):
        return
    if not isinstance(target, list):
        raise TypeError("no list")
    target.extend(values)
