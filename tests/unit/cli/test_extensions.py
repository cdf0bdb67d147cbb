"""Commands that extensions add, and what a broken one may not do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import CommandLine, Site

Install = Callable[..., None]

HOOK = "import typer\nfrom postroom.plugin import hookimpl\n@hookimpl\ndef postroom_commands(app):\n"

GOOD = f"""{HOOK}
    @app.command()
    def greet(name: str = "you"):
        typer.echo(f"hello {{name}}")
"""

BROKEN = {
    "raises on import": "raise RuntimeError('broken')",
    "leaves on import": "raise SystemExit(7)",
    "raises in its hook": f"{HOOK}    raise RuntimeError('broken')",
    "leaves in its hook": f"{HOOK}    raise SystemExit(7)",
    "has a command that typer cannot read": f"{HOOK}    @app.command()\n    def odd(value: int | str): ...",
    "takes the name of a command": f"{HOOK}    @app.command()\n    def check(): typer.echo('mine')",
}

_numbers = count(1)


@pytest.fixture
def install(site: Site, command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make extensions of module texts, each a module never seen before, and name them in the configuration."""
    monkeypatch.syspath_prepend(str(site.folder))

    def laid_out(**modules: str) -> None:
        names = {name: f"{name}_extension_{next(_numbers)}" for name in modules}
        site.add("some-extensions", extensions=names, modules={names[name]: text for name, text in modules.items()})
        listed = ", ".join(f'"{name}"' for name in modules)
        command.configure(f"[plugins]\nextensions = [{listed}]\n")

    return laid_out


def test_an_extension_adds_a_command(command: CommandLine, install: Install) -> None:
    install(good=GOOD)
    assert command("greet", "--name", "Ann").out == "hello Ann\n"
    assert "greet" in command("--help").out


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_extension_harms_no_other_command(command: CommandLine, install: Install, text: str) -> None:
    install(bad=text, good=GOOD)

    assert command("greet").out == "hello you\n"
    listed = command("providers", "--json")
    assert listed.code == 0
    assert {"memory", "smtp"} <= {provider["name"] for provider in listed.json}
    assert "extension 'bad' adds no commands" in listed.err
    assert len(listed.err.splitlines()) == 1
    assert "mine" not in command("check", "--help").out


def test_an_extension_that_is_not_there_does_not_break_other_commands(command: CommandLine) -> None:
    command.configure('[plugins]\nextensions = ["missing"]\n')
    done = command("providers", "--json")
    assert done.code == 0
    assert done.json
    assert "extension 'missing' adds no commands" in done.err


def test_an_extension_that_the_configuration_does_not_name_is_not_loaded(
    command: CommandLine, install: Install, tmp_path: Path
) -> None:
    install(good=GOOD)
    (tmp_path / "postroom.toml").unlink()
    done = command("greet")
    assert done.code == 2
    assert "No such command 'greet'" in done.err


def test_extensions_may_be_named_in_the_environment_or_in_another_file(
    command: CommandLine, install: Install, tmp_path: Path
) -> None:
    install(good=GOOD)
    (tmp_path / "postroom.toml").rename(tmp_path / "other.toml")
    assert command("--config", "other.toml", "greet").out == "hello you\n"
    assert command("--config=other.toml", "greet").out == "hello you\n"
    assert "greet" in command("--config", "other.toml", "--help").out
    assert command("greet", env={"POSTROOM_CONFIG": "other.toml"}).out == "hello you\n"
    assert command("greet", env={"POSTROOM_PLUGINS__EXTENSIONS": "good"}).out == "hello you\n"


@pytest.mark.parametrize("text", [b"[plugins", b"plugins = 1", b"[plugins]\nextensions = 5", b"[other]", b"\xff"])
def test_a_configuration_that_cannot_be_read_is_the_commands_to_explain(command: CommandLine, text: bytes) -> None:
    (command.folder / "postroom.toml").write_bytes(text)
    assert command("init", "another.toml").code == 0
    refused = command("send", "sms", "--to", "+442079460958", "--body", "x")
    assert refused.code == 2
    assert refused.err.startswith("error: ")
