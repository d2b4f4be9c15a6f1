"""nginx in front of a server, set up in the ways that callers meet it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.cluster.servers import Nginx
from tests.servers import Atelier

OWN = "ours"
"""The template that Atelier ships."""

_AT_11 = 'proxy_http_version 1.1; proxy_set_header Connection "";'
VARIANTS = {
    "buffering on": f"{_AT_11} proxy_buffering on;",
    "buffering off": f"{_AT_11} proxy_buffering off;",
    "as it comes": "",  # HTTP/1.0 to the server, buffering on
    "compressing": f"{_AT_11} gzip on; gzip_min_length 0; gzip_proxied any; gzip_types application/json;",
    "deaf": f"{_AT_11} proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
    "deaf and old": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
    OWN: "",
}
"""What stands in the location. A deaf one passes over our wish not to be held back."""

_TEMPLATE = Path(__file__).with_name("nginx.conf.template")


class Proxy(Nginx):
    """One of the variants, which cuts a connection after so many seconds without a byte from the server."""

    def __init__(self, folder: Path, variant: str, server: Atelier, silence_s: float) -> None:
        super().__init__(folder, [int(server.url.rpartition(":")[2])])
        self._variant = variant
        self._silence = f"proxy_read_timeout {silence_s:g}s;"

    def prepare(self) -> None:
        super().prepare()
        written = self.folder / "nginx.conf"
        if self._variant == OWN:
            text = written.read_text()
            assert "proxy_read_timeout 60s;" in text
            written.write_text(text.replace("proxy_read_timeout 60s;", self._silence))
            return
        values = {
            "FOLDER": str(self.folder),
            "LISTEN": f"127.0.0.1:{self.port}",
            "API": f"127.0.0.1:{self.upstreams[0]}",
            "SETTINGS": f"{self._silence} {VARIANTS[self._variant]}",
        }
        text = _TEMPLATE.read_text()
        for name, value in values.items():
            text = text.replace(f"${{{name}}}", value)
        written.write_text(text)


@contextmanager
def proxies(
    folder: Path, server: Atelier, silence_s: float, variants: tuple[str, ...] = tuple(VARIANTS)
) -> Iterator[dict[str, str]]:
    """The variants, all running; their addresses by name."""
    with ExitStack() as stack:
        urls = {}
        for number, variant in enumerate(variants):
            proxy = Proxy(folder / f"nginx-{number}", variant, server, silence_s)
            stack.callback(proxy.stop)
            proxy.start()
            urls[variant] = proxy.url
        yield urls
