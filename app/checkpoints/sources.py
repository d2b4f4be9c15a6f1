"""What `atelier checkpoints pull` is given → which files that is, and where they are.

`https://…` is a file. `owner/name` is a repository of Hugging Face's hub, or of a server that answers as it does:
`owner/name:file` one file of it, `owner/name@revision` another state of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx
import msgspec

from app.checkpoints.identify import COMPONENTS, INDEX, SUFFIXES
from app.errors import InvalidParam, NotFound, Unavailable

_REPOSITORY = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+?))?(?::(?P<file>.+))?")
_FOLDERS = (*COMPONENTS, "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
_WEIGHTS = (*sorted(SUFFIXES - {".gguf"}), ".bin")
_NAMELESS = frozenset(
    {"model", "adapter_model", "diffusion_pytorch_model", "learned_embeds", "pytorch_lora_weights", "pytorch_model"}
)
"""What programs call any file that they write: of such a name there would be one checkpoint or LoRA and no other."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LISTED = 12


class Remote(msgspec.Struct, frozen=True):
    """A file to fetch. `path` is where it goes, below the name of the whole; empty for a single file."""

    url: str
    filename: str
    path: str = ""
    sha256: str = ""
    size: int | None = None
    page: str = ""  # where a person can read about it


class Source(msgspec.Struct, frozen=True):
    """What a name stands for. `name` is the checkpoint's: the stem of the one file, or that of a folder of several."""

    name: str
    files: tuple[Remote, ...]
    is_folder: bool = False
    licence: str = ""


class Hub(msgspec.Struct, frozen=True):
    """A server that has repositories, and the token that opens those which are not for everybody."""

    url: str
    token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"} if self.token else {}

    def opens(self, url: str) -> bool:
        """Whether the token is meant for that address."""
        return urlsplit(url)[:2] == urlsplit(self.url)[:2]


def find_source(
    client: httpx.Client, hub: Hub, asked: str, *, folder: bool = False, folder_by: str = "--folder"
) -> Source:
    """What is asked for; with `folder`, of a repository that has both, its diffusers folder.

    `folder_by` is how whoever asks would say that.

    Raises InvalidParam for what can't be read or is not one thing, NotFound, Unavailable.
    """
    if asked.startswith(("http://", "https://")):
        return _address(asked)
    found = _REPOSITORY.fullmatch(asked)
    if found is None:
        raise InvalidParam(
            f"{asked!r} is neither an address (https://…) nor a repository (owner/name or owner/name:file)."
        )
    repository = _Repository(hub, found["name"], found["revision"] or "main")
    listed = repository.ask(client)
    return repository.source(listed, found["file"], folder=folder, folder_by=folder_by)


def _address(url: str) -> Source:
    filename = PurePosixPath(unquote(urlsplit(url).path)).name
    return Source(PurePosixPath(filename).stem, (Remote(url, filename),))


class _Repository:
    def __init__(self, hub: Hub, name: str, revision: str) -> None:
        self._hub = hub
        self._name = name
        self._revision = revision
        self._page = f"{hub.url}/{name}"

    def ask(self, client: httpx.Client) -> Mapping[str, Any]:
        """What the hub says of the repository."""
        url = f"{self._hub.url}/api/models/{self._name}/revision/{quote(self._revision, safe='')}"
        try:
            answer = client.get(url, params={"blobs": "true"}, headers=self._hub.headers)
            if answer.status_code != 200:
                raise refusal(answer, self._name, self._page, has_token=bool(self._hub.token))
            said = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(
                f"{self._hub.url} can't be asked for {self._name}: {error or type(error).__name__}."
            ) from None
        if not isinstance(said, dict) or not isinstance(said.get("siblings"), list):
            raise Unavailable(f"{self._hub.url} does not answer as Hugging Face's hub does.")
        return said

    def source(self, said: Mapping[str, Any], file: str | None, *, folder: bool, folder_by: str) -> Source:
        siblings = {str(each["rfilename"]): each for each in said["siblings"] if "rfilename" in each}
        licence = str((said.get("cardData") or {}).get("license") or "")
        single = [name for name in siblings if "/" not in name and name.lower().endswith(_WEIGHTS)]
        if file is not None:
            if file not in siblings:
                raise NotFound(f"{self._name} has no file {file!r}. It has {_listing(single or sorted(siblings))}.")
            return self._of_file(siblings[file], licence)
        if INDEX in siblings and (folder or not single):
            return self._of_folder(siblings, licence)
        if len(single) == 1:
            return self._of_file(siblings[single[0]], licence)
        if not single:
            raise NotFound(f"{self._name} has no checkpoint: neither a single file nor a diffusers folder.")
        also = f", or all of the diffusers folder with {folder_by}" if INDEX in siblings else ""
        raise InvalidParam(
            f"{self._name} has several files: say which, as {self._name}:{single[0]}{also}. It has {_listing(single)}."
        )

    def _of_file(self, sibling: Mapping[str, Any], licence: str) -> Source:
        remote = self._remote(sibling)
        stem = PurePosixPath(remote.filename).stem
        name = self._name.partition("/")[2] if stem.removesuffix(".fp16") in _NAMELESS else stem
        return Source(name, (remote,), licence=licence)

    def _of_folder(self, siblings: Mapping[str, Mapping[str, Any]], licence: str) -> Source:
        """The index, and of each part its settings and its weights: one version of them, the smallest."""
        wanted = [INDEX]
        for part in _FOLDERS:
            names = [name for name in siblings if PurePosixPath(name).parent == PurePosixPath(part)]
            weights = [name for name in names if name.endswith(".safetensors")]
            half = [name for name in weights if ".fp16" in name]
            plain = [name for name in weights if PurePosixPath(name).name.count(".") == 1]
            others = [name for name in names if name.endswith((".json", ".txt", ".model")) and ".index." not in name]
            wanted += sorted(others) + sorted(half or plain or weights)
        files = tuple(self._remote(siblings[name], name) for name in wanted)
        return Source(self._name.partition("/")[2], files, is_folder=True, licence=licence)

    def _remote(self, sibling: Mapping[str, Any], path: str = "") -> Remote:
        name = str(sibling["rfilename"])
        lfs = sibling.get("lfs") or {}
        sha256 = str(lfs.get("sha256") or lfs.get("oid") or "").removeprefix("sha256:")
        size = lfs.get("size", sibling.get("size"))
        return Remote(
            f"{self._page}/resolve/{quote(self._revision, safe='')}/{quote(name)}",
            PurePosixPath(name).name,
            path,
            sha256 if _SHA256.fullmatch(sha256) else "",
            size if isinstance(size, int) else None,
            self._page,
        )


def refusal(answer: httpx.Response, what: str, page: str, *, has_token: bool) -> InvalidParam | NotFound | Unavailable:
    """Why a server does not give something, with the way out."""
    code = answer.headers.get("x-error-code", "")
    if code == "GatedRepo" or (answer.status_code == 403 and code != "RepoNotFound"):
        token = "" if has_token else ", and give a token of your account in HF_TOKEN"
        return InvalidParam(f"{what} is only for those who have accepted its licence: do that at {page}{token}.")
    if answer.status_code in (401, 404):
        private = "" if has_token else " Were it private, it would take a token in HF_TOKEN."
        return NotFound(f"There is no {what} at {page} (it answered {answer.status_code}).{private}")
    return Unavailable(f"{what} can't be had: the server answered {answer.status_code}.")


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
