"""Modules without weights.

Building one takes longer than reading the weights of a small checkpoint. So each kind is built once in a process, and
every checkpoint of that kind gets a copy of the empty module.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import CLIPTextConfig, PreTrainedModel

_KINDS = 32  # in memory: an empty UNet of full size takes a few MB
_ROWS = (("to_q", "to_k", "to_v"), ("to_k", "to_v"))
_HOLDERS = frozenset({dict, OrderedDict, list, set})


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a module keeps one of its weights: under `leaf` of its part number `part` (as in `modules()`)."""

    name: str  # in the module's state dict
    part: int
    leaf: str
    shape: torch.Size
    is_parameter: bool
    together: int = 1  # it lies in one piece of memory with so many, itself and those that follow; 0: with one before


class Shell:
    """The modules of one class and configuration.

    A copy's parts are its own; what else they know (configurations, functions) they know together. That takes a tenth
    of the time of `copy.deepcopy`, which follows all of it.
    """

    def __init__(self, empty: nn.Module) -> None:
        self._empty = empty.eval().requires_grad_(False)
        self.slots = tuple(_brought_together(_slots(empty)))
        parts = list(empty.modules())
        numbers = {id(part): i for i, part in enumerate(parts)}
        self._parts = [(type(part), _sorted_out(part, numbers)) for part in parts]

    def copy(self) -> nn.Module:
        """A module without weights: its parameters are on no device, and to be replaced."""
        copies = [kind.__new__(kind) for kind, _ in self._parts]
        for copy, (_, known) in zip(copies, self._parts, strict=True):
            known.give(copy.__dict__, copies)
        _shells[copies[0]] = self
        return copies[0]


_shells: WeakKeyDictionary[nn.Module, Shell] = WeakKeyDictionary()


def shell(kind: type[nn.Module], config: Mapping[str, Any]) -> Shell:
    """The same one for equal configurations."""
    return _built(kind, json.dumps(config, sort_keys=True))  # type: ignore[arg-type]


def shell_of(module: nn.Module) -> Shell | None:
    """The one that the module is a copy from."""
    return _shells.get(module)


def forget_shells() -> None:
    """Each kind is built anew when it is asked for next."""
    _built.cache_clear()


@lru_cache(_KINDS)
def _built(kind: type[nn.Module], config: str) -> Shell:
    told = json.loads(config)
    with init_empty_weights(include_buffers=False):
        if issubclass(kind, PreTrainedModel):
            return Shell(kind(CLIPTextConfig.from_dict(told)))
        return Shell(kind.from_config(told))  # type: ignore[attr-defined]


def _slots(empty: nn.Module) -> list[Slot]:
    wanted, found = empty.state_dict(), []
    names = {id(part): name for name, part in empty.named_modules()}
    for i, part in enumerate(empty.modules()):
        prefix = f"{names[id(part)]}." if names[id(part)] else ""
        for slots in (part._parameters, part._buffers):
            for leaf, tensor in slots.items():
                if tensor is not None and prefix + leaf in wanted:
                    found.append(Slot(prefix + leaf, i, leaf, tensor.shape, slots is part._parameters))
    return found


def _brought_together(slots: list[Slot]) -> list[Slot]:
    """Queries, keys and values are made from the same numbers: with their weights in a row one multiplication makes
    all of them. Where queries are made from others, keys and values lie in a row.
    """
    made: list[Slot] = []
    while slots:
        count = next((len(row) for row in _ROWS if _is_row(slots[: len(row)], row)), 1)
        made += [replace(each, together=0 if i else count) for i, each in enumerate(slots[:count])]
        slots = slots[count:]
    return made


def _is_row(slots: list[Slot], row: tuple[str, ...]) -> bool:
    ends = tuple(slot.name.split(".")[-2:] for slot in slots)
    return ends == tuple([end, "weight"] for end in row) and len({slot.shape for slot in slots}) == 1


@dataclass(frozen=True, slots=True)
class _Known:
    """What a part knows by which name: `shared` with all copies; what is `empty` and may be filled; what it holds
    parameters in; other parts, by number; the rest, which names parts or holds buffers.
    """

    shared: dict[str, Any]
    empty: list[tuple[str, type]]
    parameters: list[tuple[str, dict[str, Any]]]
    parts: list[tuple[str, dict[str, int]]]
    rest: list[tuple[str, Any]]
    numbers: Mapping[int, int]

    def give(self, known: dict[str, Any], copies: list[nn.Module]) -> None:
        known.update(self.shared)
        for name, kind in self.empty:
            known[name] = kind()
        for name, slots in self.parameters:
            known[name] = slots.copy()
        for name, parts in self.parts:
            known[name] = {each: copies[number] for each, number in parts.items()}
        for name, value in self.rest:
            known[name] = self._moved(value, copies)

    def _moved(self, value: Any, copies: list[nn.Module]) -> Any:
        """`value` with the copies in place of the parts that it names, and buffers of its own."""
        if id(value) in self.numbers:
            return copies[self.numbers[id(value)]]
        if type(value) in (dict, OrderedDict):
            return type(value)((name, self._moved(each, copies)) for name, each in value.items())
        if type(value) in (list, tuple, set):
            return type(value)(self._moved(each, copies) for each in value)
        if isinstance(value, MethodType) and id(value.__self__) in self.numbers:
            return MethodType(value.__func__, copies[self.numbers[id(value.__self__)]])
        is_buffer = isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter)
        return value.clone() if is_buffer else value


def _sorted_out(part: nn.Module, numbers: Mapping[int, int]) -> _Known:
    known = _Known({}, [], [], [], [], numbers)
    for name, value in part.__dict__.items():
        if name == "_parameters":
            known.parameters.append((name, value))
        elif name == "_modules" and None not in value.values():
            known.parts.append((name, {each: numbers[id(module)] for each, module in value.items()}))
        elif type(value) in _HOLDERS and not value:
            known.empty.append((name, type(value)))
        elif _is_own(value, numbers):
            known.rest.append((name, value))
        else:
            known.shared[name] = value
    return known


def _is_own(value: Any, numbers: Mapping[int, int]) -> bool:
    """Does it hold something that changes, or one of the parts?"""
    if type(value) is tuple:
        return any(_is_own(each, numbers) for each in value)
    method = isinstance(value, MethodType) and id(value.__self__) in numbers
    return method or id(value) in numbers or type(value) in _HOLDERS or isinstance(value, torch.Tensor)
