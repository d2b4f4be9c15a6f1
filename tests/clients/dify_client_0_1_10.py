"""dify-client 0.1.10, which has the import name of dify-python-sdk too and so gets a process and a folder of its own.

    PYTHONPATH=build/dify-client python dify_client_0_1_10.py SECONDS KEY (URL BODY)...
    PYTHONPATH=build/dify-client python dify_client_0_1_10.py parameters BASE_URL KEY
    PYTHONPATH=build/dify-client python dify_client_0_1_10.py upload BASE_URL KEY FILE TYPE

It knows no workflows; callers put a method into a class of their own, as here. It sets no time limit at all, whatever
SECONDS says. All calls side by side; a line for each, in their order: its status, a tab, its body.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dify_client
import requests


class Workflows(dify_client.DifyClient):
    def run(self, body: dict[str, object]) -> requests.Response:
        return self._send_request("POST", "/workflows/run", json=body)


def call(url: str, key: str, body: str) -> str:
    workflows = Workflows(key)
    workflows.base_url = url.removesuffix("/workflows/run")
    try:
        answer = workflows.run(json.loads(body))
    except requests.RequestException as error:
        return f"0\t{error!r}"
    return f"{answer.status_code}\t{answer.text.strip()}"


def main(first: str, *rest: str) -> None:
    if first == "parameters":
        asking = dify_client.CompletionClient(rest[1])
        asking.base_url = rest[0]
        answer = asking.get_application_parameters("abc-123")
        print(f"{answer.status_code}\t{answer.text.strip()}")
        return
    if first == "upload":
        uploading = dify_client.DifyClient(rest[1])
        uploading.base_url = rest[0]
        with Path(rest[2]).open("rb") as file:
            answer = uploading.file_upload("abc-123", {"file": (Path(rest[2]).name, file, rest[3])})
        print(f"{answer.status_code}\t{answer.text.strip()}")
        return
    key, calls = rest[0], list(zip(rest[1::2], rest[2::2], strict=True))
    with ThreadPoolExecutor(len(calls)) as threads:
        for line in threads.map(lambda pair: call(pair[0], key, pair[1]), calls):
            print(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
