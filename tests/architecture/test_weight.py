"""What the web process does not carry. (Who may import whom is held by import-linter, in `make check`.)"""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("module", "not_even"), [("app.main", []), ("app.cli", ["app.main", "starlette", "uvicorn"])])
def test_the_server_starts_without_torch_and_a_command_without_the_server(module: str, not_even: list[str]) -> None:
    heavy = ["torch", "diffusers", "transformers", "celery", "boto3", "alembic", "jsonschema", "workers.main"]
    heavy += ["workers.diffusion", *not_even]
    program = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_that_paints_nothing_carries_no_torch() -> None:
    program = "import sys, workers.main; print([name for name in ('torch', 'diffusers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
