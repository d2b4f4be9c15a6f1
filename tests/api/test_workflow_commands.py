"""`atelier workflows`: a document goes in as an app with a key, and comes out as it went in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT, Atelier, run_command

ECHO = (ROOT / "workflows" / "echo.yml").read_text()
_DECLARED = """environment_variables:
  - {id: a, name: token, value: '', value_type: secret, selector: [env, token]}
  - {id: b, name: size, value: 3, value_type: number, selector: [env, size]}"""
_BOUND = """
        - {variable: token, value_selector: [env, token]}
        - {variable: size, value_selector: [env, size]}
        - variable: text
          value_selector: [start, text]"""
SECRETIVE = (
    ECHO.replace("{{ text }}", "{{ text }} {{ token }} {{ size }}")
    .replace("environment_variables: []", _DECLARED)
    .replace("\n        - variable: text\n          value_selector: [start, text]", _BOUND)
)


def refused(server: Atelier, *words: str) -> str:
    """What a command prints that ends with status 1."""
    done = run_command(server.env, "workflows", *words)
    assert done.status == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def key_in(printed: str) -> str:
    found = re.search(r"^Key: (app-[A-Za-z0-9]{24})$", printed, re.M)
    assert found, printed
    return found[1]


def test_an_import_is_an_app_with_a_key(web: Atelier, tmp_path: Path) -> None:
    (tmp_path / "imported.yml").write_text(ECHO)
    key = key_in(web.cli("workflows", "import", str(tmp_path / "imported.yml")))
    assert web.run({"text": "hello"}, key).json()["data"]["outputs"] == {"text": "hello"}


def test_an_export_is_the_file_again(web: Atelier, tmp_path: Path) -> None:
    file, back = tmp_path / "exact.yml", tmp_path / "back.yml"
    file.write_bytes(f"# eigene Bemerkung: 胸有成竹\r\n{ECHO}\r\n\r\n".encode())
    web.cli("workflows", "import", str(file))
    web.cli("workflows", "export", "exact", "--out", str(back))
    assert back.read_bytes() == file.read_bytes()
    printed = subprocess.run(
        [sys.executable, "-m", "app", "workflows", "export", "exact"], env=web.env, cwd=ROOT, capture_output=True
    )
    assert printed.stdout == file.read_bytes()


def test_an_import_into_an_app_is_a_new_version_and_the_old_one_stays(web: Atelier, tmp_path: Path) -> None:
    file = tmp_path / "grown.yml"
    file.write_text(ECHO)
    web.cli("workflows", "import", str(file))
    file.write_text(ECHO + "# grown\n")
    assert "Key: " not in web.cli("workflows", "import", str(file))
    web.cli("workflows", "import", str(file))  # the same again is no version
    newest, oldest = web.cli("workflows", "list", "--app", "grown").splitlines()[1:]
    assert web.cli("workflows", "export", "grown", "--version", newest.split()[1]).endswith("# grown")
    assert "grown" not in web.cli("workflows", "export", "grown", "--version", oldest.split()[1])
    assert newest.split()[1] in web.cli("workflows", "list")
    assert "has no version" in refused(web, "export", "text-to-image", "--version", oldest.split()[1])


def test_a_secret_is_given_once_and_stays_out_of_the_export(web: Atelier, tmp_path: Path) -> None:
    file = tmp_path / "secretive.yml"
    file.write_text(SECRETIVE)
    printed = web.cli("workflows", "import", str(file))
    key = key_in(printed)
    for said in (printed, web.cli("workflows", "check", str(file))):
        assert "the secret 'token' has no value: give it with --env token=VALUE" in said
    assert "has no value" not in web.cli("workflows", "check", str(file), "--env", "token=s3cr3t")
    assert "has no value" not in web.cli("workflows", "import", str(file), "--env", "token=s3cr3t", "--env", "size=5")
    file.write_text(SECRETIVE.replace("{{ size }}", "{{ size }} again"))
    assert "has no value" not in web.cli("workflows", "publish", str(file))
    told = {"text": "a s3cr3t 5 again"}
    web.until("the newest runs", lambda: web.run({"text": "a"}, key).json()["data"]["outputs"] == told)
    assert "s3cr3t" not in web.cli("workflows", "export", "secretive")


def test_a_wrong_value_is_refused_with_the_names_that_there_are(web: Atelier, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yml"
    file.write_text(SECRETIVE)
    printed = refused(web, "import", str(file), "--env", "size=big", "--env", "tokn=x")
    assert "environment variable 'size' is a number, got 'big'" in printed
    assert "no environment variable 'tokn'; it declares: size, token" in printed
    assert "An --env is NAME=VALUE" in refused(web, "import", str(file), "--env", "size")
    assert "wrong" not in web.cli("workflows", "list")


def test_what_cannot_run_is_not_published_and_told_all_its_problems(web: Atelier, tmp_path: Path) -> None:
    file = tmp_path / "two.yml"
    broken = ECHO.replace("type: template-transform", "type: agent").replace("title: Finish", "title: '[bold]End'")
    file.write_text(broken.replace("value_selector: [repeat, output]", "value_selector: 7"))
    for command in ("import", "check"):
        printed = refused(web, command, str(file))
        assert "2 problems" in printed
        assert "  problem: node 'repeat' (Repeat): kind 'agent' is not supported: agent strategies" in printed
        assert "  problem: node 'finish' ([bold]End): 'text' needs a selector" in printed
    assert "two" not in web.cli("workflows", "list")


def test_a_warning_does_not_keep_a_document_from_running(web: Atelier, tmp_path: Path) -> None:
    file = tmp_path / "odd.yml"
    file.write_text(ECHO.replace("version: 0.6.0", "version: 0.9.0"))
    for command in ("import", "check"):
        assert "warning: the document is of version 0.9.0" in web.cli("workflows", command, str(file))


def test_an_app_that_another_calls_is_named_while_it_is_not_there(web: Atelier, tmp_path: Path) -> None:
    document = (ROOT / "tests/documents/0.3.0-workflow-tool.yml").read_text()
    (tmp_path / "calls.yml").write_text(document.replace("0.1.0-greeting", "welcome"))
    said = "warning: it calls the app 'welcome', which is not here: import that too"
    assert said in web.cli("workflows", "import", str(tmp_path / "calls.yml"))
    web.cli("workflows", "import", str(ROOT / "tests/documents/0.1.0-greeting.yml"), "--app", "welcome")
    assert said not in web.cli("workflows", "import", str(tmp_path / "calls.yml"))


def test_a_model_that_is_not_installed_is_named(web: Atelier) -> None:
    said = web.cli("workflows", "check", str(ROOT / "tests/documents/0.1.0-a-model-behind-each-branch.yml"))
    assert "(dosmix_): model 'dosmix_' is not installed: 'atelier-shapes' paints instead; ATELIER_CHECKPOINT" in said


def test_a_model_that_nobody_answers_for_is_named(web: Atelier, tmp_path: Path) -> None:
    document = (ROOT / "workflows" / "text-to-image-translated.yml").read_text()
    assert "warning" not in web.cli("workflows", "check", str(ROOT / "workflows" / "text-to-image-translated.yml"))
    file = tmp_path / "asks.yml"
    file.write_text(document.replace("endpoint_required: false", "endpoint_required: true"))
    for command in ("import", "check"):
        printed = web.cli("workflows", command, str(file))
        assert "warning: node 'translate' (Translate): No endpoint is configured for the model 'gpt-4o-mini'" in printed


def test_what_is_not_there_is_named(web: Atelier, tmp_path: Path) -> None:
    assert "There is no app named nobody. Apps: " in refused(web, "export", "nobody")
    assert "/no/a.yml can't be written: No such" in refused(web, "export", "text-to-image", "--out", "/no/a.yml")
    assert "There is no app named nobody. Apps: " in refused(web, "list", "--app", "nobody")
    assert "A site has no 'colour'. It has: title, " in refused(web, "site", "text-to-image", "colour=red")
    assert "These are true or false: " in refused(web, "site", "text-to-image", "show_workflow_steps=perhaps")
    assert "can't be read" in refused(web, "import", str(tmp_path / "none.yml"))
