"""Every block of code in the documentation runs.

A comment before a block says how: `<!-- run: NAME -->` gives Python one of CONFIGURATIONS as its `postroom.toml`,
`<!-- file: NAME … -->` puts a file where commands run, and `<!-- not configuration: REASON -->` marks TOML that is part
of something larger; test_guides.py runs that. For `<!-- run: postgres -->` the outbox is in the database that
DATABASE_URL names.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.postgres_server import fresh_schema, server

from postroom.client import Postroom
from postroom.config import load_config
from postroom.registry.registry import Registry

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("plugins/*/README.md"))]
PAGES += sorted(ROOT.glob(".github/**/*.md"))
BLOCK = re.compile(r"^(?:<!-- (?P<mark>[^>]*?)-->\n)?```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)

CONFIGURATIONS = {
    "empty": "",
    "memory": '[defaults]\nemail = "box"\nsms = "box"\n[accounts.box]\nprovider = "memory"\nfrom = "post@example.org"\n',
    "console": '[defaults]\nemail = "box"\n[accounts.box]\nprovider = "console"\nfrom = "post@example.org"\n',
}
PREPARE = "python3 -m venv .venv && .venv/bin/pip install -q -r"
SETS_UP = {
    f"{PREPARE} .ci/workspace.txt && .venv/bin/postroom demo",
    f"{PREPARE} .ci/tests.txt && .venv/bin/python -m pytest",
}
"""The two commands of the README. The second runs this; tests/packaging runs `postroom demo`."""

PARTS = {"README.md": 1, "docs/explanation/plugins.md": 2, "docs/how-to/extensions.md": 1}
PARTS |= {"docs/plugins/writing-a-provider.md": 1, "docs/plugins/tutorial.md": 1}
"""How many TOML blocks of each page are part of something larger."""

DATABASE = "postgresql://postroom@db.example.org/mail"
"""What commands name as a database is one of the tests' own server."""

WALKED = "walked by tests/packaging"
"""Marks commands that need the built wheels: test_new_provider.py runs each line of them, in order."""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    mark: str
    kind: str
    code: str

    @property
    def page_name(self) -> str:
        return str(self.page.relative_to(ROOT))

    def __str__(self) -> str:
        return f"{self.page_name}:{self.line}"


def blocks(kind: str = "") -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            line = text[: match.start("code")].count("\n")
            found.append(Block(page, line, (match["mark"] or "").strip(), match["kind"], match["code"]))
    return [block for block in found if not kind or block.kind == kind]


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_a_python_block_runs(block: Block, tmp_path: Path, secrets: None) -> None:
    kind, _, name = block.mark.partition(": ")
    assert kind == "run", f"{block} has no <!-- run: … --> before it"
    environment = dict(os.environ)
    if name == "postgres":
        environment["DATABASE_URL"] = server()
        configuration = f'{CONFIGURATIONS["memory"]}[outbox]\nurl = "{fresh_schema()}"\n'
    else:
        configuration = CONFIGURATIONS[name]
    (tmp_path / "postroom.toml").write_text(configuration)
    command = [sys.executable, "-W", "error", "-c", block.code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", [b for b in blocks("toml") if not b.mark], ids=str)
def test_a_configuration_block_loads_with_every_account(
    block: Block, tmp_path: Path, secrets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sendgrid.key").write_text("secret\n")
    file = tmp_path / "postroom.toml"
    file.write_text(block.code)
    Postroom(load_config(file)).validate()


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in blocks("sh") if b.mark != WALKED], ids=str)
def test_every_command_line_works(block: Block, tmp_path: Path, secrets: None) -> None:
    name, _, content = block.mark.removeprefix("file: ").partition("\n")
    if content:
        (tmp_path / name).write_text(content)
    for line in block.code.splitlines():
        words = shlex.split(line)
        if line in SETS_UP:
            assert (ROOT / words[words.index("-r") + 1]).is_file()
        elif words[:2] == ["pip", "install"]:
            assert_installable(words[2:])
        else:
            assert words[0] == "postroom", f"{block}: {line}"
            run_postroom(words[1:], tmp_path)


def assert_installable(requirements: list[str]) -> None:
    """A folder of this repository, or an extra of the core: tests/packaging builds and installs each of them."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for requirement in requirements:
        name, _, chosen = requirement.removesuffix("]").partition("[")
        if name.startswith("."):
            assert (ROOT / name / "pyproject.toml").is_file()
        else:
            assert name == "postroom"
            assert set(chosen.split(",")) <= set(extras)


def run_postroom(arguments: list[str], folder: Path) -> None:
    configuration = folder / "postroom.toml"
    if arguments[0] == "init":
        configuration.unlink(missing_ok=True)
    elif not configuration.exists():
        configuration.write_text(CONFIGURATIONS["memory"])
    if "recipients.csv" in arguments and not (folder / "recipients.csv").exists():
        (folder / "recipients.csv").write_text("to,subject,text\nann@example.org,Hello,Hi\n")
    if "copy" in arguments:
        run_postroom(["send", "email", "--to", "ann@example.org", "--text", "Hi", "--enqueue"], folder)
        arguments = [fresh_schema() if argument == DATABASE else argument for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "postroom", *arguments], cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, f"{arguments}\n{done.stderr}"


def test_every_fence_belongs_to_a_block_of_a_kind_that_is_run() -> None:
    for page in PAGES:
        fences = [line for line in page.read_text().splitlines() if line.lstrip("> ").startswith(("```", "~~~"))]
        assert len(fences) == 2 * len([b for b in blocks() if b.page == page]), page
    assert {block.kind for block in blocks()} - {"mermaid"} == {"python", "toml", "sh"}


def test_only_so_many_blocks_are_part_of_something_larger_and_each_says_of_what() -> None:
    parts = [block for block in blocks("toml") if block.mark]
    assert all(re.fullmatch(r"not configuration: \w.+", block.mark) for block in parts)
    names = [block.page_name for block in parts]
    assert {name: names.count(name) for name in names} == PARTS


def test_only_the_authors_tutorial_is_walked_by_the_packaging_tests() -> None:
    assert {block.page_name for block in blocks("sh") if block.mark == WALKED} == {"docs/plugins/tutorial.md"}


def test_both_commands_of_the_readme_stand_there_and_ci_runs_the_second() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert set(lines) >= SETS_UP
    assert max(SETS_UP, key=lambda line: "pytest" in line) in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "tutorial.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_path_of_the_repository_that_a_page_names_is_there(page: Path) -> None:
    for path in re.findall(r"`((?:tests|src|plugins|docs|\.ci|\.github)/[\w./*-]+)`", page.read_text()):
        assert any(ROOT.glob(path.rstrip("/"))), path


@pytest.mark.parametrize("index", sorted(ROOT.glob("docs/**/index.md")), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_page_is_reached_from_the_index(index: Path) -> None:
    """A folder with an index of its own is reached through that; fragments of the changelog are no pages."""
    inner = {other.parent for other in ROOT.glob("docs/**/index.md")} - {index.parent}
    for page in index.parent.rglob("*.md"):
        if page == index or page.parent == ROOT / "docs" / "changelog":
            continue
        if page.parent not in inner or page.name == "index.md":
            assert f"({page.relative_to(index.parent)})" in index.read_text(), page


def test_all_four_providers_are_installed_for_these_tests() -> None:
    assert {"smtp", "sendgrid", "twilio", "vonage"} <= set(Registry().names())
