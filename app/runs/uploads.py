"""Files that callers give: taken in under a user's name, and found again for that user alone."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from app import clock, ids
from app.artifacts.incoming import Incoming, Limits, read_filename
from app.artifacts.sniff import extension_of
from app.artifacts.store import ArtifactStore
from app.domain.artifact import Artifact, Upload
from app.domain.request import Caller
from app.errors import FilenameMissing, FileNotFound, InvalidParam, UnsupportedFileType
from app.settings import Settings
from app.store import details, end_users
from app.store import uploads as upload_rows
from app.store.engine import Tx
from app.store.store import Store

ANONYMOUS = "DEFAULT-USER"
"""Whose a file is that came without a user's name, as in Dify."""

# An artifact store that hangs holds up nothing but those who wait for it.
_KEEPERS = 8


class Owner(NamedTuple):
    """Whose a file is: a user of an app."""

    app_id: str
    user: str


class Uploads:
    """Takes files in and finds them. A file is its user's; its app's keys may read it."""

    def __init__(self, store: Store, content: ArtifactStore, settings: Settings) -> None:
        self._store = store
        self._content = content
        self._refused = frozenset(settings.upload_refused_extensions)
        self._keepers = ThreadPoolExecutor(_KEEPERS, thread_name_prefix="uploads")
        self.limits = Limits.of(settings)

    def expect(self, filename: str, media_type: str) -> tuple[str, Incoming]:
        """(the name that it will have, the file to write to). Raises what is wrong with it before its first byte."""
        if not media_type:
            raise UnsupportedFileType("The file's part has no Content-Type: say what it is, such as image/png.")
        if not filename:
            raise FilenameMissing("The specified filename does not exist.")
        name, extension = read_filename(filename)
        if extension in self._refused:
            raise InvalidParam(f"File extension '{extension}' is not allowed for security reasons", params="file")
        return name, Incoming(extension, self.limits)

    async def keep(self, incoming: Incoming, filename: str, owner: Owner, *, source_url: str | None = None) -> Upload:
        """Stores a file that is there as a whole, bytes before row. Raises FileTooLarge, Unavailable.

        One from a URL that has no extension gets that of what it is.
        """
        loop = asyncio.get_running_loop()
        received = await loop.run_in_executor(self._keepers, partial(incoming.keep, self._content))
        extension = incoming.extension
        if source_url is not None and not extension:
            extension = extension_of(received.mime_type)
            filename = f"{filename or 'file'}{extension}"
        upload = Upload(
            id=ids.new_id(),
            app_id=owner.app_id,
            user=owner.user,
            sha256=received.sha256,
            size=received.size,
            mime_type=received.mime_type,
            extension=extension,
            filename=filename,
            source_url=source_url,
            created_at=clock.time(),
            width=received.width,
            height=received.height,
        )
        await self._store.commit(lambda tx: _insert(tx, upload))
        return upload

    async def find(self, caller: Caller, file_id: str, user: str | None = None) -> Upload | Artifact:
        """A file of the caller's app, given or made; with a user, one of that user's. Raises FileNotFound."""
        found = await self._store.read(lambda tx: _find(tx, caller.app_id, file_id, user))
        if found is None:
            raise FileNotFound("File not found.")
        return found


def _insert(tx: Tx, upload: Upload) -> None:
    """The file, and its user, whom the app may not have seen before."""
    upload_rows.insert_upload(tx, upload)
    end_users.insert_users(tx, [(upload.app_id, upload.user)])


def _find(tx: Tx, app_id: str, file_id: str, user: str | None) -> Upload | Artifact | None:
    upload = upload_rows.find_upload_of(tx, app_id, user, file_id)
    if upload is not None:
        return upload
    if user is None:
        return details.find_artifact_of_app(tx, app_id, file_id)
    return upload_rows.find_artifact_for(tx, app_id, user, file_id)
