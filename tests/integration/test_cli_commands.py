"""Every other command once as a process of its own; what each makes of its arguments is tested in tests/unit/cli."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import CommandLine, Site

MEMORY = '[accounts.m]\nprovider = "memory"\nfrom = "post@example.org"\n'
DOWN = '[accounts.down]\nprovider = "smtp"\nhost = "127.0.0.1"\nport = 1\n'


def test_the_starter_file_works_as_it_is(command: CommandLine) -> None:
    assert command.process("init").code == 0
    done = command.process("send", "sms", "--to", "+442079460958", "--body", "Hello")
    assert done.code == 0
    assert "Hello" in done.err
    assert command.process("init").code == 2


def test_what_is_looked_at_is_alone_on_standard_output(command: CommandLine) -> None:
    command.configure(MEMORY)
    for arguments in (("providers",), ("config", "show"), ("config", "schema"), ("suppressions", "list")):
        done = command.process(*arguments, *(("--json",) if "schema" not in arguments else ()))
        if "suppressions" in arguments:
            assert (done.code, done.json["error"]) == (1, "outbox_error")
        else:
            assert done.code == 0, done.err
        assert done.json


def test_check_exits_with_one_when_an_account_could_not_send(command: CommandLine) -> None:
    command.configure(MEMORY + DOWN)
    assert command.process("check").code == 1
    assert command.process("check", "m").code == 0


def test_a_suppressed_recipient_exits_with_one(command: CommandLine) -> None:
    command.configure(MEMORY)
    assert command.process("suppressions", "add", "ann@example.org").code == 0
    assert command.process("send", "email", "--to", "ann@example.org", "--text", "x", "--provider", "m").code == 1


def test_the_demo_needs_no_way_out_and_nothing_that_is_configured(command: CommandLine) -> None:
    command.configure("[nonsense]\n")
    proxy = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy"), "http://127.0.0.1:1")
    done = command.process("demo", env={**proxy, "TWILIO_ACCOUNT_SID": "AC7", "POSTROOM_ACCOUNTS__MAIL__PORT": "1"})
    assert done.code == 0, done.everything
    assert "Everything arrived as meant." in done.out


def test_an_installed_extension_adds_a_command(command: CommandLine, site: Site) -> None:
    code = """
        import typer
        from postroom.plugin import hookimpl

        @hookimpl
        def postroom_commands(app):
            @app.command()
            def greet(name: str = "you"):
                typer.echo(f"hello {name}")
    """
    site.add("some-extensions", extensions={"good": "good_module"}, modules={"good_module": code})
    command.configure('[plugins]\nextensions = ["good"]\n')
    assert command.process("greet", "--name", "Ann", env={"PYTHONPATH": str(site.folder)}).out == "hello Ann\n"


def test_help_imports_neither_pydantic_nor_rich_nor_a_provider() -> None:
    code = (
        "import sys\nfrom postroom.cli.app import build\n"
        "sys.argv = ['postroom', '--help']\n"
        "try:\n    build()()\nexcept SystemExit:\n    pass\n"
        "heavy = {'pydantic', 'rich', 'asyncio', 'aiohttp', 'phonenumbers'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert done.stderr.strip().endswith("[]"), done.stderr


def test_nothing_is_imported_from_the_folder_in_which_it_is_started(command: CommandLine) -> None:
    for module in ("typer", "email", "thief"):
        (command.folder / f"{module}.py").write_text("raise SystemExit('taken over')")
    thief = command.folder / "thief-1.0.dist-info"
    thief.mkdir()
    (thief / "METADATA").write_text("Metadata-Version: 2.1\nName: thief\nVersion: 1.0\n")
    (thief / "entry_points.txt").write_text("[postroom]\nthief = thief\n")
    assert command.process("--version").out.startswith("postroom ")
    found = command.process("providers", "--json")
    assert found.code == 0, found.err
    assert "thief" not in {provider["name"] for provider in found.json}


def test_the_version_is_shown(command: CommandLine) -> None:
    assert command.process("--version").out.startswith("postroom ")
