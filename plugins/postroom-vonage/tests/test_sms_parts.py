from __future__ import annotations

import pytest

from postroom.errors import OutcomeUnknown, RecipientsRefused
from postroom.testing.http import Answer


def parts(*statuses: str) -> dict[str, object]:
    return {
        "message-count": str(len(statuses)),
        "messages": [
            {"status": status, "message-id": f"id-{n}", "error-text": "because"} for n, status in enumerate(statuses)
        ],
    }


async def test_the_ids_of_all_parts_are_kept(open_vonage, server, sms):
    server.answer(Answer(200, parts("0", "0")))
    async with open_vonage(server.url, api="sms") as vonage:
        accepted = await vonage.send(sms(body="x" * 300))

    assert accepted.provider_message_id == "id-0"
    assert accepted.detail == "parts id-0, id-1"
    assert accepted.recipients[0].segments == 2


async def test_a_text_of_which_only_some_parts_were_taken_is_unknown(open_vonage, server, sms):
    server.answer(Answer(200, parts("0", "9", "0")))
    async with open_vonage(server.url, api="sms") as vonage:
        with pytest.raises(OutcomeUnknown, match="2 of 3 parts"):
            await vonage.send(sms(body="x" * 400))

    assert len(server.requests) == 1


async def test_all_parts_refused_is_the_first_parts_refusal(open_vonage, server, sms):
    server.answer(Answer(200, parts("7", "7")))
    async with open_vonage(server.url, api="sms") as vonage:
        with pytest.raises(RecipientsRefused):
            await vonage.send(sms(body="x" * 300))
