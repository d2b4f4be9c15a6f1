"""The list of system calls as a program of the kernel's packet filter, which is how seccomp takes it.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst and include/uapi/linux/{seccomp,bpf_common}.h.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

from workers.code_sandbox.system_calls import CONDITIONS, LOW, NUMBERS, Argument, Machine

_LOAD, _AND = 0x20, 0x54  # the accumulator: a word of the call, then the bits of a mask
_IF_EQUAL, _IF_AT_LEAST = 0x15, 0x35
_RETURN = 0x06

_KILL = 0x80000000
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM

_NUMBER_AT, _CONVENTION_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data, little-endian

Instruction = tuple[int, int, int, int]
"""Code, instructions to pass over if true, if false, and a constant."""


def program(machine: Machine) -> bytes:
    """The filter: allowed calls pass, others fail with EPERM; one by another calling convention ends the process."""
    instructions = [
        (_LOAD, 0, 0, _CONVENTION_AT),
        (_IF_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if machine.foreign is not None:
        instructions += [(_IF_AT_LEAST, 0, 1, machine.foreign), (_RETURN, 0, 0, _KILL)]
    for name, numbers in NUMBERS.items():
        number = numbers[machine.column]
        if number is not None:
            then = list(_verdict(CONDITIONS.get(name, ())))
            instructions += [(_IF_EQUAL, 0, len(then), number), *then]
    instructions.append((_RETURN, 0, 0, _REFUSE))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def _verdict(conditions: tuple[Argument, ...]) -> Iterator[Instruction]:
    """Allows a call whose arguments are all as they must be; ends in a verdict, so nothing falls through."""
    for argument in conditions:
        yield from _unless_allowed(argument)
    yield (_RETURN, 0, 0, _ALLOW)


def _unless_allowed(argument: Argument) -> Iterator[Instruction]:
    low_at = _ARGUMENTS_AT + 8 * argument.number
    yield (_LOAD, 0, 0, low_at)
    yield (_AND, 0, 0, argument.mask & LOW)
    for left, value in zip(range(len(argument.values), 0, -1), argument.values, strict=True):
        yield (_IF_EQUAL, left, 0, value)
    yield (_RETURN, 0, 0, _REFUSE)
    if argument.mask > LOW:
        yield (_LOAD, 0, 0, low_at + 4)
        yield (_IF_EQUAL, 1, 0, 0)
        yield (_RETURN, 0, 0, _REFUSE)
