"""One set of commands: the tasks of pyproject.toml are what hooks, the workflow and the contributors' page name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TASKS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["poe"]["tasks"]
SETTING_UP = r"python3 -m venv \.venv && .*"


def test_every_task_says_what_it_does() -> None:
    assert all(task["help"] for task in TASKS.values())


def test_the_contributors_page_and_that_of_the_checks_list_every_task() -> None:
    for page in (ROOT / ".github" / "CONTRIBUTING.md", ROOT / ".ci" / "README.md"):
        assert re.findall(r"^\| `poe (\w+)` \|", page.read_text(), re.MULTILINE) == list(TASKS), page


def test_hooks_run_tasks_with_the_tools_of_the_checkout() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    for hook in hooks[0]["hooks"]:
        assert hook["entry"].removeprefix(".venv/bin/poe ") in TASKS
        assert hook["language"] == "system"


def test_the_workflow_runs_what_a_change_must_pass_and_the_command_of_the_readme() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    commands = {step.get("run") for job in jobs.values() for step in job["steps"]}
    written = [line for line in (ROOT / "README.md").read_text().splitlines() if re.fullmatch(SETTING_UP, line)]
    assert {".ci/run", written[-1]} <= commands
    assert written[-1] in (ROOT / ".ci" / "run").read_text()
