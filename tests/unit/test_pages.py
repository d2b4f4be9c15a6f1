"""The pages for people: written from the code where they say so, and leading nowhere that isn't there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.api.documents.settings import settings_page
from app.settings import Settings, variable_name
from tests.servers import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
VARIABLES = {variable_name(field) for field in Settings.model_fields}
NO_SETTINGS = {"ATELIER_PUBLIC_URL", "ATELIER_RESIDENT_CHECKPOINTS", "ATELIER_CODE_MAX_"}
"""A name of before, one that is gone, and the beginning of several."""


def headings(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {_anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_page_of_settings_is_the_one_that_the_settings_make() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text())
    targets = [((page.parent / link).resolve() if link else page, anchor) for link, anchor in links]
    assert [target for target, _ in targets if not target.exists()] == []
    assert [anchor for target, anchor in targets if anchor and anchor not in headings(target)] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".env.example"], ids=lambda page: page.name)
def test_each_file_and_setting_that_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    files = re.findall(r"`((?:app|bench|deploy|docs|migrations|tests|workers|workflows)/[\w./-]+)`", text)
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert set(re.findall(r"\bATELIER_(?!HTTP_PORT|KEY\b)[A-Z0-9_]+", text)) - VARIABLES - NO_SETTINGS == set()


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        links = re.findall(r"\]\((?!https?:)([^)#\s]+\.md)", page.read_text())
        ahead += {(page.parent / link).resolve() for link in links} - reached
    assert set(PAGES) - reached == set()


def test_the_architecture_names_every_module_of_the_runs() -> None:
    rows = re.findall(r"^\| [\w ']+ \| (`.*) \|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(file.stem for file in (ROOT / "app/runs").glob("[a-z]*.py"))
