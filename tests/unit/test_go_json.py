"""What Go says of JSON, of base64 and of durations: the sentences that Ollama's clients get."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import pytest

from app.api.ollama.go_json import from_base64, read_json, read_struct
from app.api.ollama.values import duration_ns, moment, quoted, read_keep_alive
from app.errors import BadRequest


class OllamaAskRequest(msgspec.Struct):
    model: Annotated[str, msgspec.Meta(description="…")] = ""
    stream: bool | None = None
    width: int = 0
    images: list[bytes] = []
    options: dict[str, Any] = {}
    words: list[str] = []


CANNOT, MAP = "json: cannot unmarshal", "map[string]interface {}"


def refusal(body: bytes) -> str:
    with pytest.raises(BadRequest) as refused:
        read_struct(body, OllamaAskRequest)
    return refused.value.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "missing request body"),
        (b" \n", "missing request body"),
        (b"{", "unexpected EOF"),
        (b'{"model": "a', "unexpected EOF"),
        (b'{"model": tru', "unexpected EOF"),
        (b"model=a", "invalid character 'm' looking for beginning of value"),
        (b"{'model': 1}", r"invalid character '\'' looking for beginning of object key string"),
        (b'{"model" 1}', "invalid character '1' after object key"),
        (b'{"model": 1 "width": 2}', "invalid character '\"' after object key:value pair"),
        (b'{"model": "a",}', "invalid character '}' looking for beginning of object key string"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[tree]", "invalid character 'e' in literal true (expecting 'u')"),
        (b'["a\nb"]', r"invalid character '\n' in string literal"),
        (rb'["\x"]', "invalid character 'x' in string escape code"),
        (rb'["\u12g4"]', r"invalid character 'g' in \u hexadecimal character escape"),
        (b"[-a]", "invalid character 'a' in numeric literal"),
        (b"[1.a]", "invalid character 'a' after decimal point in numeric literal"),
        (b"[1e]", "invalid character ']' in exponent of numeric literal"),
        (b"[01]", "invalid character '1' after array element"),
        (b"[" * 100_000, "invalid character '[' exceeded max depth"),
        (b"[]", "json: cannot unmarshal array into Go value of type api.AskRequest"),
        (b'{"model": 1}', f"{CANNOT} number into Go struct field AskRequest.model of type string"),
        (b'{"stream": "no"}', f"{CANNOT} string into Go struct field AskRequest.stream of type bool"),
        (b'{"width": 1.5}', f"{CANNOT} number 1.5 into Go struct field AskRequest.width of type int32"),
        (b'{"width": 3000000000}', f"{CANNOT} number 3000000000 into Go struct field AskRequest.width of type int32"),
        (b'{"width": true}', f"{CANNOT} bool into Go struct field AskRequest.width of type int32"),
        (b'{"images": "a"}', f"{CANNOT} string into Go struct field AskRequest.images of type []api.ImageData"),
        (b'{"words": [{}]}', f"{CANNOT} object into Go struct field AskRequest.words of type string"),
        (
            b'{"options": []}',
            f"{CANNOT} array into Go struct field AskRequest.options of type map[string]interface {{}}",
        ),
        (b'{"images": ["data:image/png;base64,QUJD"]}', "illegal base64 data at input byte 4"),
    ],
)
def test_what_can_not_be_read_is_refused_in_the_words_of_go(body: bytes, said: str) -> None:
    assert refusal(body) == said


def test_keys_fit_whatever_their_case_and_strangers_are_passed_over() -> None:
    read = read_struct(b'{"MODEL": "a", "Stream": false, "beyond": {"x": 1}, "width": null}', OllamaAskRequest)
    assert (read.model, read.stream, read.width) == ("a", False, 0)


def test_what_stands_behind_the_first_value_is_not_looked_at() -> None:
    assert read_struct(b'{"model": "a"} and more', OllamaAskRequest).model == "a"
    assert read_struct(b"null", OllamaAskRequest) == OllamaAskRequest()
    assert read_json(b'"\xff"') == "\ufffd"


def test_a_number_of_thousands_of_digits_is_one() -> None:
    assert read_json(b'[-%s, "\xff"]' % (b"9" * 5000)) == [-math.inf, "\ufffd"]


def test_half_a_character_is_another_one() -> None:
    assert read_json(rb'{"\ud800": ["\udfff\ud83d\ude00", 1]}') == {"\ufffd": ["\ufffd\U0001f600", 1]}


@pytest.mark.parametrize(
    ("text", "at"),
    [("a", 0), ("abc", 0), ("abcde", 4), ("ab!d", 2), ("=abc", 0), ("ab=", 3), ("ab=c", 2), ("ab==c", 4), ("abc=d", 4)],
)
def test_the_byte_where_a_text_is_no_base64(text: str, at: int) -> None:
    with pytest.raises(BadRequest, match=f"^illegal base64 data at input byte {at}$"):
        from_base64(text)


def test_what_is_wrong_with_a_large_picture_is_found_without_looking_at_each_letter() -> None:
    picture = b"A" * 8_000_000
    assert refusal(b'{"images": ["data:' + picture) == "unexpected EOF"
    assert refusal(b'{"images": ["' + picture + b'!"]}') == "illegal base64 data at input byte 8000000"
    assert refusal(b'{"images": ["data:' + picture + b'"]}') == "illegal base64 data at input byte 4"


def test_base64_may_have_line_breaks() -> None:
    assert from_base64("QU\r\nJD\n") == b"ABC"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        *((None, None), (300, 300.0), (0, 0.0), (0.5, 0.5), (-1, -1.0), (-0.0, 0.0), (1e30, -1.0)),
        *(("5m", 300.0), ("1h30m", 5400.0), ("300ms", 0.3), ("0", 0.0), ("-1m", -1.0), ("1.5s", 1.5), ("+2us", 2e-6)),
        *((2e9, -1.0), ("500000h", -1.0), ("0" * 5000 + "1." + "0" * 5000 + "s", 1.0), ("1s" * 100_000, 100_000.0)),
    ],
)
def test_how_long_a_model_is_to_stay(given: Any, seconds: float | None) -> None:
    assert read_keep_alive(given) == seconds


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("-1", 'time: missing unit in duration "-1"'),
        ("300", 'time: missing unit in duration "300"'),
        ("", 'time: invalid duration ""'),
        ("soon", 'time: invalid duration "soon"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
        ("9" * 5000 + "s", f'time: invalid duration "{"9" * 5000}s"'),
        (True, "Unsupported type: 'bool'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
        ([], "Unsupported type: '[]interface {}'"),
    ],
)
def test_what_is_no_time_to_stay(given: Any, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_keep_alive(given)
    assert refused.value.message == said


def test_times_durations_and_names_are_written_as_go_writes_them() -> None:
    assert moment(1_768_471_800_100_000_000) == "2026-01-15T10:10:00.1Z"
    assert moment(1_768_471_800_000_000_000) == "2026-01-15T10:10:00Z"
    assert moment(1_768_471_800_000_000_000 + 2**63 - 1).startswith("2318-")
    assert duration_ns("1h2m3.004s") == 3_723_004_000_000
    assert quoted('a "b"\\\n\x7f é') == r'"a \"b\"\\\n\x7f é"'
