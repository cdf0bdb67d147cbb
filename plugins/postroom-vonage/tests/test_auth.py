from __future__ import annotations

import jwt
import pytest
from vonage_jwt import JwtClient

from postroom import MissingCredential, Postroom
from postroom_vonage.auth import LIFETIME, RENEWED_AFTER, Tokens
from postroom_vonage.settings import VonageSettings


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_token_serves_until_it_is_due_for_renewal(pem):
    clock = Clock()
    tokens = Tokens("app-1", pem, clock=clock)
    await tokens.open()
    first = tokens.authorization()
    clock.now += RENEWED_AFTER - 1
    assert tokens.authorization() == first
    clock.now += 1
    assert tokens.authorization() != first


async def test_a_clock_that_steps_back_makes_a_new_token(pem):
    clock = Clock()
    tokens = Tokens("app-1", pem, clock=clock)
    await tokens.open()
    first = tokens.authorization()
    clock.now -= 3600
    assert tokens.authorization() != first


async def test_the_claims_are_those_the_sdk_makes(pem):
    ours = Tokens("app-1", pem)
    await ours.open()
    mine = jwt.decode(ours.authorization().removeprefix("Bearer "), options={"verify_signature": False})
    theirs = jwt.decode(JwtClient("app-1", pem).generate_application_jwt(), options={"verify_signature": False})
    assert mine.keys() == theirs.keys()
    assert mine["exp"] - mine["iat"] == theirs["exp"] - theirs["iat"] == LIFETIME
    assert mine["application_id"] == theirs["application_id"]


async def test_keys_may_be_pkcs1_or_a_path(pem, pkcs1, tmp_path):
    path = tmp_path / "private.key"
    path.write_text(pem)
    for key in (pkcs1, str(path), pem.replace("\n", "\\n")):
        tokens = Tokens("app-1", key)
        await tokens.open()
        assert tokens.authorization().startswith("Bearer ")


@pytest.mark.parametrize("key", ["not a key", "-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----", "/no/such"])
async def test_a_key_that_cannot_be_read_is_an_error_without_the_key(key):
    with pytest.raises(MissingCredential) as caught:
        await Tokens("app-1", key).open()
    assert key not in str(caught.value)


async def test_a_messages_account_sends_a_bearer_token(open_vonage, server, sms, yes, pem):
    server.answer(yes["messages"])
    async with open_vonage(
        server.url, api_key=None, api_secret=None, application_id="app-1", private_key=pem
    ) as vonage:
        await vonage.send(sms())
        await vonage.send(sms())

    first, second = (request.headers["authorization"] for request in server.requests)
    assert first == second
    assert first.startswith("Bearer ")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "application_id and private_key, or api_key and api_secret"),
        ({"api": "sms", "api_key": "k"}, "api_key with api_secret"),
        ({"application_id": "a"}, "go together"),
    ],
)
def test_missing_credentials_are_named(settings, said):
    room = Postroom(accounts={"texts": {"provider": "vonage", **settings}})
    with pytest.raises(MissingCredential, match=f"accounts.texts.*{said}"):
        room.validate()


def test_secrets_are_in_no_repr(pem, canary):
    settings = VonageSettings(
        api_key="k", api_secret=canary, signature_secret=canary, application_id="a", private_key=pem
    )
    assert canary not in f"{settings!r}{settings}"
    assert pem not in f"{settings!r}{settings}"


async def test_check_reads_the_balance(open_vonage, server):
    from postroom.errors import AuthenticationFailed
    from postroom.testing.http import Answer

    server.answer(Answer(200, {"value": 10.5}), Answer(401, {"title": "no"}))
    async with open_vonage(server.url) as vonage:
        report = await vonage.check()
        with pytest.raises(AuthenticationFailed):
            await vonage.check()

    assert report.ok
    assert report.details == {"balance": "10.5"}
    assert server.requests[0].path == "/account/get-balance"
    assert server.requests[0].query == ""
