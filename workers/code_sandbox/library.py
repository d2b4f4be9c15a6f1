"""The standard library in memory: code may import all of it, and opens no file for that."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import marshal
import os
import sys
import warnings
import zoneinfo
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec
from pathlib import Path
from types import ModuleType

_LEFT_OUT = """
    test idlelib tkinter turtledemo lib2to3 ensurepip venv pydoc_data site-packages dist-packages __pycache__
"""
_LEFT_OUT_LIBRARIES = (
    "_test",
    "xx",
    "_xx",
    "_curses",
    "_dbm",
    "_gdbm",
    "_tkinter",
    "readline",
    "nis",
    "ossaudiodev",
    "spwd",
)

# What code imports most is there when a call begins.
_AT_HAND = """
    array ast asyncio base64 binascii bisect calendar cmath collections collections.abc contextlib copy csv ctypes
    dataclasses datetime decimal difflib email.utils encodings.ascii encodings.idna encodings.latin_1 enum fractions
    functools hashlib heapq hmac html html.parser inspect io ipaddress itertools json linecache locale logging math
    numbers operator os os.path pathlib pickle pprint queue random re secrets shlex statistics string struct tempfile
    textwrap threading time traceback types typing unicodedata urllib.parse urllib.request uuid xml.etree.ElementTree
    zlib zoneinfo
"""

_ZONES = Path("/usr/share/zoneinfo")


class Library(MetaPathFinder, Loader):
    """Imports from what was read when the zygote began."""

    def __init__(self) -> None:
        self._modules: dict[str, tuple[bool, bytes]] = {}  # name → is a package; compiled, or source where nothing is

    def read(self, folder: Path, package: str = "") -> None:
        """Every module below the folder, as the interpreter has compiled it."""
        for entry in folder.iterdir():
            name = entry.stem
            if entry.suffix == ".py" and name.isidentifier():
                is_package = name == "__init__"
                self._modules[package[:-1] if is_package else package + name] = is_package, _compiled(entry)
            elif entry.name not in _LEFT_OUT.split() and (entry / "__init__.py").exists():
                self.read(entry, f"{package}{name}.")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._modules:
            return None
        return ModuleSpec(fullname, self, is_package=self._modules[fullname][0])

    def exec_module(self, module: ModuleType) -> None:
        content = self._modules[module.__name__][1]
        code = content if content[:1] != _COMPILED else marshal.loads(content[1:])  # noqa: S302 - our own interpreter's
        exec(code, module.__dict__)  # noqa: S102 - that is what importing is


class NothingElse(MetaPathFinder):
    """The last to be asked: says what there is."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        raise ModuleNotFoundError(
            f"No module named '{fullname}': code has Python's standard library and no packages", name=fullname
        )


def load() -> Library:
    """Loads what needs files: libraries of C, modules that are at hand, the others' code, time zones."""
    folder = Path(os.__file__).parent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (*_c_libraries(folder / "lib-dynload"), *_AT_HAND.split()):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    library = Library()
    library.read(folder)
    zones = dict(_zones(_ZONES))
    zoneinfo.reset_tzpath(to=())
    vars(zoneinfo)["_common"].load_tzdata = lambda key: _zone(zones, key)
    return library


def close_the_rest(library: Library) -> None:
    """From here on the library in memory is all there is to import, in this process and its children."""
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, library, NothingElse()]
    os.environ.clear()  # the interpreter puts a word of its own there
    sys.argv, sys.orig_argv, sys.executable = [""], [], ""
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("workers", "_quickjs")]:
        del sys.modules[name]


def _c_libraries(folder: Path) -> Iterator[str]:
    for entry in sorted(folder.iterdir()) if folder.exists() else ():
        name = entry.name.partition(".")[0]
        if not name.startswith(_LEFT_OUT_LIBRARIES):
            yield name


_COMPILED = b"\0"  # no source begins with it


def _compiled(path: Path) -> bytes:
    compiled = Path(importlib.util.cache_from_source(str(path)))
    content = compiled.read_bytes() if compiled.exists() else b""
    if content[:4] == importlib.util.MAGIC_NUMBER:
        return _COMPILED + content[16:]
    return path.read_bytes()


def _zones(folder: Path, area: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir() if folder.exists() else ():
        if entry.is_file():
            content = entry.read_bytes()
            if content[:4] == b"TZif":
                yield area + entry.name, content
        elif entry.name not in ("posix", "right"):
            yield from _zones(entry, f"{area}{entry.name}/")


def _zone(zones: dict[str, bytes], key: str) -> io.BytesIO:
    if key not in zones:
        raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}")
    return io.BytesIO(zones[key])
