"""`postroom worker`: what keeps it from starting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import CommandLine


UNUSABLE = {
    "missing/postroom.db": "its folder does not exist; make it",
    "text.db": "not a database; name another file in [outbox] url",
    "folder.db": "unable to open",
}


@pytest.mark.parametrize("file", UNUSABLE)
def test_an_outbox_that_cannot_be_used_ends_it_with_what_to_do(command: CommandLine, tmp_path: Path, file: str) -> None:
    (tmp_path / "text.db").write_text("no database at all, but a text of some length" * 100)
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "postroom.toml").write_text(f'[accounts.m]\nprovider = "memory"\n[outbox]\nurl = "sqlite:///{file}"\n')
    for arguments in (("worker", "--until-empty"), ("send", "sms", "--to", "+15005550009", "--body", "x", "--enqueue")):
        done = command(*arguments)
        assert done.code == 1, done.err
        assert UNUSABLE[file] in done.err
        assert "Traceback" not in done.err


def test_an_engine_that_is_not_there_is_refused_with_what_to_write(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text('[outbox]\nurl = "mysql://host/db"\n')
    done = command("worker", "--until-empty")
    assert done.code == 2
    assert done.err.startswith("error: outbox.url: must look like sqlite:///postroom.db")
