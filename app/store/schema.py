"""The tables. SQLite now, PostgreSQL with the same definitions; every migration is checked against this module.

Times are seconds since 1970 as floats. Leases, readiness and deadlines are set and compared by the database's own
clock (`now_s`), so that no two machines' clocks are ever compared; the other times are for people.
JSON is stored as text: it is written once, read whole, and never searched by its structure.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement, GenericFunction

SCHEMA_HEAD = "20261127_presets"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class now_s(GenericFunction[float]):
    """The database's clock in seconds since 1970."""

    type = Double()
    inherit_cache = True


@compiles(now_s, "sqlite")
def _now_sqlite(element: now_s, compiler: Any, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now_s, "postgresql")
def _now_postgresql(element: now_s, compiler: Any, **kw: Any) -> str:
    return "extract(epoch from clock_timestamp())::float8"


class is_one_of(FunctionElement[bool]):
    """True when the column is among the texts of a JSON array: any number of them is one value."""

    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        """As it is: for SQLite, which has no booleans, `= 1` would be added, and no index used."""
        return self


@compiles(is_one_of, "sqlite")
def _one_of_sqlite(element: is_one_of, compiler: Any, **kw: Any) -> str:
    column, texts = (compiler.process(each, **kw) for each in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({texts}))"  # noqa: S608 - a column and a placeholder


@compiles(is_one_of, "postgresql")
def _one_of_postgresql(element: is_one_of, compiler: Any, **kw: Any) -> str:
    column, texts = (compiler.process(each, **kw) for each in element.clauses)
    return f"{column} IN (SELECT json_array_elements_text(CAST({texts} AS json)))"


class new_delivery_id(GenericFunction[str]):
    """An id made by the database: how many deliveries an INSERT … SELECT makes, nobody else knows."""

    type = String()
    inherit_cache = True


@compiles(new_delivery_id, "sqlite")
def _delivery_id_sqlite(element: new_delivery_id, compiler: Any, **kw: Any) -> str:
    return "'msg_' || lower(hex(randomblob(16)))"


@compiles(new_delivery_id, "postgresql")
def _delivery_id_postgresql(element: new_delivery_id, compiler: Any, **kw: Any) -> str:
    return "'msg_' || replace(gen_random_uuid()::text, '-', '')"


def _where(condition: str) -> dict[str, Any]:
    """The condition of a partial index."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


apps = Table(
    "apps",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("workflow_id", String(36), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("max_active_requests", Integer, nullable=False, server_default="0"),
    Column("webhook_secret", Text),  # signs its deliveries; made when it is first needed
    Column("webhook_old_secret", Text),
    Column("webhook_old_until", Double),  # until then the secret before signs too
    Column("site", Text),  # what its page shows where it differs from the document, as JSON
)

# Each row is one published version of an app's workflow and never changes.
workflows = Table(
    "workflows",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("app_id", String(36), ForeignKey("apps.id"), nullable=False, index=True),
    Column("version", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("environment", Text),  # values in place of the document's own environment variables, as JSON
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("app_id", String(36), ForeignKey("apps.id"), nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("prefix", String(8), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("scopes", Text, nullable=False, server_default="run,read,stop,files"),
    Column("expires_at", Double),
    Column("last_used_at", Double),
    Column("max_active", Integer, nullable=False, server_default="0"),
    Column("max_queued", Integer, nullable=False, server_default="0"),
    Column("served_at", Double),  # when a worker last took a step of this key
)

# A run's rows are inserted together: no table has an index that nothing asks for. Small rows lie in one tree in the
# order of their key (WITHOUT ROWID); larger ones would overflow a page of it each, so they lie in a table of their own.
tasks = Table(
    "tasks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("run_id", String(36), nullable=False),
    Column("app_id", String(36), nullable=False),
    Column("key_id", String(36), nullable=False),
    Column("user", Text, nullable=False),
    Column("dialect", String(16), nullable=False),
    Column("response_mode", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("traceparent", String(55)),
    Column("priority", Integer),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("task_id", String(36), nullable=False),
    Column("app_id", String(36), nullable=False),
    Column("workflow_id", String(36), nullable=False),
    Column("user", Text, nullable=False),
    Column("status", String(20), nullable=False),
    Column("inputs", Text, nullable=False),
    Column("outputs", Text, nullable=False),
    Column("error", Text),
    Column("total_steps", Integer, nullable=False),
    Column("exceptions_count", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("first_entries", Text, nullable=False),
    Column("first_last_seq", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("deadline_at", Double),
    Column("finished_at", Double),
    Column("key_id", String(36), nullable=False, server_default=""),
    Column("error_code", Text),
    Column(
        "deadline_s", Double
    ),  # the caller's own, if it has one: how long after its acceptance the run is to be stopped
    Column("updated_at", Double),
    Column("total_tokens", Integer, nullable=False, server_default="0"),
    Column("paused_at", Double),  # since when its time stands still
    Index("ix_runs_app_id_created_at", "app_id", "created_at"),
    Index("ix_runs_open", "deadline_at", **_where("status = 'running'")),
    Index("ix_runs_active_app", "app_id", **_where("status = 'running'")),
    Index("ix_runs_active_key", "key_id", **_where("status = 'running'")),
    # Only runs that waited for a worker have had a deadline: whatever ends at once pays nothing for this one.
    Index("ix_runs_waited", "finished_at", "status", **_where("deadline_at IS NOT NULL AND finished_at IS NOT NULL")),
)

# `attempt` is the fence: a claim raises it, and every later write of the attempt names it.
steps = Table(
    "steps",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("id", String(36), primary_key=True),
    Column("node_id", String(255), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("title", Text, nullable=False),
    Column("index", Integer, nullable=False),
    Column("status", String(20), nullable=False),
    Column("predecessor_node_id", Text),
    Column("work_class", String(16)),
    Column("checkpoint", Text),
    Column("attempt", Integer, nullable=False),
    Column("handle", Text),
    Column("inputs", Text),
    Column("outputs", Text),
    Column("process_data", Text),
    Column("error", Text),
    Column("error_type", Text),
    Column("created_at", Double, nullable=False),
    Column("ready_at", Double),
    Column("worker_id", String(36)),
    Column("lease_expires_at", Double),
    Column("finished_at", Double),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("claimed_at", Double),
    Column("key_id", String(36), nullable=False, server_default=""),
    Column("expires_at", Double),  # when its run's deadline comes: after that nobody takes it
    Column("took_s", Double),  # from its claim to its outcome
    Column("timings", Text),
    Column("progress_step", Integer),
    Column("progress_steps", Integer),
    Column("progress_eta_s", Double),
    Column("scope", Text),  # the rounds that an inner step is in
    Column("arguments", Text),  # what its worker needs and nobody else sees
    Column("metadata", Text),
    Index("ix_steps_ready_key", "key_id", **_where("status = 'ready'")),
    Index("ix_steps_ready", "work_class", "ready_at", **_where("status = 'ready'")),
    Index("ix_steps_running", "lease_expires_at", **_where("status = 'running'")),
)

# The checkpoints that each worker has in memory, as its parent tells when that changes. The rows of a worker that is
# gone go with it; a moment later is no harm, because nobody waits long for another worker.
residents = Table(
    "residents",
    metadata,
    Column("worker_id", String(36), primary_key=True),
    Column("checkpoint", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),  # bytes, those on a GPU included
    Column("vram_size", BigInteger, nullable=False),
    Column("loaded_at", Double, nullable=False),
    Column("expires_at", Double),  # when it is unloaded if nobody asks for it
)

# One row holds the facts (entries) that one transaction added to a run's log, numbered from first_seq to last_seq: they
# became true together, are read together, and cost one insert instead of ten. Those of the transaction that accepted
# the run lie in the run's own row, so that a run without a worker's step has no row here.
events = Table(
    "events",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("first_seq", Integer, primary_key=True, autoincrement=False),
    Column("last_seq", Integer, nullable=False),
    Column("entries", Text, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("run_id", String(36), nullable=False, index=True),
    Column("step_id", String(36), nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("size", Integer, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("extension", String(16), nullable=False),
    Column("filename", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("seed", BigInteger),
)

# A file that a caller gave, under the user that it belongs to; `source_url` is where it was fetched from, if anywhere.
uploads = Table(
    "uploads",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("app_id", String(36), ForeignKey("apps.id"), nullable=False),
    Column("user", Text, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("extension", String(32), nullable=False),
    Column("filename", Text, nullable=False),
    Column("source_url", Text),
    Column("created_at", Double, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Index("ix_uploads_app_id_created_at", "app_id", "created_at"),
)

# A form that a paused run waits for. `token` opens it; `definition` and `filled` are JSON.
forms = Table(
    "forms",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("token", String(64), nullable=False, unique=True),
    Column("app_id", String(36), nullable=False),
    Column("run_id", String(36), nullable=False, index=True),
    Column("step_id", String(36), nullable=False),
    Column("node_id", String(255), nullable=False),
    Column("definition", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("filled", Text),
    Column("filled_by", Text),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("filled_at", Double),
    Index("ix_forms_waiting", "expires_at", **_where("status = 'waiting'")),
)

# A user whom an app has seen. The id is made from the app and the name: see `ids.end_user_id`.
end_users = Table(
    "end_users",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("app_id", String(36), nullable=False),
    Column("user", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

# An Idempotency-Key of a caller's key, and the run that it made; after `expires_at` it may make another.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key_id", String(36), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("run_id", String(36), nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
)

# A blocking call that has not been answered yet, and the server process that holds its connection.
open_calls = Table(
    "open_calls",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("fingerprint", String(64), nullable=False, index=True),
    Column("server_id", String(36), nullable=False),
    Column("broke_at", Double),
)

# Where an app's events are posted. `host` is the URL's: no receiver may hold up the others.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("app_id", String(36), ForeignKey("apps.id"), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("events", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("disabled_at", Double),
)

# The webhook that a request brought for its own run.
run_webhooks = Table(
    "run_webhooks",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("url", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("events", Text, nullable=False),
)

# The outbox of the webhooks, and their log. `attempts` is the fence of whoever sends one; `next_at` is when it is due,
# while it is being sent the end of the sender's lease, and null once it is over.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("app_id", String(36), nullable=False),
    Column("run_id", String(36), nullable=False, index=True),
    Column("webhook_id", String(36)),
    Column("url", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Double),
    Column("last_at", Double),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("created_at", Double, nullable=False),
    Column("delivered_at", Double),
    Index("ix_deliveries_app_id_created_at", "app_id", "created_at"),
    Index("ix_deliveries_created_at", "created_at"),
    Index("ix_deliveries_due", "next_at", "host", **_where("next_at IS NOT NULL")),
)

# A model that an app's callers have named. `folded` is the name as it is compared; `parameters` is an object and
# `license` a list of texts, as JSON.
presets = Table(
    "presets",
    metadata,
    Column("app_id", String(36), ForeignKey("apps.id"), primary_key=True),
    Column("folded", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("checkpoint", Text, nullable=False, index=True),
    Column("parent", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("system", Text, nullable=False),
    Column("template", Text, nullable=False),
    Column("license", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("modified_at", Double, nullable=False),
)

# Raised by whoever changes keys, apps or workflows: what a process remembers of them is good while this stands still.
revisions = Table(
    "revisions",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("revision", Integer, nullable=False),
)
