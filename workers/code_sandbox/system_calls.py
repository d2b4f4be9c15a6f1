"""The system calls that code may make. Whatever is not here fails with EPERM: there is no list of forbidden ones.

What is allowed works on the process itself, on its memory and on descriptors that it has. Nothing here opens a path,
makes a connection, starts a process or a thread, names another process, or makes memory executable. Numbers: Linux,
arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import mmap
import socket
from typing import NamedTuple

WHOLE = 2**64 - 1
LOW = 2**32 - 1


class Machine(NamedTuple):
    """`audit` is the kernel's name of the calling convention; `foreign` the first number of another one on it."""

    audit: int
    column: int
    foreign: int | None


MACHINES = {"x86_64": Machine(0xC000003E, 0, 0x40000000), "aarch64": Machine(0xC00000B7, 1, None)}

# name: (x86_64, aarch64); None: the machine has no such call
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "futex": (202, 98),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "close": (3, 57),
    "lseek": (8, 62),
    "fstat": (5, 80),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "getcwd": (79, 17),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "nanosleep": (35, 101),
    "sched_yield": (24, 124),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "socketpair": (53, 199),  # an event loop wakes itself by one
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "exit": (60, 93),
    "exit_group": (231, 94),
}


class Argument(NamedTuple):
    """An argument whose bits under the mask must be one of the values; its upper half can only be asked to be 0."""

    number: int
    mask: int
    values: tuple[int, ...]


_NOT_EXECUTABLE = Argument(2, mmap.PROT_EXEC, (0,))
_PAIR_FLAGS = 0o2000000 | 0o4000  # SOCK_CLOEXEC, SOCK_NONBLOCK

# A pair of stream sockets, and sending without an address: neither can name anybody outside.
CONDITIONS: dict[str, tuple[Argument, ...]] = {
    "mmap": (_NOT_EXECUTABLE,),
    "mprotect": (_NOT_EXECUTABLE,),
    "socketpair": (
        Argument(0, LOW, (int(socket.AF_UNIX),)),
        Argument(1, LOW & ~_PAIR_FLAGS, (int(socket.SOCK_STREAM),)),
    ),
    "sendto": (Argument(4, WHOLE, (0,)),),
    "fcntl": (Argument(1, LOW, (1, 2, 3, 4)),),  # F_GETFD, F_SETFD, F_GETFL, F_SETFL
    "ioctl": (Argument(1, LOW, (0x5421, 0x5450, 0x5451)),),  # FIONBIO, FIONCLEX, FIOCLEX
}
