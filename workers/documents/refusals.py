"""Why a document has no text."""

from __future__ import annotations


class Unreadable(Exception):
    """The message is one sentence, for whoever gave the document."""


class UnsupportedType(Unreadable):
    """No document at all, as far as anybody here can read it."""
