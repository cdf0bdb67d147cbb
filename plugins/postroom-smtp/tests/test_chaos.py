"""Under any mix of drops, refusals and delays: accepted means one copy, transient none, unknown at most one."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from postroom import Email
from postroom.errors import DeliveryError, Outcome
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from .conftest import OpenAccount


STAGES = ["connect", "ehlo", "mail", "rcpt", "data", "half-body", "dot", "rset"]
REFUSALS = ["421 4.3.2 Closing", "450 4.2.0 Later", "550 5.0.0 Never"]


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "in-turns"])
@pytest.mark.parametrize("seed", range(12))
async def test_no_copy_is_lost_or_made(
    start_server: Callable[..., Awaitable[SmtpRecorder]],
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    seed: int,
    pipelining: bool,
) -> None:
    chance = random.Random(seed)
    server = await start_server(extensions=["PIPELINING"] if pipelining else [])
    for _ in range(12):
        stage, skip = chance.choice(STAGES), chance.randrange(1, 25)
        match chance.randrange(3):
            case 0:
                server.drop(stage, reset=chance.random() < 0.5, skip=skip, times=1)
            case 1 if stage not in ("half-body", "connect", "ehlo"):
                server.reply(stage, chance.choice(REFUSALS), skip=skip, times=1)
            case _:
                server.delay(stage, 0.01, skip=skip, times=1)
    account = await open_account(server, pool=chance.choice([1, 3]))
    emails = [make_email(to=["ann@example.org", "bob@example.org"]) for _ in range(120)]

    async def outcome_of(email: Email) -> dict[str, Outcome]:
        try:
            accepted = await account.send(email)
        except DeliveryError as error:
            told = {result.address: result.outcome for result in error.recipients}
            return {address: told.get(address, error.outcome) for address in email.recipients}
        told = {result.address: result.outcome for result in accepted.recipients}
        return {address: told.get(address, Outcome.ACCEPTED) for address in email.recipients}

    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(*(outcome_of(email) for email in emails))
    copies = Counter(
        (message.data.split(b"Subject: ")[1].split(b"\r\n")[0].decode(), recipient)
        for message in server.messages
        for recipient in message.recipients
    )
    for email, told in zip(emails, outcomes, strict=True):
        for address, outcome in told.items():
            found = copies[email.subject, address]
            if outcome is Outcome.ACCEPTED:
                assert found == 1
            elif outcome is Outcome.UNKNOWN:
                assert found <= 1
            else:
                assert found == 0
    assert sum(Outcome.ACCEPTED in told.values() for told in outcomes) > 0
