"""Text for a terminal: whatever somebody calls something, it is shown and gives no orders."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.gateway.serving.server import PrintableFormatter
from postroom.terminal import printable

CLI = Path(__file__).parents[2] / "src" / "postroom" / "cli"


@given(st.text())
def test_nothing_in_a_text_acts_on_a_terminal(text: str) -> None:
    shown = printable(text)
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    assert "\n" not in printable(text, lines=False)
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["Zoë", "a\tb\nc", "日本", ""])
def test_what_is_harmless_stays(text: str) -> None:
    assert printable(text) == text


def test_control_and_direction_changing_characters_are_written_out() -> None:
    assert printable("\x1b[31mred\u202e\x9b\r\n\r") == "\\x1b[31mred\\u202e\\x9b\n\\x0d"


def test_the_log_of_the_service_keeps_each_record_on_its_line() -> None:
    record = logging.LogRecord("postroom", logging.WARNING, "", 0, "key %s", ("\x1b[2Jshop\nforged",), None)
    assert PrintableFormatter("%(message)s").format(record) == "key \\x1b[2Jshop\\x0aforged"


@pytest.mark.parametrize("path", sorted(CLI.rglob("*.py")), ids=lambda path: str(path.relative_to(CLI)))
def test_commands_print_through_one_place_only(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {ast.unparse(call) for call in calls}
    allowed = {"output.py", "tables.py"}
    assert path.name in allowed or names.isdisjoint({"print", "typer.echo", "typer.secho", "click.echo"})
