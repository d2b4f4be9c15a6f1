"""Every knob, once. Read from the environment and an optional `.env`; wrong values stop the program at start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import SettingsInvalid

SECRETS = frozenset({"hub_token", "secret_key", "database_url", "redis_url", "s3_secret_access_key", "llm_endpoints"})
"""Fields whose values are shown to nobody: URLs may hold a password."""

DEFAULT_ENDPOINT = "default"


class LlmEndpoint(BaseModel):
    """A server that speaks OpenAI's chat completions, and what it can do. `docs/llm.md` explains each field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str  # up to /v1
    api_key: str = ""
    model: str = ""  # sent for every model that `models` does not name; empty: the document's own name
    models: dict[str, str] = {}  # the document's name → the server's
    headers: dict[str, str] = {}
    body: dict[str, Any] = {}  # added to every request
    timeout_s: float = Field(120.0, gt=0)  # the longest silence
    vision: bool = True
    tools: bool = True
    structured_output: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    stream_usage: bool = True

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/")

    def name_of(self, model: str) -> str:
        """What the server calls a document's model."""
        return self.models.get(model) or self.model or model


class Settings(BaseSettings):
    """The settings of one process; the unit is in the name.

    `DATABASE_URL`, `REDIS_URL`, `S3_*` and `HF_*` keep the names that hosting platforms and others give them;
    everything else is `ATELIER_` and the field's name. `docs/settings.md` is written from the descriptions.
    """

    model_config = SettingsConfigDict(
        env_prefix="ATELIER_", env_file=".env", frozen=True, extra="ignore", populate_by_name=True
    )

    data_dir: Path = Field(Path(".atelier"), description="database, artifacts, secret and locks of the embedded form")
    database_url: str = Field(
        "",
        validation_alias="DATABASE_URL",
        description="empty: SQLite in the data folder; else sqlite:///PATH or postgresql://user:password@host/name",
    )
    redis_url: str = Field(
        "", validation_alias="REDIS_URL", description="carries doorbells, wake-ups and progress between processes"
    )
    s3_endpoint_url: str = Field("", validation_alias="S3_ENDPOINT_URL", description="an S3 API; empty: AWS's own")
    s3_bucket: str = Field("", validation_alias="S3_BUCKET", description="holds artifacts; empty: the data folder does")
    s3_access_key_id: str = Field("", validation_alias="S3_ACCESS_KEY_ID", description="empty: the machine's own role")
    s3_secret_access_key: str = Field("", validation_alias="S3_SECRET_ACCESS_KEY", description="the key's secret")
    s3_region: str = Field("us-east-1", validation_alias="S3_REGION", description="the bucket's region")
    orphan_age_s: float = Field(
        86400.0, ge=600, description="stored bytes that no row names are deleted once they are as old as this"
    )
    durability: Literal["process", "power"] = Field(
        "process", description="what a commit outlives: the process (fast), or a power cut too (one fsync a commit)"
    )
    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="the port to listen on; 0 takes a free one")
    ollama_port: int | None = Field(
        11434,
        ge=0,
        le=65535,
        description="a port for Ollama's clients, too; 0 takes a free one; none: there is none",
    )
    llamago_port: int | None = Field(8081, ge=0, le=65535, description="the same for llama.go's clients")
    open_to_loopback: bool = Field(
        False,
        description="true: programs on this machine need no key on the ports of Ollama and llama.go; "
        "they have one of their own, which may bring checkpoints, too",
    )
    public_base_url: str = Field(
        "",
        validation_alias=AliasChoices("ATELIER_PUBLIC_BASE_URL", "ATELIER_PUBLIC_URL"),
        description="what every URL in an answer begins with, as clients see this server; empty: with /, or, where a "
        "dialect's URLs are absolute, with the address that the request came to",
    )
    secret_key: str = Field("", description="signs file URLs; empty: made once and kept in the data folder")
    files_access_timeout_s: int = Field(300, gt=0, description="how long a signed file URL is valid")
    max_body_bytes: int = Field(2 * 1024 * 1024, gt=0, description="the largest request body")

    upload_file_mb: int = Field(15, ge=1, description="the largest file that is no picture, sound or film, in MB")
    upload_image_mb: int = Field(10, ge=1, description="the largest picture")
    upload_audio_mb: int = Field(50, ge=1, description="the largest sound")
    upload_video_mb: int = Field(100, ge=1, description="the largest film")
    upload_refused_extensions: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="extensions of files that nobody may upload, with commas: exe,bat"
    )
    remote_file_timeout_s: float = Field(30.0, gt=0, description="how long the server of a remote file may take in all")

    checkpoints_dir: Path = Field(Path("checkpoints"), description="where checkpoints lie: files or diffusers folders")
    default_checkpoint: str = Field("", description="used without a model_name, if v1-5-pruned-emaonly isn't installed")
    checkpoint_aliases: Annotated[dict[str, str], NoDecode] = Field(
        {}, description='JSON: other names of checkpoints, as {"dreams": "dreamshaper_8"}'
    )
    default_vae: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="JSON: the VAE of files without one, by family, as "
        '{"sd1": "vae-ft-mse-840000", "sdxl": "sdxl-vae-fp16-fix"}',
    )
    checkpoint_names: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="JSON: checkpoints for the models that other image tools ask for, as "
        '{"kolors": "my-sdxl", "*": "my-default"}; one that is not here is painted with the default',
    )
    blob_mb: int = Field(32768, ge=1, description="the largest file that may be posted to make a checkpoint of, in MB")
    hub_url: str = Field(
        "https://huggingface.co",
        validation_alias="HF_ENDPOINT",
        description="where `atelier checkpoints pull owner/name` asks: Hugging Face's hub, or a mirror of it",
    )
    hub_token: str = Field(
        "", validation_alias="HF_TOKEN", description="opens repositories of the hub that are not for everybody"
    )
    memory_budget_mb: int = Field(
        0, ge=0, description="memory of the GPU, or of the machine, that checkpoints may take; 0: about half of it"
    )
    pinned_checkpoints: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="checkpoints that a worker loads when it starts and keeps, with commas"
    )
    keep_alive_s: float = Field(
        -1.0, description="how long an unused checkpoint stays in memory; 0: not at all; negative: until others need it"
    )
    device: str = Field("", description="cuda, cuda:1, mps or cpu; empty: the best there is")
    precision: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="what is calculated in; auto: float16 on a GPU, float32 on a CPU, where half is slower"
    )
    gpu_without: Annotated[tuple[Literal["graphs", "fused", "beside", "pinned"], ...], NoDecode] = Field(
        (),
        description="what is left out on a GPU, with commas: graphs (recorded calls), fused (projections in one), "
        "beside (decoding beside calls), pinned (memory for transfers)",
    )
    torch_threads: int = Field(0, ge=0, description="CPU threads of the worker's engine; 0: the cores it may use")

    llm_endpoints: Annotated[dict[str, LlmEndpoint], NoDecode] = Field(
        {},
        description='language models, as JSON: {"default" or a provider or provider/model: {"url": …, "api_key": …}}',
    )

    affinity_wait_s: float = Field(
        2.0, ge=0, description="how long a step is left to a busy worker that has its checkpoint in memory"
    )
    gpu_lanes: int = Field(16, ge=1, description="steps that a worker paints side by side, as far as the engine can")
    worker: Literal["embedded", "none"] = Field("embedded", description="none: this server runs no steps itself")
    cpu_lanes: int = Field(8, ge=1, description="steps of the cpu class that a worker does side by side")
    worker_metrics_port: int = Field(0, ge=0, le=65535, description="where `atelier worker` shows metrics; 0: nowhere")
    worker_module: str = Field("workers.main", description="the Python module that a worker process runs")
    lease_s: float = Field(15.0, ge=2, description="how long a worker may be silent before its step is given back")
    lease_beat_s: float = Field(1.0, gt=0, description="how often a worker's leases are renewed")
    max_attempts: int = Field(3, ge=1, description="tries of a step before its run fails")
    retry_delay_s: float = Field(0.5, ge=0, description="wait before the second try; doubles with each, with jitter")
    step_stall_s: float = Field(600.0, gt=0, description="a worker without a sign of progress for so long is ended")
    queue_timeout_s: float = Field(900.0, gt=0, description="the longest that a step may wait for a worker")
    step_timeout_s: float = Field(900.0, gt=0, description="the longest that one attempt of a step may take")
    run_timeout_s: float = Field(1200.0, gt=0, description="the longest that a run may take, waiting included")
    queue_depth_per_key: int = Field(
        1000, ge=0, description="steps of one key that may wait for a worker; more are refused with 429; 0: no limit"
    )
    queue_depth: int = Field(10000, ge=0, description="the same for all keys together")
    reaper_beat_s: float = Field(1.0, gt=0, description="how often lost doorbells and overdue runs are looked for")
    blocking_beat_s: float = Field(
        15.0, ge=0, description="a blocking answer that waits gets a space this often, so no proxy cuts it; 0: off"
    )
    blocking_wait_s: float = Field(
        0.0, ge=0, description="a blocking call is answered with the running run after this; 0: it waits for the end"
    )
    reattach_s: float = Field(
        60.0, ge=0, description="how long the same blocking call attaches to the run of one that broke; 0: never"
    )
    idempotency_ttl_s: float = Field(86400.0, gt=0, description="how long an Idempotency-Key means the same run")
    webhook_timeout_s: float = Field(15.0, gt=0, description="how long a receiver of webhooks may take to answer")
    webhook_retry_s: Annotated[tuple[float, ...], NoDecode] = Field(
        (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0),
        description="waits between the attempts of a webhook's delivery, with commas; after the last it has failed",
    )
    webhook_concurrency: int = Field(16, ge=1, description="deliveries under way at once; a host gets a quarter")
    webhook_allow_private: bool = Field(False, description="true: webhooks may lead to addresses that are not public")
    outbound_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="what workflows and callers may send the server to besides public addresses, with commas: "
        "addresses, networks (10.1.0.0/16), names (wiki.example.org, *.example.org), each with :PORT if need be",
    )
    http_max_text_bytes: int = Field(1024 * 1024, gt=0, description="the largest text that an http-request node takes")
    http_max_file_bytes: int = Field(
        10 * 1024 * 1024, gt=0, description="the largest file that an http-request node takes"
    )
    webhook_log_days: float = Field(30.0, gt=0, description="how long the log of deliveries is kept")
    code_timeout_s: float = Field(15.0, gt=0, description="how long the code of a code node may run")
    code_memory_mb: int = Field(
        512, ge=128, description="the memory that it may take, in MiB; the interpreter has 60 of it"
    )
    code_answer_mb: int = Field(4, ge=1, description="the largest answer of it, as JSON, in MiB")
    code_max_string_length: int = Field(400_000, gt=0, description="characters of a text that it answers")
    code_max_string_array_length: int = Field(30, gt=0, description="texts in a list that it answers")
    code_max_object_array_length: int = Field(30, gt=0, description="objects in a list that it answers")
    code_max_number_array_length: int = Field(1000, gt=0, description="numbers in a list that it answers")
    code_max_precision: int = Field(20, gt=0, description="digits after the point of a number that it answers")
    code_max_depth: int = Field(5, gt=0, le=100, description="objects within objects that it answers")
    ping_s: float = Field(10.0, gt=0, description="silence on an event stream before a ping")
    slow_listener_s: float = Field(
        30.0, gt=0, description="an event stream whose client takes nothing for so long loses its connection"
    )
    shutdown_grace_s: float = Field(10.0, ge=0, description="what open connections get when the server stops")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged")
    log_format: Literal["text", "json"] = Field("text", description="how log lines look: for people, or for programs")
    metrics: Literal["on", "off"] = Field("on", description="on: /metrics is served, to whoever can reach the port")

    @field_validator("data_dir", "checkpoints_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("checkpoint_aliases", "default_vae", "checkpoint_names", "llm_endpoints", mode="before")
    @classmethod
    def _json(cls, value: object) -> object:
        try:
            return json.loads(value or "{}") if isinstance(value, str) else value
        except ValueError:
            raise ValueError("must be a JSON object") from None

    @field_validator("ollama_port", "llamago_port", mode="before")
    @classmethod
    def _no_port(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value

    @field_validator("webhook_retry_s", "outbound_allow", "pinned_checkpoints", "gpu_without", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("upload_refused_extensions", mode="before")
    @classmethod
    def _extensions(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [f".{part.strip().lower().lstrip('.')}" for part in value.split(",") if part.strip()]

    @field_validator("webhook_retry_s")
    @classmethod
    def _no_wait_is_negative(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(wait_s < 0 for wait_s in value):
            raise ValueError("a wait can't be negative")
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:///", "postgresql://")):
            raise ValueError("leave it empty, or use sqlite:///PATH or postgresql://user:password@host/name")
        return value

    @field_validator("redis_url")
    @classmethod
    def _known_redis(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://")):
            raise ValueError("must begin with redis:// or rediss://")
        return value

    @field_validator("public_base_url", "hub_url")
    @classmethod
    def _http(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/")

    @property
    def is_embedded(self) -> bool:
        """True for SQLite: one server owns the database, and brings it up to date by itself."""
        return not self.database_url.startswith("postgresql://")

    def llm_endpoint(self, provider: str, model: str) -> LlmEndpoint | None:
        """The endpoint of a document's model, by provider and model, by provider, or the default; None: there is none.

        A provider is found by its whole id (`langgenius/openai/openai`) and by the last part of it.
        """
        names = dict.fromkeys((provider, provider.rpartition("/")[2]))
        keys = [f"{name}/{model}" for name in names] + [*names, DEFAULT_ENDPOINT]
        return next((self.llm_endpoints[key] for key in keys if key in self.llm_endpoints), None)

    @property
    def database_path(self) -> Path:
        if self.database_url:
            return Path(self.database_url.removeprefix("sqlite:///")).absolute()
        return self.data_dir / "atelier.db"

    @property
    def artifacts_dir(self) -> Path:
        return self.data_dir / "artifacts"

    @property
    def converted_dir(self) -> Path:
        """Where the .safetensors versions of other files lie."""
        return self.data_dir / "converted"

    @property
    def hashes_file(self) -> Path:
        """Where the hashes of checkpoints are remembered."""
        return self.data_dir / "hashes.json"


def load_settings(**overrides: Any) -> Settings:
    """The settings of this environment; raises SettingsInvalid with one line for each wrong value."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [f"{_place(e['loc'])}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
        raise SettingsInvalid("; ".join(lines)) from None
    except UnicodeDecodeError:
        raise SettingsInvalid("The file .env is no text.") from None


def _place(path: tuple[int | str, ...]) -> str:
    """The variable of a wrong value, and where in it."""
    within = ".".join(map(str, path[1:]))
    return variable_name(str(path[0])) + (f" ({within})" if within else "")


def variable_name(field: str) -> str:
    """The environment variable of a settings field."""
    alias = Settings.model_fields[field].validation_alias if field in Settings.model_fields else field
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0]  # the others are names of before
    return str(alias) if alias else f"ATELIER_{field.upper()}"


def as_written(value: Any) -> str:
    """A setting's value as it stands in the environment."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return json.dumps(value) if value else ""
    if isinstance(value, tuple):
        return ",".join(map(as_written, value))
    return f"{value:.15g}" if isinstance(value, float) else str(value)
