"""Kernels that can do less, for one thread and the processes that it starts: some of their system calls fail."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")


class Lack(NamedTuple):
    """A call that fails, by its number on the two machines; with a first argument, only with that one."""

    x86_64: int
    aarch64: int
    error: int
    first_argument: int | None = None


NO_NAMESPACES = Lack(272, 97, errno.EPERM)  # unshare; as in a container with Docker's own profile
NO_FILTERS = Lack(157, 167, errno.EINVAL, 22)  # prctl(PR_SET_SECCOMP)
NO_MOUNTS = Lack(165, 40, errno.EPERM)  # mount; as Ubuntu has it for namespaces of users


def on_kernel_without(lack: Lack, act: Callable[[], Result]) -> Result:
    """What `act` answers on such a kernel."""

    def there() -> Result:
        _lose(lack)
        return act()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(there).result()


def _lose(lack: Lack) -> None:
    number = lack.x86_64 if platform.machine() == "x86_64" else lack.aarch64
    fail, allow = (0x06, 0, 0, 0x00050000 | lack.error), (0x06, 0, 0, 0x7FFF0000)
    verdict = [fail]
    if lack.first_argument is not None:
        verdict = [(0x20, 0, 0, 16), (0x15, 0, 1, lack.first_argument), fail, allow]
    instructions = [(0x20, 0, 0, 0), (0x15, 0, len(verdict), number), *verdict, allow]
    content = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    program = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), _address(content)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()


_kept: list[object] = []


def _address(content: bytes) -> int:
    _kept.append(ctypes.create_string_buffer(content, len(content)))
    return ctypes.addressof(_kept[-1])
