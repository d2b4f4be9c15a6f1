"""Names of models as Ollama's clients write them: `[host/][namespace/]model[:tag]`."""

from __future__ import annotations

import re

import msgspec

from app.errors import InvalidParam

LATEST = "latest"

# What every name begins with that names no server and nobody.
_OWN_HOSTS = frozenset({"registry.ollama.ai", "ollama.com"})
_OWN_NAMESPACE = "library"
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}", re.ASCII)
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)


class ModelName(msgspec.Struct, frozen=True):
    """A name in its parts. Two that differ in their letters' case alone are the same name."""

    model: str
    tag: str = LATEST
    namespace: str = ""
    host: str = ""

    @property
    def shown(self) -> str:
        """As short as it can be written, but always with its tag."""
        return f"{self.plain_model}:{self.tag}"

    @property
    def plain(self) -> str:
        """As short as it can be written."""
        return self.plain_model if self.tag.lower() == LATEST else self.shown

    @property
    def plain_model(self) -> str:
        """Without its tag."""
        return "/".join(part for part in (self.host, self.namespace, self.model) if part)

    @property
    def folded(self) -> str:
        """What is compared."""
        return self.shown.lower()


def parse_name(text: str) -> ModelName:
    """Raises InvalidParam."""
    rest = text.strip().rpartition("://")[2]
    path, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        path, tag = rest, LATEST
    *before, model = path.split("/")
    host, namespace = ["", "", *before][-2:]
    is_name = len(before) <= 2 and all(map(_PART.fullmatch, [*before[-1:], model, tag]))
    if not is_name or (len(before) == 2 and not _HOST.fullmatch(host)):
        raise InvalidParam("invalid model name", params="model")
    host = "" if host.lower() in _OWN_HOSTS else host
    namespace = "" if not host and namespace.lower() == _OWN_NAMESPACE else namespace
    return ModelName(model, tag, namespace, host)
