"""The child that reads one document: its bytes come in, its text goes out, and limits hold it meanwhile.

python -m workers.documents EXTENSION MIME_TYPE SECONDS MEGABYTES
"""

from __future__ import annotations

import ctypes
import json
import resource
import signal
import sys

from workers.documents.extract import extract
from workers.documents.refusals import Unreadable

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main(extension: str, mime_type: str, seconds: int, megabytes: int) -> None:
    content = sys.stdin.buffer.read()
    _limit(seconds, megabytes)
    try:
        said = {"text": extract(content, extension, mime_type)}
    except MemoryError:
        said = {"error": f"The document can't be read: it takes more than {megabytes} MB of memory to open."}
    except Unreadable as error:
        said = {"error": str(error)}
    sys.stdout.buffer.write(json.dumps(said).encode())


def _limit(seconds: int, megabytes: int) -> None:
    """Held from here on: time on a processor, memory, and nothing to be written or started."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (megabytes * 1024 * 1024,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
