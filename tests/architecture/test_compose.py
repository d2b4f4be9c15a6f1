"""docker-compose.yml and Dockerfile fit the program, as far as that shows without Docker."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from app.cli import app
from app.cluster.daemon import find_program
from app.cluster.servers import render_nginx
from app.settings import Settings, variable_name
from tests.servers import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
LASTING = {name: service for name, service in SERVICES.items() if name != "migrate"}
EXAMPLE = (ROOT / ".env.example").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_every_variable_is_explained_in_the_example() -> None:
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", TEXT))
    offered = set(re.findall(r"^# ([A-Z0-9_]+)=", EXAMPLE, re.MULTILINE))
    assert used - offered == set()


def test_no_secret_has_a_default_and_each_refusal_is_a_sentence() -> None:
    used = re.findall(r"\$\{([A-Z0-9_]+)([^}]*)\}", TEXT)
    secret = [(name, rest) for name, rest in used if re.search(r"PASSWORD|SECRET|KEY_ID|_KEY$", name)]
    assert {name for name, _ in secret} >= {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "ATELIER_SECRET_KEY"}
    assert [pair for pair in secret if pair[1] != f":?Set {pair[0]} in .env, see .env.example."] == []


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_runs_a_command_that_exists(name: str) -> None:
    program, *words = OURS[name]["command"]
    command: Any = get_command(app)
    for word in (word for word in words if not word.startswith("-") and word not in ("cpu", "gpu")):
        command = command.commands[word]
    assert program == "atelier"
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_is_given_settings_that_exist(name: str) -> None:
    given = {key: value for key, value in OURS[name]["environment"].items() if "$" not in value}
    assert set(OURS[name]["environment"]) <= {variable_name(field) for field in Settings.model_fields}
    Settings(
        **{field: given[variable] for field in Settings.model_fields if (variable := variable_name(field)) in given}
    )


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_service_is_started_again_watched_and_bounded(name: str) -> None:
    service = LASTING[name]
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"]["max-size"]
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert "healthcheck" in service or "HEALTHCHECK" in stages()[service["build"]["target"]]


def test_migrations_come_before_everything_of_ours() -> None:
    waiting = {name for name, service in OURS.items() if "migrate" in service["depends_on"]}
    assert waiting == set(OURS) - {"migrate"}
    assert OURS["api"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert OURS["migrate"]["restart"] == "no"


def test_images_are_pinned_and_volumes_declared() -> None:
    foreign = [service["image"] for service in SERVICES.values() if "build" not in service]
    assert [image for image in foreign if not re.search(r":v?\d", image)] == []
    volumes = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {volume for volume in volumes if volume[0] not in "./$"} == set(yaml.safe_load(TEXT)["volumes"])
    assert [volume for volume in volumes if volume.startswith("./") and not (ROOT / volume).exists()] == []


def test_only_nginx_can_be_reached_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]


def test_nginx_accepts_what_it_is_given(tmp_path: Path) -> None:
    values = {k: v for k, v in SERVICES["nginx"]["environment"].items() if "ENVSUBST" not in k}
    # Debian's nginx can't look names up again, and there is no `api` here.
    values["NGINX_API"] = values["NGINX_API"].replace("api:8000 resolve", "127.0.0.1:8000")
    text = render_nginx(**{**values, "NGINX_FOLDER": str(tmp_path)})
    assert "${" not in text
    (tmp_path / "nginx.conf").write_text(text)
    nginx = [find_program("nginx", "nginx-light"), "-p", str(tmp_path), "-c", "nginx.conf", "-e", "stderr", "-t", "-q"]
    done = subprocess.run(nginx, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_images_are_built_as_a_user_from_files_that_exist() -> None:
    assert {service["build"]["target"] for service in OURS.values()} == {"web", "worker"}
    assert "\nUSER atelier\n" in stages()["base"]
    assert stages()["web"].startswith("FROM base")
    assert stages()["worker"].startswith("FROM base")
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    assert [file for line in copied for file in line.split() if not (ROOT / file).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".env", ".venv", ".git", "checkpoints"} <= set(ignored)
    installs = DOCKERFILE.count("pip install") - DOCKERFILE.count("pip install --no-deps")
    assert DOCKERFILE.count("--constraint constraints.txt") == installs


def stages() -> dict[str, str]:
    """The Dockerfile's stages by name."""
    parts = re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].split()[-1]: part for part in parts}
