"""Files that callers give: uploaded, read again, used in runs of their user, and of nobody else."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest

from tests import media
from tests.servers import Atelier, running
from tests.unit.drawing import draw, end, field, start

PICTURE = media.picture()
UPLOADED = [
    *("id", "reference", "name", "size", "extension", "mime_type", "created_by", "created_at", "preview_url"),
    *("source_url", "original_url", "user_id", "tenant_id", "conversation_id", "file_key"),
]
FILE_KEYS = [
    *("dify_model_identity", "__variant", "id", "tenant_id", "type", "transfer_method", "remote_url", "reference"),
    *("filename", "extension", "mime_type", "size", "related_id", "url"),
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server without a worker; small limits keep the tests quick."""
    folder = tmp_path_factory.mktemp("uploads")
    limits = {"upload_file_mb": "2", "upload_image_mb": "3", "upload_video_mb": "4", "upload_audio_mb": "2"}
    with running(folder, worker="none", upload_refused_extensions="exe, .bat", **limits) as server:
        yield server


def publish(server: Atelier, name: str, *variables: dict[str, Any], **workflow: Any) -> str:
    """A key of an app that gives back what it is given."""
    outputs = {each["variable"]: ["start", each["variable"]] for each in variables}
    document = server.data_dir / f"{name}.yml"
    text = draw([start(*variables), end(**outputs, system=["sys", "files"])], ["start > end"], **workflow)
    document.write_text(text)
    return server.app_key(document, name)


@pytest.fixture(scope="module")
def key(house: Atelier) -> str:
    """A key of an app that takes a picture, a list of anything, and a paper."""
    return publish(
        house,
        "takes-files",
        field("picture", "file", allowed_file_types=["image"], allowed_file_upload_methods=["local_file"]),
        field("several", "file-list", max_length=2),
        field("paper", "file", allowed_file_types=["document", "custom"], allowed_file_extensions=[".BIN"]),
    )


def upload(
    server: Atelier, key: str, name: str, content: bytes, kind: str = "application/octet-stream", user: str = "abc-123"
) -> httpx.Response:
    files, headers = {"file": (name, content, kind)}, server.bearer(key)
    return server.http.post("/v1/files/upload", files=files, data={"user": user}, headers=headers)


def taken(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def local(file: dict[str, Any], kind: str = "image", **more: Any) -> dict[str, Any]:
    return {"type": kind, "transfer_method": "local_file", "upload_file_id": file["id"], **more}


def test_an_upload_is_answered_as_dify_does(house: Atelier, key: str) -> None:
    file = taken(upload(house, key, "Cat.PNG", PICTURE, "image/png"))
    assert list(file) == UPLOADED
    assert (file["name"], file["extension"], file["mime_type"]) == ("Cat.PNG", "png", "image/png")
    assert file["size"] == len(PICTURE)
    assert isinstance(file["created_at"], int)
    assert file["source_url"].startswith(f"/files/{file['id']}/file-preview?timestamp=")
    assert file["source_url"].endswith("%3D")


def test_an_uploaded_file_is_an_input_of_its_users_runs(house: Atelier, key: str) -> None:
    file = taken(upload(house, key, "cat.png", PICTURE, "image/png"))
    run = house.run({"picture": local(file)}, key).json()["data"]
    given = run["outputs"]["picture"]
    assert list(given) == FILE_KEYS
    assert (given["type"], given["transfer_method"], given["extension"]) == ("image", "local_file", ".png")
    assert (given["filename"], given["related_id"], given["size"]) == ("cat.png", file["id"], len(PICTURE))
    assert house.http.get(given["url"], headers={"authorization": ""}).content == PICTURE
    assert house.http.get(given["remote_url"], headers={"authorization": ""}).content == PICTURE


def test_what_an_answer_shows_of_a_file_names_it_again(house: Atelier, key: str) -> None:
    file = taken(upload(house, key, "cat.png", PICTURE, "image/png"))
    shown = house.run({"picture": local(file)}, key).json()["data"]["outputs"]["picture"]
    again = house.run({"picture": shown, "several": [shown, {**shown, "related_id": None}]}, key).json()["data"]
    assert [each["related_id"] for each in again["outputs"]["several"]] == [file["id"]] * 2


def test_a_file_is_its_users_alone(house: Atelier, key: str) -> None:
    file = taken(upload(house, key, "cat.png", PICTURE, "image/png", user="eve"))
    refused = house.run({"picture": local(file)}, key, user="adam")
    assert (refused.status_code, refused.json()["message"]) == (400, "Invalid upload file")
    assert refused.json()["params"] == "picture"
    other_app = publish(house, "another-app", field("picture", "file"))
    assert house.run({"picture": local(file)}, other_app, user="eve").json()["message"] == "Invalid upload file"
    assert house.run({"picture": local(file)}, key, user="eve").status_code == 200


def test_a_file_without_a_user_is_nobodys_in_particular(house: Atelier, key: str) -> None:
    content = {"file": ("cat.png", PICTURE, "image/png")}
    file = taken(house.http.post("/v1/files/upload", files=content, headers=house.bearer(key)))
    assert house.run({"picture": local(file)}, key, user="DEFAULT-USER").status_code == 200
    assert house.run({"picture": local(file)}, key, user="eve").status_code == 400


@pytest.mark.parametrize(
    ("name", "content", "mime_type"),
    [
        ("cat.png", PICTURE, "image/png"),
        ("cat.txt", PICTURE, "image/png"),
        ("cat", media.picture("JPEG"), "image/jpeg"),
        ("cat.png", media.HTML, "text/html"),
        ("cat.png", b"\n  <!-- x --><svg onload='x'/>", "image/svg+xml"),
        ("cat.jpg", media.SVG, "image/svg+xml"),
        ("notes.md", b"# Hello", "text/markdown"),
        ("a.csv", b"a,b\n1,2\n", "text/csv"),
        ("a.json", b'{"a": 1}', "application/json"),
        ("a.pdf", media.pdf("hello"), "application/pdf"),
        ("letter", media.docx("x"), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.docx", media.archive({"a.txt": b"x"}), "application/zip"),
        ("a.epub", media.archive({"mimetype": b"application/epub+zip"}), "application/epub+zip"),
        ("a.epub", media.archive({"mimetype": b"application/x\r\nset-cookie: a=b"}), "application/zip"),
        ("a.odt", media.archive({"mimetype": b"text/html"}), "application/zip"),
        ("a.bin", bytes(range(256)), "application/octet-stream"),
        ("a.mp3", b"plain words", "text/plain"),
        ("song.mp3", b"ID3\3\0\0\0\0\0\0", "audio/mpeg"),
        ("film.bin", b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "video/mp4"),
        ("page.png", "<html>".encode("utf-16"), "text/html"),
    ],
)
def test_a_file_is_what_its_bytes_say(house: Atelier, key: str, name: str, content: bytes, mime_type: str) -> None:
    file = taken(upload(house, key, name, content, "image/png"))
    assert file["mime_type"] == mime_type


def test_a_file_that_is_not_what_it_is_called_is_refused_in_a_run(house: Atelier, key: str) -> None:
    page = taken(upload(house, key, "cat.png", media.HTML, "image/png"))
    words = "Detected file type does not match the specified type. Please verify the file."
    for inputs in ({"picture": local(page)}, {"several": [local(page)]}, {"paper": local(page, "document")}):
        assert house.run(inputs, key).json()["message"] == words
    words = "File validation failed for file: cat.md"
    paper = taken(upload(house, key, "cat.md", b"# Cat", "text/markdown"))
    assert house.run({"picture": local(paper, "document")}, key).json()["message"] == words


def test_the_variable_says_which_files_it_takes(house: Atelier, key: str) -> None:
    paper = taken(upload(house, key, "a.txt", b"words", "text/plain"))
    binary = taken(upload(house, key, "a.bin", bytes(range(256))))
    other = taken(upload(house, key, "a.xyz", bytes(range(256))))
    untyped = {"transfer_method": "local_file", "upload_file_id": binary["id"]}
    assert house.run({"paper": local(paper, "document")}, key).status_code == 200
    assert house.run({"paper": untyped}, key).json()["data"]["outputs"]["paper"]["type"] == "custom"
    assert house.run({"paper": local(binary, "custom")}, key).status_code == 200
    refused = house.run({"paper": local(other, "custom")}, key).json()
    assert refused["message"] == "File validation failed for file: a.xyz"
    refused = house.run({"several": [local(paper, "document")] * 3}, key).json()
    assert refused["message"] == "several in input form must be less than 2 files"


def test_an_id_that_is_none_is_refused_in_difys_words(house: Atelier, key: str) -> None:
    for mapping, words in (
        ({"transfer_method": "local_file", "upload_file_id": str(uuid4())}, "Invalid upload file"),
        ({"transfer_method": "local_file", "upload_file_id": "7"}, "Invalid upload file id format"),
        ({"transfer_method": "tool_file", "tool_file_id": "x"}, "ToolFile x not found"),
        ({"transfer_method": "post", "upload_file_id": "x"}, "'post' is not a valid FileTransferMethod"),
    ):
        answer = house.run({"picture": {"type": "image", **mapping}}, key)
        assert (answer.status_code, answer.json()["message"]) == (400, words)


def test_files_of_the_whole_app_are_sys_files(house: Atelier, key: str) -> None:
    file = taken(upload(house, key, "cat.png", PICTURE, "image/png"))
    run = house.run({}, key, files=[local(file), {"type": "image", "transfer_method": "local_file"}]).json()["data"]
    (given,) = run["outputs"]["system"]
    assert given["related_id"] == file["id"]
    detail = house.http.get(f"/v1/workflows/run/{run['id']}", headers=house.bearer(key)).json()
    assert json.loads(detail["inputs"])["sys.files"][0]["url"].startswith(f"/files/{file['id']}/file-preview?")


def test_the_apps_own_limits_hold_for_them(house: Atelier) -> None:
    taking = {"enabled": True, "number_limits": 2, "allowed_file_types": ["image"], "image": {"number_limits": 1}}
    key = publish(house, "limited", features={"file_upload": taking})
    file = local(taken(upload(house, key, "cat.png", PICTURE, "image/png")))
    paper = local(taken(upload(house, key, "a.txt", b"words", "text/plain")), "document")
    for files, words in (
        ([file] * 3, "Number of files exceeds the maximum limit 2"),
        ([file] * 2, "Number of image files exceeds the maximum limit 1"),
        ([paper], "File validation failed for file: a.txt"),
    ):
        assert house.run({}, key, files=files).json()["message"] == words
    assert house.run({}, key, files=[file]).status_code == 200


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_form_that_is_none_is_refused(house: Atelier, key: str) -> None:
    post, path, headers = house.http.post, "/v1/files/upload", house.bearer(key)
    assert refusal(post(path, json={"user": "u"}, headers=headers)) == (400, "no_file_uploaded")
    assert refusal(post(path, data={"user": "u", "file": "text"}, headers=headers)) == (400, "no_file_uploaded")
    other = {"picture": ("cat.png", PICTURE, "image/png")}
    assert refusal(post(path, files=other, headers=headers)) == (400, "no_file_uploaded")
    both = {**other, "file": ("cat.png", PICTURE, "image/png")}
    assert refusal(post(path, files=both, headers=headers)) == (400, "too_many_files")
    form = {"content-type": "multipart/form-data; boundary=x", **headers}
    assert refusal(post(path, content=b"--x\r\nbroken", headers=form)) == (400, "no_file_uploaded")
    assert refusal(post(path, content=b"no form", headers=form)) == (400, "bad_request")


def test_a_file_needs_a_type_and_a_name_without_folders(house: Atelier, key: str) -> None:
    head = '--x\r\nContent-Disposition: form-data; name="file"; filename="{}"\r\n{}\r\nx\r\n--x--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x", **house.bearer(key)}
    for name, kind, expected in (
        ("a.txt", "", (415, "unsupported_file_type")),
        ("", "Content-Type: text/plain\r\n", (400, "filename_not_exists_error")),
        ("../a.txt", "Content-Type: text/plain\r\n", (400, "invalid_param")),
        ("a.EXE", "Content-Type: text/plain\r\n", (400, "invalid_param")),
    ):
        body = head.format(name, kind).encode()
        assert refusal(house.http.post("/v1/files/upload", content=body, headers=headers)) == expected
    assert taken(upload(house, key, "é" * 300 + ".txt", b"x", "text/plain"))["name"] == "é" * 200 + ".txt"


def test_the_limit_is_that_of_the_content(house: Atelier, key: str) -> None:
    film = b"\0\0\0\x18ftypisom" + bytes(3_500_000)
    assert taken(upload(house, key, "film.mp4", film, "video/mp4"))["size"] == len(film)
    for name, content in (("film.mp4", b"words " * 400_000), ("a.png", PICTURE + bytes(3_500_000)), ("a", film * 2)):
        answer = upload(house, key, name, content, "video/mp4")
        assert refusal(answer) == (413, "file_too_large")
        assert "MB" in answer.json()["message"]


def test_a_large_file_comes_back_whole(house: Atelier, key: str) -> None:
    film = b"\0\0\0\x18ftypisom" + bytes(range(256)) * 14_000
    file = taken(upload(house, key, "film.mp4", film, "video/mp4"))
    for url in (file["source_url"], f"/v1/files/{file['id']}/preview"):
        answer = house.http.get(url, headers=house.bearer(key))
        assert answer.headers["content-length"] == str(len(film))
        assert answer.content == film
    assert house.http.head(f"/v1/files/{file['id']}/preview", headers=house.bearer(key)).status_code == 200


def test_a_body_without_a_length_is_cut_off_at_the_limit(house: Atelier, key: str) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        kind = b"Content-Type: text/plain\r\n"
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n' + kind + b"\r\n"
        while sent < 300_000_000:
            sent += 65536
            yield b"words   " * 8192

    headers = {"content-type": "multipart/form-data; boundary=x", **house.bearer(key)}
    try:
        answer = house.http.post("/v1/files/upload", content=endless(), headers=headers)
        assert refusal(answer) == (413, "file_too_large")
    except httpx.WriteError:  # it hung up before we had sent it all
        assert sent < 300_000_000


def test_what_would_unpack_to_too_much_is_refused(house: Atelier, key: str) -> None:
    for name, bomb in (
        ("bomb.png", media.png_bomb()),
        ("bomb.docx", media.archive({f"word/{n}.xml": bytes(10_000_000) for n in range(25)})),
        ("bomb.zip", media.archive({f"{n}": b"" for n in range(20_500)})),
    ):
        assert len(bomb) < 2_097_152
        assert refusal(upload(house, key, name, bomb)) == (413, "file_too_large"), name


def test_a_key_needs_the_scope_to_upload(house: Atelier) -> None:
    key = house.cli("keys", "create", "--app", "takes-files", "--scope", "run,read")
    assert refusal(upload(house, key, "cat.png", PICTURE)) == (403, "forbidden")


def test_a_file_is_read_with_a_key_of_its_app(house: Atelier, key: str) -> None:
    file = taken(upload(house, key, "cät 1.png", PICTURE, "image/png", user="eve"))
    path, headers = f"/v1/files/{file['id']}/preview", house.bearer(key)
    shown = house.http.get(path, headers=headers)
    assert (shown.status_code, shown.content, shown.headers["content-type"]) == (200, PICTURE, "image/png")
    assert "content-disposition" not in shown.headers
    saved = house.http.get(f"{path}?as_attachment=true&user=eve", headers=headers)
    assert saved.headers["content-disposition"] == "attachment; filename*=UTF-8''c%C3%A4t%201.png"
    for gone in (
        house.http.get(f"{path}?user=adam", headers=headers),
        house.http.get(path),
        house.http.get(f"/v1/files/{uuid4()}/preview", headers=headers),
        house.http.get("/v1/files/7/preview", headers=headers),
    ):
        assert refusal(gone) == (404, "file_not_found")


def test_a_permalink_signs_an_upload_again(house: Atelier, key: str) -> None:
    file = taken(upload(house, key, "cat.png", PICTURE, "image/png"))
    sent_on = house.http.get(f"/v1/files/{file['id']}", headers=house.bearer(key))
    assert sent_on.status_code == 302
    assert house.http.get(sent_on.headers["location"], headers={"authorization": ""}).content == PICTURE
    assert refusal(house.http.get(f"/v1/files/{file['id']}")) == (404, "file_not_found")


def test_what_could_run_a_program_never_comes_inline(house: Atelier, key: str) -> None:
    for name, content in (("a.html", media.HTML), ("a.svg", media.SVG), ("cat.png", media.SVG), ("a.js", b"alert(1)")):
        file = taken(upload(house, key, name, content, "image/png"))
        for url in (f"/v1/files/{file['id']}/preview", file["source_url"]):
            answer = house.http.get(url, headers=house.bearer(key))
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"].startswith("attachment")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.content == content


def test_a_signed_url_says_nothing_of_the_type_but_that_of_a_picture_does(house: Atelier, key: str) -> None:
    file = taken(upload(house, key, "cat.png", PICTURE, "image/png"))
    plain = house.http.get(file["source_url"], headers={"authorization": ""})
    assert (plain.headers["content-type"], plain.headers["content-length"]) == (
        "application/octet-stream",
        str(len(PICTURE)),
    )
    shown = house.http.get(file["preview_url"], headers={"authorization": ""})
    assert (shown.headers["content-type"], shown.content) == ("image/png", PICTURE)
    paper = taken(upload(house, key, "a.txt", b"words", "text/plain"))
    assert paper["preview_url"] is None


def test_a_signature_is_for_one_file_and_one_purpose(house: Atelier, key: str) -> None:
    one, other = (taken(upload(house, key, "cat.png", PICTURE, "image/png")) for _ in "ab")
    query = urlsplit(one["source_url"]).query
    words = {name: value[0] for name, value in parse_qs(query).items()}
    old = {**words, "timestamp": str(int(words["timestamp"]) - 1000)}
    for path, asked in (
        (f"/files/{other['id']}/file-preview", words),
        (f"/files/{one['id']}/image-preview", words),
        (f"/files/{one['id']}/file-preview", {**words, "sign": "x"}),
        (f"/files/{one['id']}/file-preview", old),
    ):
        answer = house.http.get(path, params=asked, headers={"authorization": ""})
        assert refusal(answer) == (404, "not_found")
        assert answer.json()["message"] == "File not found or signature is invalid"


def test_equal_files_are_kept_once_and_belong_to_each(house: Atelier, key: str) -> None:
    content = str(uuid4()).encode()
    one, other = (taken(upload(house, key, "a.txt", content, "text/plain", user=user)) for user in ("eve", "adam"))
    assert one["id"] != other["id"]
    with sqlite3.connect(house.data_dir / "atelier.db") as database:
        rows = database.execute("SELECT sha256 FROM uploads WHERE id IN (?, ?)", (one["id"], other["id"])).fetchall()
    assert len(set(rows)) == 1
    stored = [path for path in (house.data_dir / "artifacts").rglob(rows[0][0]) if Path(path).is_file()]
    assert len(stored) == 1


def test_the_app_tells_how_large_files_may_be(house: Atelier, key: str) -> None:
    limits = house.http.get("/v1/parameters", headers=house.bearer(key)).json()["system_parameters"]
    assert limits == {
        "image_file_size_limit": 3,
        "video_file_size_limit": 4,
        "audio_file_size_limit": 2,
        "file_size_limit": 2,
        "workflow_file_upload_limit": 10,
    }
