"""What is put around code: once around the zygote, where the kernel allows it, and around each child, always."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable

from workers.code_sandbox import kernel

_NOBODY = 65534
_EMPTY = "/tmp"  # noqa: S108 - where the empty folder is mounted, seen by nobody else
_DESCRIPTORS = 32

_OWN_WORLD = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)


def around_zygote() -> list[str]:
    """Puts up what can be had beside the list of system calls, and names it. Only a process of one thread can.

    With namespaces the process goes on as the first of its own: who returns from here is a child of who called.
    """
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("900")  # the first to go when memory is short
    walls = []
    if _stands(_leave_the_world):
        walls.append("namespaces")
        _become_first()
        if _stands(_empty_the_root):
            walls.append("empty root")
    os.chdir("/")
    if os.geteuid() != 0 or _stands(_become_nobody):
        walls.append("no root")
    kernel.drop_capabilities()
    kernel.hide_memory()
    return walls


def around_child(parent: int, cpu_s: int, memory_bytes: int) -> None:
    """Everything that must hold before code runs. An exception means that it must not. Memory is address space."""
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        raise OSError("the parent has ended")
    for what, limit in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
    ):
        resource.setrlimit(what, (limit, limit))
    kernel.hide_memory()
    kernel.restrict_system_calls()


def _stands(put_up: Callable[[], None]) -> bool:
    try:
        put_up()
    except OSError:
        return False
    return True


def _leave_the_world() -> None:
    """Namespaces without a network and without other processes. Root needs no user namespace for it."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        kernel.unshare(_OWN_WORLD)
        return
    kernel.unshare(_OWN_WORLD | kernel.CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_NOBODY} {user} 1"),
        ("gid_map", f"{_NOBODY} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _become_first() -> None:
    """The namespace of processes is for children only; when its first process ends the kernel ends all others."""
    first = os.fork()
    if first:
        os.closerange(0, 1024)
        os.waitpid(first, 0)
        os._exit(0)
    kernel.die_with_parent(signal.SIGKILL)


def _empty_the_root() -> None:
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE, "")
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("none", _EMPTY, "tmpfs", flags, "size=4k,nr_inodes=1,mode=555")
    kernel.mount("none", _EMPTY, "", flags | kernel.MS_REMOUNT | kernel.MS_RDONLY, "size=4k,nr_inodes=1,mode=555")
    kernel.make_root(_EMPTY)


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
