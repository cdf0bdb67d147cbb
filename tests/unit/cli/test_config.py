"""`postroom config show` and `config schema`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    from tests.conftest import CommandLine


CANARY = "canary-secret-never-to-be-shown"

SMTP = f"""
[accounts.main]
provider = "smtp"
host = "127.0.0.1"
username = "post"
password = "{CANARY}"
from = "post@example.org"
"""


def test_config_show_masks_secrets(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(SMTP)
    for arguments in (("config", "show"), ("config", "show", "--json")):
        done = command(*arguments)
        assert done.code == 0, done.err
        assert "**********" in done.out
        assert CANARY not in done.everything


def test_config_show_shows_the_sections_of_outbox_and_gateway_as_far_as_they_are_set(
    command: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "postroom.toml").write_text(
        '[outbox]\nurl = "sqlite:///post.db"\n[gateway]\nrate_limit = ["20/30s", "5000/d"]\n'
    )
    shown = command("config", "show", "--json").json
    assert shown["outbox"] == {"url": "sqlite:///post.db"}
    assert shown["gateway"] == {"rate_limit": ["20/30s", "5000/d"]}


def test_config_show_names_the_setting_that_is_wrong(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(SMTP.replace("username", "usernam"))
    done = command("config", "show")
    assert done.code == 2
    assert "accounts.main.usernam" in done.err
    assert "did you mean 'username'" in done.err


def test_the_schema_accepts_what_loads_and_refuses_what_does_not(command: CommandLine) -> None:
    schema = command("config", "schema").json
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert list(validator.iter_errors(tomllib.loads(SMTP))) == []
    fetched = SMTP.replace(f'"{CANARY}"', '{ env = "SMTP_PASSWORD" }')
    assert list(validator.iter_errors(tomllib.loads(fetched))) == []
    assert list(validator.iter_errors(tomllib.loads(SMTP.replace("host", "hots"))))
