"""Documents that are archives of XML: Word, PowerPoint, OpenDocument, EPUB."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import unquote
from xml.etree.ElementTree import Element, fromstring

from workers.documents.refusals import Unreadable

_MOST_BYTES = 100_000_000  # of one member, unpacked
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_SLIDE = re.compile(r"ppt/slides/slide(\d+)\.xml")
_SPACES = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}


class _Archive:
    """The members of a document by name; some programs write them with backslashes."""

    def __init__(self, content: bytes) -> None:
        self._file = zipfile.ZipFile(io.BytesIO(content))
        self._members = {each.filename.replace("\\", "/"): each for each in self._file.infolist()}

    def names(self) -> list[str]:
        return list(self._members)

    def read(self, name: str) -> bytes:
        """What the list of members says of a size is a claim, so no more than a bound is unpacked."""
        member = self._members.get(name)
        if member is None:
            raise Unreadable(f"it has no {name}")
        with self._file.open(member) as unpacked:
            content = unpacked.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise Unreadable(f"{name} has more than {_MOST_BYTES} bytes")
        return content

    def xml(self, name: str) -> Element:
        content = self.read(name)
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise Unreadable(f"{name} declares entities")  # no program writes them there
        return fromstring(content)  # noqa: S314 - without entities there is nothing that could swell


def docx_text(content: bytes) -> str:
    """Paragraphs as lines and tables as Markdown, in their order."""
    body = _Archive(content).xml("word/document.xml").find(f"{_W}body")
    return "\n".join(_blocks(body if body is not None else Element("nothing")))


def _blocks(body: Element) -> Iterator[str]:
    for block in body:
        if block.tag == f"{_W}p":
            yield _paragraph(block)
        elif block.tag == f"{_W}tbl":
            table = _table(block)
            if table:
                yield table
        elif block.tag == f"{_W}sdt":
            yield from _blocks(block.find(f"{_W}sdtContent") or Element("nothing"))


def _paragraph(paragraph: Element) -> str:
    return "".join(each.text or "" if each.tag == f"{_W}t" else _SPACES.get(each.tag, "") for each in paragraph.iter())


def _table(table: Element) -> str:
    rows = [[_cell(cell) for cell in row.iter(f"{_W}tc")] for row in table.findall(f"{_W}tr")]
    if not any(cell.strip() for row in rows for cell in row):
        return ""
    lines = [f"| {' | '.join(row)} |\n" for row in rows]
    return "".join([lines[0], f"| {' | '.join(['---'] * len(rows[0]))} |\n", *lines[1:]])


def _cell(cell: Element) -> str:
    return "\n".join(map(_paragraph, cell.findall(f"{_W}p"))).replace("\n", "<br>")


def pptx_text(content: bytes) -> str:
    """The paragraphs of all slides in their order, a line each."""
    archive = _Archive(content)
    slides = sorted((int(found[1]), name) for name in archive.names() if (found := _SLIDE.fullmatch(name)))
    paragraphs = (each for _, name in slides for each in archive.xml(name).iter(f"{_A}p"))
    texts = ("".join(run.text or "" for run in paragraph.iter(f"{_A}t")) for paragraph in paragraphs)
    return "\n".join(text for text in texts if text.strip())


def odt_text(content: bytes) -> str:
    """Headings and paragraphs, a line each."""
    blocks = (each for each in _Archive(content).xml("content.xml").iter() if each.tag in (f"{_TEXT}p", f"{_TEXT}h"))
    return "\n".join("".join(block.itertext()) for block in blocks)


def epub_text(content: bytes) -> str:
    """The pages in the book's order, without markup."""
    archive = _Archive(content)
    container = archive.xml("META-INF/container.xml")
    place = next((each.get("full-path", "") for each in container.iter() if each.tag.endswith("}rootfile")), "")
    package = archive.xml(place)
    named = {each.get("id"): each.get("href", "") for each in package.iter() if each.tag.endswith("}item")}
    spine = [named.get(each.get("idref"), "") for each in package.iter() if each.tag.endswith("}itemref")]
    folder = posixpath.dirname(place)
    pages = (posixpath.normpath(posixpath.join(folder, unquote(href))) for href in spine if href)
    return "\n".join(plain_html(archive.read(page).decode("utf-8", "replace")) for page in pages)


def plain_html(html: str) -> str:
    """What a page says, a line for each block."""
    reader = _Page()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.said).split("\n"))
    return "\n".join(line for line in lines if line)


class _Page(HTMLParser):
    _BLOCKS = frozenset(
        {"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "blockquote", "pre"}
        | {"table", "ul", "ol", "title"}
    )
    _SILENT = frozenset({"script", "style", "head"})

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in self._SILENT
        if tag in self._BLOCKS:
            self.said.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in self._SILENT))
        if tag in self._BLOCKS:
            self.said.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.said.append(data.replace("\n", " "))


def refuse_old(content: bytes) -> str:
    raise Unreadable("the binary formats of old can't be read here; save it as DOCX or PPTX")
