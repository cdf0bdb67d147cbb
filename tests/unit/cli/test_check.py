"""`postroom check`: whether accounts could send now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import CommandLine


def test_check_reports_each_account_and_fails_when_one_does(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(
        '[accounts.m]\nprovider = "memory"\n[accounts.down]\nprovider = "smtp"\nhost = "127.0.0.1"\nport = 1\n'
    )
    done = command("check", "--json")
    assert done.code == 1
    assert done.json["m (email)"]["ok"]
    assert done.json["down"]["error"] == "provider_unreachable"
    assert command("check", "m").code == 0
    assert command("check", "nobody").code == 2
