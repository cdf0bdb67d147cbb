from __future__ import annotations

from pathlib import Path
import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
from jsonschema import Draft202012Validator

CANARY = "canary-secret-never-to-be-shown"

SMTP = f"""
[accounts.main]
provider = "smtp"
host = "127.0.0.1"
username = "post"
password = "{CANARY}"
from = "post@example.org"
"""


def test_the_starter_file_works_as_it_is(cli, tmp_path: Path) -> None:
    assert cli("init").code == 0
    done = cli("send", "sms", "--to", "+442079460958", "--body", "Hello")
    assert done.code == 0
    assert "Hello" in done.err

    again = cli("init")
    assert again.code == 2
    assert "--force" in again.err
    assert cli("init", "--force").code == 0


def test_every_commented_setting_of_the_starter_file_is_one(cli, tmp_path: Path) -> None:
    cli("init")
    opened = re.sub(r"^# (\[|[a-z_]+ = )", r"\1", (tmp_path / "postroom.toml").read_text(), flags=re.MULTILINE)
    (tmp_path / "postroom.toml").write_text(opened)
    tomllib.loads(opened)
    env = {"SMTP_PASSWORD": "x", "SENDGRID_API_KEY": "x", "TWILIO_AUTH_TOKEN": "x"}
    done = cli("config", "show", "--json", env=env)
    assert done.code == 0, done.err
    assert set(done.json["accounts"]) == {"screen", "main", "sg", "texts"}


def test_providers_tells_what_loads_and_what_each_can_do(cli) -> None:
    found = {provider["name"]: provider for provider in cli("providers", "--json").json}
    assert {"console", "file", "memory", "sendgrid", "smtp", "twilio", "vonage"} <= set(found)
    assert found["smtp"]["status"] == "loaded"
    assert found["smtp"]["distribution"] == "postroom-smtp"
    assert "attachments" in found["smtp"]["channels"]["email"]["features"]


def test_postroom_plugins_restricts_what_loads(cli) -> None:
    found = cli("providers", "--json", env={"POSTROOM_PLUGINS": "smtp"}).json
    told = {provider["name"]: provider["status"] for provider in found}
    assert told.pop("smtp") == "loaded"
    assert set(told.values()) == {"not allowed"}
    found = cli("providers", "--json", env={"POSTROOM_PLUGINS": ""}).json
    assert {provider["status"] for provider in found} == {"not allowed"}


def test_config_show_masks_secrets(cli, tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(SMTP)
    for arguments in (("config", "show"), ("config", "show", "--json")):
        done = cli(*arguments)
        assert done.code == 0, done.err
        assert "**********" in done.out
        assert CANARY not in done.everything


def test_config_show_shows_the_sections_of_outbox_and_gateway_as_far_as_they_are_set(cli, tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(
        '[outbox]\nurl = "sqlite:///post.db"\n[gateway]\nrate_limit = ["20/30s", "5000/d"]\n'
    )
    shown = cli("config", "show", "--json").json
    assert shown["outbox"] == {"url": "sqlite:///post.db"}
    assert shown["gateway"] == {"rate_limit": ["20/30s", "5000/d"]}


def test_config_show_names_the_setting_that_is_wrong(cli, tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(SMTP.replace("username", "usernam"))
    done = cli("config", "show")
    assert done.code == 2
    assert "accounts.main.usernam" in done.err
    assert "did you mean 'username'" in done.err


def test_the_schema_accepts_what_loads_and_refuses_what_does_not(cli) -> None:
    schema = cli("config", "schema").json
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert list(validator.iter_errors(tomllib.loads(SMTP))) == []
    fetched = SMTP.replace(f'"{CANARY}"', '{ env = "SMTP_PASSWORD" }')
    assert list(validator.iter_errors(tomllib.loads(fetched))) == []
    assert list(validator.iter_errors(tomllib.loads(SMTP.replace("host", "hots"))))


def test_check_reports_each_account_and_fails_when_one_does(cli, tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(
        '[accounts.m]\nprovider = "memory"\n[accounts.down]\nprovider = "smtp"\nhost = "127.0.0.1"\nport = 1\n'
    )
    done = cli("check", "--json")
    assert done.code == 1
    assert done.json["m (email)"]["ok"]
    assert done.json["down"]["error"] == "provider_unreachable"
    assert cli("check", "m").code == 0
    assert cli("check", "nobody").code == 2


def test_the_demo_shows_every_provider_and_ends_well(cli) -> None:
    done = cli("demo")
    assert done.code == 0, done.everything
    for word in ("SMTP", "SendGrid", "Twilio", "Vonage Messages API", "Vonage SMS API", "in_doubt, outcome_unknown"):
        assert word in done.out
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert sum(row[-1].startswith("sent (") for row in rows) == 16
    assert sum(row[0] == "0" for row in rows) == 1
    assert "as AC81caaa94b3b84bb7ba9c3cd96bcb152a" in done.out
    assert "Everything arrived as meant." in done.out


def test_the_demo_needs_no_way_out_and_nothing_that_is_configured(cli, tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text("[nonsense]\n")
    proxy = {
        "HTTP_PROXY": "http://127.0.0.1:1",
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }
    done = cli("demo", env={**proxy, "TWILIO_ACCOUNT_SID": "AC7", "POSTROOM_ACCOUNTS__MAIL__PORT": "1"})
    assert done.code == 0, done.everything


def test_the_demo_names_what_keeps_it_from_running(cli) -> None:
    done = cli("demo", env={"POSTROOM_PLUGINS": "smtp"})
    assert done.code == 2
    assert "POSTROOM_PLUGINS" in done.err
    assert len(done.err.splitlines()) == 1


def test_help_imports_neither_pydantic_nor_rich_nor_a_provider() -> None:
    code = (
        "import sys\nfrom postroom.cli.app import build\n"
        "sys.argv = ['postroom', '--help']\n"
        "try:\n    build()()\nexcept SystemExit:\n    pass\n"
        "heavy = {'pydantic', 'rich', 'asyncio', 'aiohttp', 'phonenumbers'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stderr.strip().endswith("[]"), done.stderr


def test_the_version_is_shown(cli) -> None:
    assert cli("--version").out.startswith("postroom ")


@pytest.mark.parametrize("extension", ["missing"])
def test_an_extension_that_is_not_there_does_not_break_other_commands(cli, tmp_path: Path, extension) -> None:
    (tmp_path / "postroom.toml").write_text(f'[plugins]\nextensions = ["{extension}"]\n')
    done = cli("providers", "--json")
    assert done.code == 0
    assert json.loads(done.out)
    assert extension in done.err
