"""Real S3 servers for the tests, each a process of its own on a free port.

`MotoServer` keeps its objects in memory and knows the API well; `S3Server` (s3rver, from npm) keeps them in a folder
and has them still after a kill -9.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from tests.servers import PATIENCE_S, ROOT

BUCKET = "atelier"
S3RVER = "s3rver@3.7.1"
_S3RVER_FOLDER = ROOT / "build" / "s3rver"


class _S3Process:
    """A server that can be killed and comes back on the same port."""

    key = "S3RVER"
    """Access key and secret alike: what s3rver is built with. Moto takes any."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """What tells an Atelier process to use this server."""
        return {
            "S3_ENDPOINT_URL": self.url,
            "S3_BUCKET": BUCKET,
            "S3_ACCESS_KEY_ID": self.key,
            "S3_SECRET_ACCESS_KEY": self.key,
        }

    def start(self) -> None:
        """Starts it; it answers when this returns."""
        env = os.environ | self._variables()
        self._process = subprocess.Popen(self._command(), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with suppress(httpx.TransportError):
                httpx.get(self.url)
                return
            assert self._process.poll() is None, "the S3 server ended"
            time.sleep(0.05)
        raise AssertionError("the S3 server does not answer")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        self.kill()
        self.start()

    def client(self) -> Any:
        """A client of the test's own."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_S)
            self._process = None

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _variables(self) -> dict[str, str]:
        return {}


class MotoServer(_S3Process):
    """Moto. With `strict`, it asks for keys that it knows, after the bucket has been made: it knows none."""

    def __init__(self, strict: bool = False) -> None:
        super().__init__()
        self._strict = strict

    def start(self) -> None:
        super().start()
        self.client().create_bucket(Bucket=BUCKET)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def _variables(self) -> dict[str, str]:
        # Two are free: the question whether it answers, and the bucket.
        return {"INITIAL_NO_AUTH_ACTION_COUNT": "2"} if self._strict else {}


class S3Server(_S3Process):
    """s3rver on a folder. A killed one has every object whose put it had answered; half of one under way may lie there.

    It checks no digests and no signatures. Installed by `npm install --prefix build/s3rver s3rver@3.7.1` or `npm
    install --global s3rver@3.7.1`; a test that needs it is skipped where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def _command(self) -> list[str]:
        command = shutil.which("s3rver") or shutil.which("s3rver", path=_S3RVER_FOLDER / "node_modules" / ".bin")
        if command is None:
            pytest.skip(f"needs s3rver: npm install --prefix build/s3rver {S3RVER}")
        where = ["--directory", str(self.folder), "--address", "127.0.0.1", "--port", str(self.port)]
        return [command, *where, "--no-vhost-buckets", "--silent", "--configure-bucket", BUCKET]

    def _variables(self) -> dict[str, str]:
        # Its listings beyond a thousand objects need a cipher that OpenSSL 3 calls old.
        return {"NODE_OPTIONS": "--openssl-legacy-provider"}
