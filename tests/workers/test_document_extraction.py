"""Documents to texts, each kind with bytes of its own, and documents that mean harm."""

from __future__ import annotations

import csv
import io
from email.message import EmailMessage

import openpyxl
import pytest

from tests import media
from workers.documents import reader
from workers.documents.extract import extract
from workers.documents.reader import Halted, read_document
from workers.documents.refusals import Unreadable, UnsupportedType

BAMBOO = "一个胸有成竹的男人，在画室里画竹子。"
OFFICE = "application/vnd.openxmlformats-officedocument."
SLIDE = '<p:sld xmlns:p="p" xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"><a:p><a:t>{}</a:t></a:p></p:sld>'
TEXT = 'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'


def never() -> bool:
    return False


def sheet(*rows: list[object]) -> bytes:
    book, out = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(out)
    return out.getvalue()


def book(*pages: str) -> bytes:
    items = "".join(f'<item id="p{n}" href="p{n}.xhtml"/>' for n in range(len(pages)))
    spine = "".join(f'<itemref idref="p{n}"/>' for n in range(len(pages)))
    package = f'<package xmlns="o"><manifest>{items}</manifest><spine>{spine}</spine></package>'
    container = '<container xmlns="c"><rootfiles><rootfile full-path="in/a.opf"/></rootfiles></container>'
    written = {f"in/p{n}.xhtml": page.encode() for n, page in enumerate(pages)}
    return media.archive({"META-INF/container.xml": container.encode(), "in/a.opf": package.encode(), **written})


def mail(text: str) -> bytes:
    message = EmailMessage()
    message["Subject"] = "Hi"
    message.set_content(text)
    return message.as_bytes()


@pytest.mark.parametrize(
    ("content", "extension", "mime_type", "text"),
    [
        ("héllo".encode(), ".txt", "text/plain", "héllo"),
        ("héllo wörld, naïve façade".encode("latin-1"), ".txt", "text/plain", "héllo wörld, naïve façade"),
        (BAMBOO.encode("gb18030"), ".txt", "text/plain", BAMBOO),
        ("héllo".encode("utf-16"), ".txt", "text/plain", "héllo"),
        (b"\xef\xbb\xbfhello", ".md", "text/markdown", "hello"),
        (b"<p>hello</p>", ".html", "text/html", "<p>hello</p>"),
        (b"print(1)", ".py", "text/plain", "print(1)"),
        (b'{"b":[1,2],"a":"\xc3\xa9"}', ".json", "application/json", '{\n  "b": [\n    1,\n    2\n  ],\n  "a": "é"\n}'),
        (b"b: 1\na: [x, y]", ".yaml", "text/yaml", "b: 1\na:\n- x\n- y\n"),
        (b"# c\na = 1\nb:2\n\nc", ".properties", "text/properties", "# c\na: 1\nb: 2\n\nc: "),
        (b'name,age\n"a\nb",1\n', ".csv", "text/csv", "| name | age |\n| ---- | --- |\n| a b | 1 |\n"),
        (media.pdf("Hello there"), ".pdf", "application/pdf", "Hello there"),
        (media.pdf("Hello there"), ".txt", "application/pdf", "Hello there"),
        (media.docx("One", [["a", "b"], ["1", "2"]], "Two"), ".docx", OFFICE + "wordprocessingml.document",
         "One\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nTwo"),
        (sheet(["name", "age"], ["Eve", 3], [None, None], ["Adam", 2.5]), ".xlsx", OFFICE + "spreadsheetml.sheet",
         "| name | age |\n| ---- | --- |\n| Eve | 3 |\n| Adam | 2.5 |\n\n"),
        (media.archive({"ppt/slides/slide2.xml": SLIDE.format("b").encode(),
                        "ppt/slides/slide1.xml": SLIDE.format("a").encode()}), ".pptx", "", "a\nb"),
        (media.archive({"content.xml": f"<o {TEXT}><text:h>A</text:h><text:p>b<text:s/>c</text:p></o>".encode()}),
         ".odt", "application/vnd.oasis.opendocument.text", "A\nbc"),
        (book("<html><head><title>no</title></head><body><h1>One</h1><p>two\nthree</p></body></html>", "<p>four</p>"),
         ".epub", "application/epub+zip", "One\ntwo three\nfour"),
        (mail("Dear Eve"), ".eml", "message/rfc822", "Dear Eve"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith(".") else "",
)  # fmt: skip
def test_a_document_is_read(content: bytes, extension: str, mime_type: str, text: str) -> None:
    assert extract(content, extension, mime_type) == text


@pytest.mark.parametrize(
    ("content", "extension", "mime_type", "words"),
    [
        (media.picture(), ".png", "image/png", "Unsupported Extension Type: .png"),
        (media.picture(), "", "image/png", "Unsupported MIME type: image/png"),
        (b"%PDF-1.4 broken", ".pdf", "application/pdf", "Failed to extract text from PDF: "),
        (b"PK broken", ".docx", "application/zip", "Failed to extract text from DOCX: "),
        (b"{", ".json", "application/json", "Failed to extract text from JSON file: "),
        (b"\xd0\xcf", ".doc", "application/msword", "save it as DOCX"),
        (b"x" * 4_000_001, ".txt", "text/plain", "more than 4000000 characters"),
    ],
)
def test_what_has_no_text_says_why(content: bytes, extension: str, mime_type: str, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        extract(content, extension, mime_type)


def test_a_kind_that_nobody_reads_is_told_apart() -> None:
    with pytest.raises(UnsupportedType):
        extract(b"x", ".xyz", "application/octet-stream")


LAUGHS = b'<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("content", "extension", "words"),
    [
        (media.archive({"word/document.xml": LAUGHS}), ".docx", "declares entities"),
        (media.archive({"word/document.xml": b" " * 120_000_000}), ".docx", "more than 100000000 bytes"),
        (media.archive({"word/document.xml": b"<a>" * 30_000_000}), ".docx", "can't be read|Failed"),
        (b"[" * 500_000, ".json", "Failed|can't be read"),
    ],
    ids=["laughs", "unpacks to too much", "deep", "nested"],
)
def test_a_document_that_means_harm_ends_nothing_but_its_reader(content: bytes, extension: str, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read_document(content, extension, "application/zip" if extension == ".docx" else "application/json", never)


def test_a_document_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    for row in range(60_000):
        writer.writerow([f"- {{a: &a{row} [x, y], b: *a{row}}}"])
    long = out.getvalue().replace('"', "").encode()
    monkeypatch.setattr(reader, "CPU_S", 1)
    with pytest.raises(Unreadable, match="more than 1 s of computing"):
        read_document(long, ".yaml", "text/yaml", never)


def test_a_stop_ends_the_reader() -> None:
    with pytest.raises(Halted):
        read_document(b"- [a, b]\n" * 400_000, ".yaml", "text/yaml", lambda: True)
