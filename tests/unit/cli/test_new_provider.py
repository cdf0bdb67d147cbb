"""`postroom new-provider`, as a command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import CommandLine


def test_it_says_what_it_wrote_and_where_the_authors_part_is(command: CommandLine, tmp_path: Path) -> None:
    done = command("new-provider", "acme", "--channel", "sms")
    assert done.code == 0, done.err
    assert done.out.startswith("wrote postroom-acme")
    open_places = {
        name: int(count) for name, count in re.findall(r"^  postroom-acme/(\S+): (\d+)$", done.out, re.MULTILINE)
    }
    assert open_places["src/postroom_acme/transport.py"] >= 3
    for name, count in open_places.items():
        assert (tmp_path / "postroom-acme" / name).read_text().count("FILL IN") == count
    assert "pip install --group dev -e postroom-acme" in done.out


def test_what_cannot_be_is_one_line_that_says_what_to_do_and_exit_code_two(
    command: CommandLine, tmp_path: Path
) -> None:
    for arguments, words in (
        (("Acme", "--channel", "sms"), "small letters"),
        (("twilio", "--channel", "sms"), "postroom-twilio"),
        (("acme", "--channel", "fax"), "'email', 'sms'"),
        (("acme",), "--channel"),
    ):
        done = command("new-provider", *arguments)
        assert done.code == 2
        assert words in done.err
        assert "Traceback" not in done.err
    assert list(tmp_path.glob("postroom-*")) == []


def test_a_second_time_the_folder_is_there_already(command: CommandLine) -> None:
    assert command("new-provider", "acme", "--channel", "email").code == 0
    done = command("new-provider", "acme", "--channel", "email")
    assert done.code == 2
    assert "is there already" in done.err
