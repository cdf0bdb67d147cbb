from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from postroom import ConfigError, Email, Postroom
from postroom.testing.http import Answer, HttpRecorder
from postroom_sendgrid.settings import SendGridSettings

CANARY = "SG.canary-key-never-to-be-shown"


@pytest.mark.parametrize("key", ["", "SG.key\n", "SG key", "SG.schlüssel", "apikey"])
def test_what_cannot_be_a_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SendGridSettings(api_key=key)
    assert not key or repr(key) not in str(caught.value)


@pytest.mark.parametrize(
    "form", ["sendgrid://{}@?base_url={}&from=p@example.org", "sendgrid://:{}@?base_url={}&from=p@example.org"]
)
async def test_the_key_may_stand_on_either_side_of_the_colon_of_a_url(server: HttpRecorder, form: str) -> None:
    server.answer(Answer(202))
    async with Postroom.from_urls(form.format(CANARY, server.url)) as room:
        await room.send(Email(to="a@example.org", subject="s", text="x"))
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"


async def test_the_smtp_user_name_in_a_url_is_not_taken_for_the_key() -> None:
    with pytest.raises(ConfigError, match="sendgrid://KEY@") as caught:
        async with Postroom.from_urls(f"sendgrid://apikey:{CANARY}@?from=p@example.org") as room:
            await room.send(Email(to="a@example.org", subject="s", text="x"))
    assert CANARY not in str(caught.value)


async def test_a_message_may_bring_its_own_key(server: HttpRecorder) -> None:
    server.answer(Answer(202))
    account = {"provider": "sendgrid", "api_key": "SG.account", "base_url": server.url, "from": "p@example.org"}
    async with Postroom(accounts={"sg": account}) as room:
        await room.send(Email(to="a@example.org", subject="s", text="x", options={"sendgrid_api_key": CANARY}))
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"


def test_the_transport_loads_without_the_sdk() -> None:
    script = (
        "import sys, postroom_sendgrid; assert 'postroom_sendgrid.transport' not in sys.modules;"
        "assert 'aiohttp' not in sys.modules; postroom_sendgrid.postroom_email_transport();"
        "sys.exit(any(name.split('.')[0] in {'sendgrid', 'python_http_client'} for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
