"""Attempts of code to get out. Each `main` gives back what it got; one that gets nothing raises an exception.

`BARE` do get out where nothing holds them, on any Linux and as any user; a test shows it, so that none is a shot in the
air. `DEEP` ask the kernel for what it gives to few, or would do harm.
"""

from __future__ import annotations

_RAW = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
"""


def _attempt(body: str) -> str:
    lines = "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))
    return f"{_RAW}\ndef main(secret, folder, port, port6, path, abstract, datagrams):\n{lines}"


BARE = {
    name: _attempt(body)
    for name, body in {
        # files
        "open a file": "return open(secret).read()",
        "open the root": "return os.open('/', os.O_RDONLY)",
        "list a folder": "return os.listdir(folder)",
        "scan the current folder": "return [entry.name for entry in os.scandir('.')] or '.'",
        "ask whether a file is there": "return os.stat(secret).st_size",
        "ask whether it may be read": "if not os.access(secret, os.R_OK): raise PermissionError\nreturn 'it may'",
        "ask that quietly": "if not os.path.exists(secret): raise PermissionError\nreturn 'it is there'",
        "write a file": "import pathlib\nreturn pathlib.Path(folder, 'new').write_text('mine')",
        "make a temporary file": "import tempfile\nreturn tempfile.TemporaryFile().write(b'mine')",
        "make a folder": "os.mkdir(folder + '/mine')\nreturn 'made'",
        "make a link": "os.symlink(secret, folder + '/link')\nreturn os.readlink(folder + '/link')",
        "rename a file": "os.rename(secret, secret + '2')\nos.rename(secret + '2', secret)\nreturn 'renamed'",
        "remove a file": "open(folder + '/x', 'w').close()\nos.unlink(folder + '/x')\nreturn 'removed'",
        "change a file's mode": "os.chmod(secret, 0o777)\nreturn 'changed'",
        "change the current folder": "os.chdir(folder)\nreturn os.getcwd()",
        "read its own process's files": "return open('/proc/self/status').read()",
        "read the environment of others": "return open('/proc/self/environ', 'rb').read() or 'empty'",
        "open a file by a raw call": (
            "return call(257 if os.uname().machine == 'x86_64' else 56, -100, b'/etc/passwd', 0)"
        ),
        "open a file by libc": "fd = libc.open(b'/etc/passwd', 0)\nif fd < 0: raise PermissionError\nreturn fd",
        "open a file by SQLite": (
            "import sqlite3\nreturn sqlite3.connect(folder + '/x.db').execute('create table t (x)') and 1"
        ),
        "load a library": "import _ctypes\nreturn _ctypes.dlopen('libBrokenLocale.so.1', 2)",
        "import a package": "import sqlalchemy\nreturn 'imported'",
        "import Atelier": "import app.settings\nreturn 'imported'",
        "make a file in memory": "return os.memfd_create('mine')",
        # the network
        "connect": "import socket\nreturn socket.create_connection(('127.0.0.1', port), 5).fileno()",
        "connect over IPv6": "import socket\nreturn socket.create_connection(('::1', port6), 5).fileno()",
        "ask for a page": "import urllib.request\nreturn urllib.request.urlopen(f'http://127.0.0.1:{port}/').read()",
        "ask for a page in an event loop": (
            "import asyncio\n"
            "return asyncio.run(asyncio.open_connection('127.0.0.1', port))[1].get_extra_info('peername')"
        ),
        "look a name up": "import socket\nreturn socket.getaddrinfo('localhost', 80)[0][4]",
        "send a datagram": (
            "import socket\nreturn socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', port))"
        ),
        "listen": "import socket\nreturn socket.create_server(('127.0.0.1', 0)).fileno()",
        "connect to a socket in a folder": (
            "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect(path)\nreturn 'connected'"
        ),
        "connect to a socket without a folder": (
            "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0' + abstract)\nreturn 'connected'"
        ),
        "send to a socket without a folder": (
            "import socket\na, b = socket.socketpair(type=socket.SOCK_DGRAM)\nreturn a.sendto(b'x', '\\0' + datagrams)"
        ),
        "talk to the kernel": "import socket\nreturn socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).fileno()",
        # processes
        "fork": "if os.fork() == 0: os._exit(0)\nreturn os.wait()[1] + 1",
        "run a program": "import subprocess\nreturn subprocess.run(['/bin/true']).returncode + 1",
        "run a shell": "if os.system('exit 3') != 3 << 8: raise PermissionError\nreturn 'run'",
        "spawn a program": "return os.posix_spawn('/bin/true', ['true'], {})",
        "start a thread": "import threading\nthreading.Thread(target=print).start()\nreturn 'started'",
        "start a pool": "import multiprocessing.pool\nreturn multiprocessing.pool.ThreadPool(2).map(str, [1])",
        "ask who the parent is": "if os.getppid() < 0: raise PermissionError\nreturn os.getppid()",
        "send a signal": "os.kill(os.getppid(), 0)\nreturn 'sent'",
        "hold another process": "return os.pidfd_open(os.getppid())",
        "change a priority": "os.setpriority(os.PRIO_PROCESS, 0, 19)\nreturn 'changed'",
        "ask for limits of another": "import resource\nreturn resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)",
        # itself
        "ask for the machine's name": "return os.uname().nodename",
        "make memory executable": "import mmap\nreturn len(mmap.mmap(-1, 4096, prot=7))",
        "make memory executable later": (
            "libc.mmap.restype = ctypes.c_void_p\nm = libc.mmap(None, ctypes.c_size_t(4096), 3, 0x22, -1, 0)\n"
            "if libc.mprotect(ctypes.c_void_p(m), ctypes.c_size_t(4096), 7): raise PermissionError\nreturn 'made'"
        ),
        "put a C function of its own together": "return ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 7)()",
        "change its name": "libc.prctl(15, b'init') and os.kill(0, 99)\nreturn 'changed'",
        "make a pipe": "return os.pipe()[0]",
        "be told who owns a pair": (
            "import socket, fcntl\nreturn fcntl.fcntl(socket.socketpair()[0], 8, os.getpid()) + 1"
        ),
        "read the environment": "return dict(os.environ)['SECRET']",
        "read the environment by libc": (
            "libc.getenv.restype = ctypes.c_char_p\nvalue = libc.getenv(b'SECRET')\n"
            "if value is None: raise KeyError\nreturn 1"
        ),
    }.items()
}

# Numbers of x86_64: elsewhere they are other calls, which are refused just the same.
DEEP = {
    name: _attempt(body)
    for name, body in {
        "open a file by the newest call": "return call(437, -100, b'/etc/passwd', (ctypes.c_uint64 * 3)(), 24)",
        "open a file by the oldest call": "return call(2, b'/etc/passwd', 0)",
        "open a file by its handle": "return call(304, -100, (ctypes.c_uint8 * 64)(), 0)",
        "open a file by a ring": "return call(425, 8, (ctypes.c_uint8 * 120)()) + 1",
        "make a new root": "os.chroot('/')\nreturn 'made'",
        "leave the root by going up": "[os.chdir('..') for _ in range(20)]\nreturn 'left'",
        "mount": "return call(165, b'none', b'/', b'tmpfs', 0, None) + 1",
        "mount by the new calls": "return call(430, b'proc', 0)",
        "unmount": "return call(166, b'/', 2) + 1",
        "make a device": "os.mknod('/zero', 0o020666, os.makedev(1, 5))\nreturn 'made'",
        "send to a stream's stranger": (
            "import socket\nsocket.socketpair()[0].sendto(b'x', '\\0' + abstract)\nreturn 'sent'"
        ),
        "hand a descriptor on": "import socket\nsocket.send_fds(socket.socketpair()[0], [b'x'], [3])\nreturn 'sent'",
        "a raw socket": "import socket\nreturn socket.socket(socket.AF_PACKET, socket.SOCK_RAW).fileno()",
        "a socket of virtual machines": "import socket\nreturn socket.socket(40, socket.SOCK_STREAM).fileno()",
        "a socket by another calling convention": "call(0x40000029, 2, 1, 0)\nreturn 'made'",
        "clone": "return call(56, 17, 0, 0, 0, 0) + 1",
        "clone by the new call": "return call(435, (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17), 64) + 1",
        "vfork": "return call(58) + 1",
        "run a program in its place": "os.execv('/bin/true', ['true'])",
        "run a program by a descriptor": "return call(322, 3, b'', None, None, 0x1000) + 1",
        "kill everybody": "os.kill(-1, 9)\nreturn 'killed'",
        "kill the first": "os.kill(1, 9)\nreturn 'killed'",
        "kill its group": "os.killpg(0, 9)\nreturn 'killed'",
        "kill a thread of another": "return call(234, 1, 1, 9) + 1",
        "send a signal with a value": "return call(129, 1, 9, (ctypes.c_uint8 * 128)()) + 1",
        "trace": "return call(101, 16, 1, 0, 0) + 1",
        "let the parent trace it": "return call(101, 0, 0, 0, 0) + 1",
        "read another's memory": "return call(310, 1, None, 0, None, 0, 0) + 1",
        "take a descriptor of another": "return call(438, 3, 0, 0) + 1",
        "be root": "os.setuid(0)\nreturn 'root'",
        "take the root's group": "os.setgid(0)\nreturn 'root'",
        "take capabilities": (
            "return call(126, (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[2**32 - 1] * 6)) + 1"
        ),
        "leave its namespaces": "return call(272, 0x10000000) + 1",
        "enter others": "return call(308, 3, 0) + 1",
        "lift the filter": "if libc.prctl(22, 0, 0, 0, 0): raise PermissionError\nreturn 'lifted'",
        "put a filter on top": "return call(317, 1, 0, None) + 1",
        "raise its limits": (
            "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY,) * 2)\nreturn 'raised'"
        ),
        "be another personality": "return call(135, 0x0400000) + 1",
        "load a program into the kernel": "return call(321, 5, (ctypes.c_uint8 * 120)(), 120) + 1",
        "load a module": "return call(175, None, 0, b'') + 1",
        "handle page faults itself": "return call(323, 0) + 1",
        "measure the machine": "return call(298, (ctypes.c_uint8 * 120)(), 0, -1, -1, 0) + 1",
        "put a key into the kernel": "return call(248, b'user', b'mine', b'x', 1, -3)",
        "share memory": "return call(29, 0, 4096, 0o1777) + 1",
        "queue messages": "return call(68, 0, 0o1777) + 1",
        "type into the terminal": "import fcntl\nfcntl.ioctl(0, 0x5412, b'x')\nreturn 'typed'",
        "own the signals of a pair": "import socket, fcntl\nreturn fcntl.fcntl(socket.socketpair()[0], 8, 1) + 1",
        "enlarge a pipe": "import fcntl\nreturn fcntl.fcntl(3, 1031, 1 << 20)",
        "be exempt from the killer": "open('/proc/self/oom_score_adj', 'w').write('-1000')\nreturn 'exempt'",
        "run on every processor": "os.sched_setaffinity(0, range(64))\nreturn 'everywhere'",
        "be first in line": "os.nice(-20)\nreturn 'first'",
        "set the clock": "import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)\nreturn 'set'",
        "set the machine's name": "import socket\nsocket.sethostname('mine')\nreturn 'set'",
        "restart the machine": "return call(169, 0xfee1dead, 672274793, 0x1234567, 0) + 1",
        "read what the zygote got": "return os.read(3, 100)",
        "find another descriptor": (
            "import fcntl\nfound = []\nfor fd in range(4, 4096):\n    try:\n        found += [fcntl.fcntl(fd, 1)]\n"
            "    except OSError as e:\n        if e.errno != 9: raise\n"
            "if not found: raise OSError(9, 'Bad file descriptor')\nreturn len(found)"
        ),
        "open by a child of a class": (
            "for c in object.__subclasses__():\n    if c.__name__ == '_wrap_close':\n"
            "        return c.__init__.__globals__['popen']('id').read()\nraise PermissionError"
        ),
        "put the importer back": (
            "import sys, importlib.machinery as m\nsys.meta_path.insert(0, m.PathFinder)\n"
            "sys.path_hooks.append(m.FileFinder.path_hook((m.SourceFileLoader, ['.py'])))\n"
            "sys.path[:] = [folder]\nimport stolen\nreturn 'imported'"
        ),
    }.items()
}

JAVASCRIPT = {
    "require": "function main() { return {got: require('fs').readFileSync('/etc/passwd')} }",
    "import": "async function main() { return {got: await import('/etc/passwd')} }",
    "import the engine's own modules": "async function main() { return {got: await import('qjs:std')} }",
    "import the engine's system module": "async function main() { return {got: (await import('os')).exec(['id'])} }",
    "std": "function main() { return {got: std.open('/etc/passwd', 'r').readAsString()} }",
    "os": "function main() { return {got: os.exec(['id'])} }",
    "process": "function main() { return {got: process.env} }",
    "process by a function's constructor": (
        "function main() { return {got: main.constructor('return process')().mainModule.require('fs')} }"
    ),
    "fetch": "async function main({port}) { return {got: await (await fetch(`http://127.0.0.1:${port}`)).text()} }",
    "a worker of its own": "function main() { return {got: new Worker('x.js')} }",
    "a socket": "function main() { return {got: new WebSocket('ws://127.0.0.1')} }",
    "load a script": "function main() { return {got: load('/etc/passwd')} }",
    "load a file": "function main() { return {got: loadFile('/etc/passwd')} }",
    "machine code": "function main() { return {got: new WebAssembly.Module(new Uint8Array([0, 97, 115, 109]))} }",
    "a whole stack": "function main() { return main() + 1 }",
    "all memory in an array": "function main() { let a = []; for (;;) a.push(new Array(1000).fill(a.length)) }",
    "all memory in a buffer": "function main() { return {got: new ArrayBuffer(2 ** 40)} }",
    "processor time in a pattern": "function main() { return {got: /^(a+)+$/.test('a'.repeat(60) + 'b')} }",
    "all memory in a text": "function main() { let t = 'x'; for (;;) t += t }",
}

TAKING_TOO_MUCH = {
    "memory in one piece": "def main(**_):\n    return {'got': len(bytearray(1 << 33))}",
    "memory in small pieces": "def main(**_):\n    all = []\n    while True: all.append(bytearray(1 << 16))",
    "memory by the kernel's own call": (
        "import mmap\ndef main(**_):\n    return {'got': [len(mmap.mmap(-1, 1 << 28)) for _ in range(100)]}"
    ),
    "a large number": "def main(**_):\n    return {'got': (10 ** 10 ** 8).bit_length()}",
    "processor time": "def main(**_):\n    while True: pass",
    "processor time where no signal arrives": "def main(**_):\n    return {'got': sum(range(10 ** 12))}",
    "processor time in a pattern": (
        "import re\ndef main(**_):\n    return {'got': bool(re.match('(a+)+$', 'a' * 60 + 'b'))}"
    ),
    "time": "import time\ndef main(**_):\n    time.sleep(3600)",
    "time, deaf to signals": (
        "import signal, time\nfor s in set(signal.Signals) - {9, 19}:\n    signal.signal(s, signal.SIG_IGN)\n"
        "def main(**_):\n    while True: time.sleep(1)"
    ),
    "time after it has answered": (
        "import os, time\ndef main(**_):\n    os.write(3, b'={}')\n    os.close(3)\n    time.sleep(3600)"
    ),
    "a large answer": "def main(**_):\n    return {'got': 'x' * (6 << 20)}",
    "an endless answer": "import os\ndef main(**_):\n    while True: os.write(3, b'=' * 65536)",
    "a deep answer": "import os\ndef main(**_):\n    os.write(3, b'=' + b'[' * 1000000)\n    os._exit(0)",
    "an answer with a huge number": (
        "import os\ndef main(**_):\n    os.write(3, b'=' + b'9' * 1000000)\n    os._exit(0)"
    ),
    "an answer that is none": "import os\ndef main(**_):\n    os.write(3, b'=\\xff\\x00{')\n    os._exit(0)",
    "no answer": "import os\ndef main(**_):\n    os._exit(0)",
    "the end of one who was not walled in": "import os\ndef main(**_):\n    os._exit(77)",
    "an answer and then a crash": "import os, ctypes\ndef main(**_):\n    os.write(3, b'={}')\n    ctypes.string_at(0)",
    "descriptors": "import socket\ndef main(**_):\n    all = []\n    while True: all.append(socket.socketpair())",
    "the stack of C": "def main(**_):\n    f = ()\n    for _ in range(10 ** 6): f = (f,)\n    return {'got': hash(f)}",
    "a crash": "import ctypes\ndef main(**_):\n    ctypes.string_at(0)",
    "a long error": "def main(**_):\n    raise ValueError('x' * 10 ** 7)",
    "an error that can't be told": (
        "class E(Exception):\n    def __str__(self): raise SystemExit\ndef main(**_):\n    raise E from E()"
    ),
}
