"""`atelier doctor`: does everything stand that these settings name, and what is to be mended?"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
from redis.exceptions import RedisError

from app import clock, ids
from app.artifacts.store import open_artifacts
from app.checkpoints.adapters import KINDS
from app.checkpoints.catalogue import open_catalogue
from app.errors import AtelierError
from app.queue.notes import open_redis
from app.settings import Settings
from app.store.migrate import current_version
from app.store.schema import SCHEMA_HEAD
from app.store.vitals import vitals

_OLDEST_POSTGRES = 13
_OLDEST_REDIS = 6
_LEAST_ROOM_BYTES = 1_000_000_000
_CLOCK_TOLERANCE_S = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing examined. `mend` says what to do, and is empty when all is well; `grave`: without it Atelier fails."""

    subject: str
    found: str
    mend: str = ""
    grave: bool = True

    @property
    def mark(self) -> str:
        """✓ well, ! could be better, ✗ wrong."""
        return "✓" if not self.mend else "✗" if self.grave else "!"


Check = Callable[[Settings], Iterator[Finding]]


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, each as soon as it is there. Writes and removes a probe wherever Atelier will write."""
    for subject, check in _CHECKS.items():
        try:
            yield from check(settings)
        except AtelierError as error:
            yield Finding(subject, error.message.removesuffix("."), _MEND[subject])


def _data_folder(settings: Settings) -> Iterator[Finding]:
    probe = settings.data_dir / f".probe-{ids.new_id()}"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"atelier")
        probe.unlink()
    except OSError as error:
        found = f"{settings.data_dir} can't be written: {error.strerror}"
        yield Finding("data folder", found, "Give this account the right to write there, or set ATELIER_DATA_DIR.")
        return
    yield Finding("data folder", f"{settings.data_dir} can be written")
    free = shutil.disk_usage(settings.data_dir).free
    mend = "Make room: pictures and the database will need it." if free < _LEAST_ROOM_BYTES else ""
    yield Finding("disk", f"{free / 1e9:,.1f} GB free", mend)


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.is_embedded and not settings.database_path.exists():
        yield Finding("database", f"{settings.database_path} will be made at the first start")
        return
    before_s = clock.time()
    state = vitals(settings)
    apart_s = abs((before_s + clock.time()) / 2 - state.clock_s)
    if settings.is_embedded:
        yield Finding("database", f"SQLite {state.version} at {settings.database_path}")
    else:
        old = state.major < _OLDEST_POSTGRES
        yield Finding("database", f"PostgreSQL {state.version}", f"Use {_OLDEST_POSTGRES} or newer." if old else "")
    version = current_version(settings)
    if version is None or version < SCHEMA_HEAD:
        found = f"tables are at {version or 'nothing yet'}, this version needs {SCHEMA_HEAD}"
        yield Finding("tables", found, "Run `atelier db upgrade`.")
    else:
        yield Finding("tables", f"at {version}" + (", newer than this version needs" if version > SCHEMA_HEAD else ""))
    far = apart_s >= _CLOCK_TOLERANCE_S
    mend = "Synchronize them (NTP): the times that people read are off. Leases go by the database's alone."
    yield Finding("clocks", f"database and machine are {apart_s:.1f} s apart", mend if far else "", grave=False)


def _redis(settings: Settings) -> Iterator[Finding]:
    if not settings.redis_url:
        if settings.is_embedded:
            yield Finding("redis", "not used: one server with its own worker")
        else:
            yield Finding("redis", "REDIS_URL is not set", "Set it: workers of their own are rung through Redis.")
        return
    key = f"atelier:doctor:{ids.new_id()}"
    try:
        with open_redis(settings.redis_url) as redis:
            began_s = clock.monotonic()
            redis.set(key, b"atelier", ex=10)
            if redis.getdel(key) != b"atelier":
                yield Finding("redis", "it forgot what it was told", "Is another program emptying it?")
            took_ms = 1000 * (clock.monotonic() - began_s) / 2
            told = redis.info()
    except (RedisError, OSError, ValueError) as error:
        yield Finding("redis", f"Redis can't be used: {str(error).rstrip('.')}", _MEND["redis"])
        return
    version = str(told["redis_version"])
    old = int(version.split(".")[0]) < _OLDEST_REDIS
    yield Finding("redis", f"Redis {version}, {took_ms:.1f} ms", f"Use {_OLDEST_REDIS} or newer." if old else "")
    policy = str(told.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        mend = "Set maxmemory-policy noeviction: a doorbell that is evicted delays its run by seconds."
        yield Finding("redis", f"maxmemory-policy is {policy}", mend, grave=False)


def _artifacts(settings: Settings) -> Iterator[Finding]:
    open_artifacts(settings).check()
    if settings.s3_bucket:
        yield Finding("pictures", f"bucket {settings.s3_bucket} can be written, read and listed")
    else:
        shared = "" if settings.is_embedded else "; all processes must share this folder, or set S3_BUCKET"
        yield Finding("pictures", f"in {settings.artifacts_dir}{shared}")


def _secret_key(settings: Settings) -> Iterator[Finding]:
    if settings.secret_key:
        yield Finding("secret key", "set")
    elif settings.redis_url:
        mend = "Set ATELIER_SECRET_KEY, to the same value everywhere: `openssl rand -hex 32` makes one."
        yield Finding("secret key", "not set, so each process refuses file URLs that another has signed", mend)
    else:
        yield Finding("secret key", f"kept in {settings.data_dir}")


def _checkpoints(settings: Settings) -> Iterator[Finding]:
    catalogue = open_catalogue(settings)
    found = catalogue.list()
    usable = [checkpoint.name for checkpoint in found if not checkpoint.problem]
    yield Finding("checkpoints", f"{', '.join(usable)}; without a model_name: {catalogue.default().name}")
    mend = "Replace or remove it; the others work."
    for checkpoint in found:
        if checkpoint.problem:
            yield Finding(
                "checkpoints", f"{checkpoint.name}: {checkpoint.problem.removesuffix('.')}", mend, grave=False
            )
    for adapter in (each for kind in KINDS for each in catalogue.adapters.list(kind)):
        if adapter.problem:
            yield Finding("checkpoints", f"{adapter.name}: {adapter.problem.removesuffix('.')}", mend, grave=False)
    named = (*settings.checkpoint_names.values(), *settings.checkpoint_aliases.values(), *settings.pinned_checkpoints)
    for name in filter(None, (settings.default_checkpoint, *named)):
        catalogue.get(name)
    for name in settings.default_vae.values():
        catalogue.adapters.find("vae", name)


def _public_url(settings: Settings) -> Iterator[Finding]:
    url = settings.public_base_url
    if not url:
        yield Finding("public URL", "not set: file URLs begin with /files, and clients put the server's address before")
        return
    try:
        answer = httpx.get(f"{url}/livez", timeout=3, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        mend = "Nothing to mend if Atelier does not run yet, or if this machine can't see it from outside."
        yield Finding("public URL", f"nobody answers at {url}: {error}", mend, grave=False)
        return
    if answer.status_code == 200 and '"ok"' in answer.text:
        yield Finding("public URL", f"Atelier answers at {url}")
    else:
        mend = "Set ATELIER_PUBLIC_BASE_URL to the address under which clients reach Atelier, or mend the proxy."
        yield Finding("public URL", f"{url}/livez is not answered by Atelier (status {answer.status_code})", mend)


_CHECKS: dict[str, Check] = {
    "data folder": _data_folder,
    "database": _database,
    "redis": _redis,
    "pictures": _artifacts,
    "secret key": _secret_key,
    "checkpoints": _checkpoints,
    "public URL": _public_url,
}
# What to do when a check itself fails.
_MEND = {
    "data folder": "Set ATELIER_DATA_DIR to a folder that this account may write.",
    "database": "Start the database, or mend DATABASE_URL.",
    "redis": "Start Redis, or mend REDIS_URL.",
    "pictures": "Mend S3_ENDPOINT_URL, S3_BUCKET and the key, or the folder.",
    "secret key": "Set ATELIER_SECRET_KEY.",
    "checkpoints": "Put it into the folder, or change ATELIER_DEFAULT_CHECKPOINT.",
    "public URL": "Mend ATELIER_PUBLIC_BASE_URL.",
}
