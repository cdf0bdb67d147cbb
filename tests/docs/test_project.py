"""What contributors meet: forms that GitHub can read, fragments that make a changelog, records of one form."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
FRAGMENTS = sorted((ROOT / "docs" / "changelog").iterdir())
RECORDS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
FIELDS = {"input", "textarea", "dropdown", "checkboxes"}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_github_asks_of_one(form: Path) -> None:
    found = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= found.keys()
    fields = [part for part in found["body"] if part["type"] != "markdown"]
    assert {part["type"] for part in fields} <= FIELDS
    assert all(part["attributes"]["label"] for part in fields)
    ids = [part["id"] for part in fields]
    assert len(set(ids)) == len(ids)
    assert any(part.get("validations", {}).get("required") for part in fields)


def test_a_bug_report_asks_for_the_outcome_in_the_words_of_the_library() -> None:
    from postroom.errors import Outcome

    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text())
    asked = next(part for part in form["body"] if part.get("id") == "outcome")
    assert set(asked["attributes"]["options"]) == {"none", *Outcome}


def test_contributors_read_of_every_named_task_and_of_no_other() -> None:
    page = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
    listed = re.findall(r"^\| `poe (\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(pyproject()["tool"]["poe"]["tasks"])


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda path: path.name)
def test_a_fragment_of_the_changelog_is_named_for_its_issue_and_its_kind(fragment: Path) -> None:
    kinds = [kind["directory"] for kind in pyproject()["tool"]["towncrier"]["type"]]
    assert re.fullmatch(rf"(\d+|\+[a-z-]+)\.({'|'.join(kinds)})(\.\d+)?\.md", fragment.name)
    assert fragment.read_text().strip()


def test_the_changelogs_page_lists_the_kinds_that_there_are() -> None:
    kinds = [kind["directory"] for kind in pyproject()["tool"]["towncrier"]["type"]]
    page = (ROOT / "docs" / "changelog.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == kinds


def test_the_fragments_make_a_changelog() -> None:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "0.1.0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for fragment in FRAGMENTS:
        assert fragment.read_text().split("\n")[0] in done.stdout, fragment


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_decision_is_short_and_says_context_decision_figures_and_consequences(record: Path) -> None:
    text = record.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Figures", "Consequences"]
    assert 20 <= text.count("\n") <= 45
    assert text.startswith(f"# {record.name[:4]}: ")


def test_a_number_stands_for_one_decision() -> None:
    numbers = [record.name[:4] for record in RECORDS]
    assert sorted(set(numbers)) == numbers
