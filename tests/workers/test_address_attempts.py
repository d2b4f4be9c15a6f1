"""Attempts to make a worker ask what only it can reach: each with a real server, a real worker, and a real treasure.

The treasure lies on this machine, at ports that are not in reach. One site beside it is: it stands for any site of the
Internet, and leads astray. A public address that nobody answers at would show nothing, so there is none here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import ROOT, Atelier, running
from tests.sites import Page, Site, redirect, site
from tests.unit.drawing import draw, end, field, node, start

# {t} is the treasure's port, {s} the port of the site that is in reach.
LITERALS = [
    "http://127.0.0.1:{t}/",
    "HTTP://127.0.0.1:{t}/",
    "http://127.1:{t}/",
    "http://127.0.1:{t}/",
    "http://2130706433:{t}/",
    "http://0x7f000001:{t}/",
    "http://0x7f.1:{t}/",
    "http://0177.0.0.1:{t}/",
    "http://017700000001:{t}/",
    "http://127.0.0.1.:{t}/",
    "http://127.0.0.2:{t}/",
    "http://127.255.255.254:{t}/",
    "http://0:{t}/",
    "http://0.0.0.0:{t}/",
    "http://[::1]:{t}/",
    "http://[::]:{t}/",
    "http://[0:0:0:0:0:0:0:1]:{t}/",
    "http://[::ffff:127.0.0.1]:{t}/",
    "http://[::ffff:7f00:1]:{t}/",
    "http://[::127.0.0.1]:{t}/",
    "http://[64:ff9b::7f00:1]:{t}/",
    "http://[2002:7f00:1::]:{t}/",
    "http://[2606:4700::5efe:127.0.0.1]:{t}/",
    "http://[::1%25lo]:{t}/",
    "http://localhost:{t}/",
    "http://LOCALHOST:{t}/",
    "http://localhost.:{t}/",
    "http://ip6-localhost:{t}/",
    "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:{t}/",
    "http://127\u30020\u30020\u30021:{t}/",
    "http://me@127.0.0.1:{t}/",
    "http://8.8.8.8@127.0.0.1:{t}/",
    "http://127.0.0.1:{t}#@8.8.8.8/",
    "http://8.8.8.8\\@127.0.0.1:{t}/",
    "http://127.0.0.1:{t}?@8.8.8.8/",
    "http://127.0.0.2:{s}/",
]
NEIGHBOURS = [
    "http://169.254.169.254/latest/meta-data/",
    "http://0xa9fea9fe/",
    "http://2852039166/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[fd00:ec2::254]/",
    "http://169.254.170.2/v2/credentials",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[fc00::1]/",
    "http://[fe80::1]/",
    "http://[ff02::1]/",
]
NAMES = {
    "inside.test": [["127.0.0.1"]],
    "inside-six.test": [["::1"]],
    "mapped.test": [["::ffff:127.0.0.1"]],
    "mixed.test": [["8.8.8.8", "127.0.0.1"]],
    "metadata.google.internal": [["169.254.169.254"]],
    "neighbour.test": [["10.0.0.1"]],
    "lure.test": [["127.0.0.1"]],
    # In reach when it is looked at, somewhere else when it is looked at again.
    "turning.test": [["127.0.0.1"], ["127.0.0.2"]],
    "turning-later.test": [["127.0.0.1"], ["127.0.0.2"]],
}
REDIRECTS = {
    "/301": redirect("http://127.0.0.1:{t}/", 301),
    "/302": redirect("http://127.0.0.1:{t}/", 302),
    "/303": redirect("http://127.0.0.1:{t}/", 303),
    "/307": redirect("http://127.0.0.1:{t}/", 307),
    "/308": redirect("http://127.0.0.1:{t}/", 308),
    "/local": redirect("http://localhost:{t}/"),
    "/six": redirect("http://[::1]:{t}/"),
    "/mapped": redirect("http://[::ffff:127.0.0.1]:{t}/"),
    "/relative": redirect("//127.0.0.1:{t}/"),
    "/number": redirect("http://2130706433:{t}/"),
    "/named": redirect("http://inside.test:{t}/"),
    "/secrets": redirect("http://169.254.169.254/latest/meta-data/"),
    "/twice": redirect("/302"),
    "/file": redirect("file:///etc/passwd"),
    "/gopher": redirect("gopher://127.0.0.1:{t}/_GET"),
    "/turn": redirect("http://turning-later.test:{s}/"),
}
OTHER_SCHEMES = [
    "file:///etc/passwd",
    "ftp://127.0.0.1:{t}/",
    "gopher://127.0.0.1:{t}/_GET",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "unix:///var/run/docker.sock",
    "//127.0.0.1:{t}/",
    "\\\\127.0.0.1\\c$",
]


class Ground:
    """The server under attack, the site in reach, and the treasures, which nobody may ever have asked."""

    def __init__(self, server: Atelier, key: str, lure: Site, treasures: list[Site]) -> None:
        self.server = server
        self.key = key
        self.lure = lure
        self.treasures = treasures

    def url(self, text: str) -> str:
        return text.replace("{t}", str(self.treasures[0].port)).replace("{s}", str(self.lure.port))

    def attempt(self, url: str) -> str:
        """What the run says of its failure. The treasure must be untouched."""
        run = self.server.run({"url": self.url(url)}, self.key).json()["data"]
        assert run["status"] == "failed", run["outputs"]
        assert [treasure.visits for treasure in self.treasures] == [[] for _ in self.treasures]
        return str(run["error"])


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("ground")
    ask = node("ask", "http-request", method="get", url="{{#start.url#}}", timeout={"connect": 2, "read": 5})
    document = folder / "ask.yml"
    document.write_text(draw([start(field("url")), ask, end(body=["ask", "body"])], ["start > ask", "ask > end"]))
    gold = {"/": Page(b"gold")}
    with ExitStack() as stack:
        first = stack.enter_context(site(gold))
        lure = stack.enter_context(site({"/": Page(b"welcome")}))
        treasures = [first, stack.enter_context(site(gold, "::1", first.port))]
        treasures.append(stack.enter_context(site(gold, "127.0.0.2", lure.port)))
        ports = {"{t}": str(first.port), "{s}": str(lure.port)}
        for path, page in REDIRECTS.items():
            lure.pages[path] = redirect(filled(page.headers["Location"], ports), page.status)
        env_too = {
            "PYTHONPATH": f"{Path(__file__).parent / 'names'}:{ROOT}",
            "ATTEMPTED_NAMES": json.dumps(NAMES),
            "HTTP_PROXY": f"http://127.0.0.1:{first.port}",
            "ALL_PROXY": f"http://127.0.0.1:{first.port}",
        }
        settings = {"worker_module": "tests.chaos.painter", "outbound_allow": f"127.0.0.1:{lure.port}"}
        server = stack.enter_context(running(folder, env_too=env_too, **settings))
        server.until_ready()
        yield Ground(server, server.app_key(document), lure, treasures)


def filled(text: str, ports: dict[str, str]) -> str:
    for name, port in ports.items():
        text = text.replace(name, port)
    return text


def test_the_site_in_reach_is_reached(ground: Ground) -> None:
    """Without this, all that follows would pass with the network unplugged."""
    run = ground.server.run({"url": ground.lure.url()}, ground.key).json()["data"]
    assert run["outputs"] == {"body": "welcome"}, run["error"]


@pytest.mark.parametrize("url", LITERALS)
def test_this_machine_is_not_asked_however_its_address_is_written(ground: Ground, url: str) -> None:
    said = ground.attempt(url)
    assert "is not public" in said or "can't be resolved" in said or "The URL can't be used" in said, said


@pytest.mark.parametrize("url", NEIGHBOURS)
def test_neighbours_and_clouds_secrets_are_not_asked(ground: Ground, url: str) -> None:
    assert "is not public" in ground.attempt(url)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("turning", "lure"))])
def test_a_name_does_not_lead_there_either(ground: Ground, name: str) -> None:
    assert "is not public" in ground.attempt(f"http://{name}:{{t}}/")


@pytest.mark.parametrize("path", [path for path in REDIRECTS if not path.startswith("/turn")])
def test_no_redirect_leads_there(ground: Ground, path: str) -> None:
    said = ground.attempt(ground.lure.url(path))
    assert "is not public" in said or "does not begin with http" in said, said


@pytest.mark.parametrize("url", OTHER_SCHEMES)
def test_nothing_but_http_is_spoken(ground: Ground, url: str) -> None:
    assert ground.attempt(url) == "url should start with http:// or https://"


def test_what_was_judged_is_what_is_connected_to(ground: Ground) -> None:
    """The name has another address by the time that somebody could ask for it again."""
    run = ground.server.run({"url": ground.url("http://turning.test:{s}/")}, ground.key).json()["data"]
    assert run["outputs"] == {"body": "welcome"}, run["error"]
    assert "is not public" in ground.attempt("http://turning.test:{s}/")


def test_each_hop_is_judged_anew(ground: Ground) -> None:
    ground.lure.pages["/"] = redirect(ground.url("http://turning-later.test:{s}/"))
    try:
        assert "is not public" in ground.attempt("http://127.0.0.1:{s}/turn")
    finally:
        ground.lure.pages["/"] = Page(b"welcome")


def test_another_server_does_not_see_what_was_sent_to_the_first(ground: Ground, tmp_path: Path) -> None:
    """A site in reach leads to itself under another name: that is another server."""
    headers = "X-Api-Key: sk-1\nCookie: session=2\nAccept: text/html"
    ask = node("ask", "http-request", method="get", url=ground.lure.url("/elsewhere"), headers=headers)
    (tmp_path / "led.yml").write_text(draw([start(), ask, end(body=["ask", "body"])], ["start > ask", "ask > end"]))
    ground.lure.pages["/elsewhere"] = redirect(f"http://lure.test:{ground.lure.port}/")
    run = ground.server.run({}, ground.server.app_key(tmp_path / "led.yml")).json()["data"]
    assert run["outputs"] == {"body": "welcome"}, run["error"]
    first, second = ground.lure.visits[-2:]
    assert (first.headers["x-api-key"], first.headers["cookie"]) == ("sk-1", "session=2")
    assert not {"x-api-key", "cookie"} & second.headers.keys()
    assert second.headers["accept"] == "text/html"
