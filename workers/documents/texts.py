"""Texts: in whatever characters they were written."""

from __future__ import annotations

import codecs
import json

import yaml
from charset_normalizer import from_bytes

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT = 200_000  # bytes that a guess is made by
# Those that people use. Among all that there are, a short text has too many that would do.
_LIKELY = ["gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252", "cp1251", "koi8_r"]


def plain_text(content: bytes) -> str:
    """The text by its mark, as UTF-8, or as what it most likely is."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "ignore")
    try:
        return content.decode()
    except UnicodeDecodeError:
        best = from_bytes(content[:_LOOKED_AT], cp_isolation=_LIKELY).best()
        return content.decode(best.encoding if best else "utf-8", "ignore")


def json_text(content: bytes) -> str:
    return json.dumps(json.loads(plain_text(content)), indent=2, ensure_ascii=False)


def yaml_text(content: bytes) -> str:
    return str(yaml.dump_all(yaml.safe_load_all(plain_text(content)), allow_unicode=True, sort_keys=False))


def properties_text(content: bytes) -> str:
    """`key: value` a line; comments and empty lines stay."""
    return "\n".join(map(_property, plain_text(content).splitlines()))


def _property(line: str) -> str:
    line = line.strip()
    if not line or line.startswith(("#", "!")):
        return line
    sign = "=" if "=" in line else ":"
    key, _, value = line.partition(sign)
    return f"{key.strip()}: {value.strip()}"
