"""Every block of code in the documentation runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroom.config import load_config
from postroom.registry import Registry
from postroom.room import Postroom

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("plugins/*/README.md"))]
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]*?)-->\n)?```(?P<kind>\w*)\n(?P<code>.*?)```", re.DOTALL)

CONFIGURATIONS = {
    "empty": "",
    "memory": '[defaults]\nemail = "box"\nsms = "box"\n[accounts.box]\nprovider = "memory"\nfrom = "post@example.org"\n',
    "console": '[defaults]\nemail = "box"\n[accounts.box]\nprovider = "console"\nfrom = "post@example.org"\n',
}
SETUP_LINES = ("python3 -m venv",)
"""What CI itself runs, before it runs this."""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    mark: str
    kind: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*kinds: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            line = text[: match.start("code")].count("\n")
            block = Block(page, line, (match["mark"] or "").strip(), match["kind"], match["code"])
            if block.kind in kinds:
                found.append(block)
    return found


@pytest.fixture
def environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("POSTROOM_", "TWILIO_", "VONAGE_", "SENDGRID_", "SMTP_")):
            monkeypatch.delenv(name)
    for name in ("SMTP_PASSWORD", "SENDGRID_API_KEY", "TWILIO_AUTH_TOKEN", "VONAGE_API_SECRET"):
        monkeypatch.setenv(name, "secret")


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_a_python_block_runs(block, tmp_path, environment):
    kind, _, name = block.mark.partition(": ")
    assert kind == "run", f"{block} has no <!-- run: … --> before it"
    (tmp_path / "postroom.toml").write_text(CONFIGURATIONS[name])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.code], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_a_configuration_block_loads_with_every_account(block, tmp_path, environment):
    if block.mark.startswith("not configuration") or "project.entry-points" in block.code:
        import tomllib

        assert tomllib.loads(block.code)
        return
    file = tmp_path / "postroom.toml"
    file.write_text(block.code)
    Postroom(load_config(file)).validate()


@pytest.mark.parametrize("block", blocks("sh", "console", "bash"), ids=str)
def test_every_postroom_command_line_works(block, tmp_path, environment):
    name, _, content = block.mark.removeprefix("file: ").partition("\n")
    if content:
        (tmp_path / name).write_text(content)
    configuration = tmp_path / "postroom.toml"
    for line in block.code.splitlines():
        words = shlex.split(line, comments=True)
        if not words or line.startswith(SETUP_LINES) or words[:2] == ["pip", "install"]:
            continue
        assert words[0] == "postroom", f"{block}: {line}"
        if words[1] == "init":
            configuration.unlink(missing_ok=True)
        elif not configuration.exists():
            configuration.write_text(CONFIGURATIONS["memory"])
        if "recipients.csv" in words and not (tmp_path / "recipients.csv").exists():
            (tmp_path / "recipients.csv").write_text("to,subject,text\nann@example.org,Hello,Hi\n")
        done = subprocess.run(
            [sys.executable, "-m", "postroom", *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=50
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_no_block_is_of_a_kind_that_nothing_runs():
    known = {"python", "toml", "sh", "console", "bash", "text", "csv", "json"}
    for page in PAGES:
        for match in BLOCK.finditer(page.read_text()):
            assert match["kind"] in known, f"{page}: a block of kind {match['kind']!r}"


def test_the_readmes_test_command_is_what_ci_runs():
    command = "python3 -m venv .venv && .venv/bin/pip install -q -r .ci/tests.txt && .venv/bin/python -m pytest"
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


def test_every_page_is_reached_from_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in ROOT.glob("docs/**/*.md"):
        if page.name != "index.md":
            assert str(page.relative_to(ROOT / "docs")) in index


def test_all_four_providers_are_installed_for_these_tests():
    assert {"smtp", "sendgrid", "twilio", "vonage"} <= set(Registry().names())
