"""PDF."""

from __future__ import annotations

import io
import logging


def pdf_text(content: bytes) -> str:
    """The text of all pages, in the order in which they stand; an encrypted file opens if it needs no password."""
    # A third of a second of import, which other documents need not wait for.
    from pypdf import PdfReader  # noqa: PLC0415

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells of every flaw that it works around
    reader = PdfReader(io.BytesIO(content))
    return "\n".join(page.extract_text() for page in reader.pages)
