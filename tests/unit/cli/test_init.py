"""`postroom init`: a first configuration."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import CommandLine


def test_the_starter_file_works_as_it_is(command: CommandLine, tmp_path: Path) -> None:
    assert command("init").code == 0
    done = command("send", "sms", "--to", "+442079460958", "--body", "Hello")
    assert done.code == 0
    assert "Hello" in done.err

    again = command("init")
    assert again.code == 2
    assert "--force" in again.err
    assert command("init", "--force").code == 0


def test_every_commented_setting_of_the_starter_file_is_one(command: CommandLine, tmp_path: Path) -> None:
    command("init")
    opened = re.sub(r"^# (\[|[a-z_]+ = )", r"\1", (tmp_path / "postroom.toml").read_text(), flags=re.MULTILINE)
    (tmp_path / "postroom.toml").write_text(opened)
    tomllib.loads(opened)
    env = {"SMTP_PASSWORD": "x", "SENDGRID_API_KEY": "x", "TWILIO_AUTH_TOKEN": "x"}
    done = command("config", "show", "--json", env=env)
    assert done.code == 0, done.err
    assert set(done.json["accounts"]) == {"screen", "main", "sg", "texts"}
