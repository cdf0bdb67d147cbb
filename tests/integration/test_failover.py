"""A failover route over real sockets: whatever breaks at the first provider, nobody gets two copies."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import trustme

from postroom import DeliveryError, Outcome, Postroom, Receipt, Sms, Status
from postroom.testing.http import Answer, Drop, Hang, HttpRecorder

pytestmark = pytest.mark.usefixtures("acme")

NUMBER = "+442079460958"
YES = Answer(status=201, body={"id": "second"})


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """The third-party provider of the tests, installed for this test."""
    folder = request.config.rootpath / "tests/plugins/postroom-acme/src"
    info = tmp_path / "postroom_acme-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: postroom-acme\nVersion: 1.2.3\n")
    (info / "entry_points.txt").write_text("[postroom]\nacme = postroom_acme\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("postroom_acme", None)


def room_of(first: str, second: str, **settings: Any) -> Postroom:
    accounts = {
        "first": {"provider": "acme", "api_key": "s3cret-one", "base_url": first, **settings},
        "second": {"provider": "acme", "api_key": "s3cret-two", "base_url": second},
    }
    return Postroom(accounts=accounts, routes={"r": {"via": ["first", "second"]}}, defaults={"sms": "r"})


async def sent(room: Postroom) -> tuple[Receipt, DeliveryError | None]:
    """Send a message; its receipt, and the error that carried it."""
    try:
        return await room.send(Sms(to=NUMBER, body="hello")), None
    except DeliveryError as error:
        assert error.receipt
        return error.receipt, error


BREAKS: dict[str, tuple[Answer | Drop | Hang, Outcome, bool]] = {
    "401": (Answer(status=401, body={"code": "E10"}), Outcome.PERMANENT, True),
    "402": (Answer(status=402), Outcome.PERMANENT, True),
    "403": (Answer(status=403), Outcome.PERMANENT, True),
    "400": (Answer(status=400), Outcome.PERMANENT, False),
    "a refused recipient": (Answer(status=422, body={"code": "E21"}), Outcome.PERMANENT, False),
    "429": (Answer(status=429, headers={"Retry-After": "9"}), Outcome.TRANSIENT, True),
    "500": (Answer(status=500), Outcome.TRANSIENT, True),
    "503": (Answer(status=503), Outcome.TRANSIENT, True),
    "an HTML 502": (Answer(status=502, body="<html>Bad gateway</html>"), Outcome.UNKNOWN, False),
    "504": (Answer(status=504), Outcome.UNKNOWN, False),
    "an empty 200": (Answer(status=200), Outcome.UNKNOWN, False),
    "a 201 without an id": (Answer(status=201, body={}), Outcome.UNKNOWN, False),
    "a redirect": (Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}), Outcome.PERMANENT, True),
    "no answer in time": (Hang("request"), Outcome.UNKNOWN, False),
    "an answer too late": (Answer(status=201, body={"id": "late"}, delay=50), Outcome.UNKNOWN, False),
    "closed after the request": (Drop("request"), Outcome.UNKNOWN, False),
    "reset after the request": (Drop("request", reset=True), Outcome.UNKNOWN, False),
    "closed within the answer": (Drop("answer"), Outcome.UNKNOWN, False),
}


TOO_LATE = {"no answer in time", "an answer too late"}


@pytest.mark.parametrize("case", BREAKS)
async def test_the_second_provider_is_asked_only_when_the_first_surely_did_not_take_it(case: str) -> None:
    step, outcome, goes_on = BREAKS[case]
    async with HttpRecorder() as first, HttpRecorder() as second:
        first.answer(step)
        second.answer(YES)
        async with room_of(first.url, second.url, timeout=0.5 if case in TOO_LATE else 50) as room:
            receipt, error = await sent(room)
    assert (error is None) == goes_on
    if error:
        assert error.outcome is outcome
        assert "s3cret" not in f"{error} {error.detail} {error.__cause__!r}"
    assert len(first.requests) == 1
    assert len(second.requests) == goes_on
    assert receipt.attempts[0].outcome is outcome
    assert (receipt.status is Status.SENT) == goes_on
    assert (receipt.status is Status.IN_DOUBT) == (outcome is Outcome.UNKNOWN)


@pytest.mark.parametrize("at", ["accept", "headers"])
async def test_a_connection_closed_before_the_request_was_whole_makes_at_most_one_copy(
    at: Literal["accept", "headers"],
) -> None:
    async with HttpRecorder() as first, HttpRecorder() as second:
        first.answer(Drop(at))
        second.answer(YES)
        async with room_of(first.url, second.url, timeout=50) as room:
            receipt, _ = await sent(room)
    assert receipt.attempts[0].outcome in (Outcome.UNKNOWN, Outcome.TRANSIENT)
    assert len(second.requests) == (receipt.attempts[0].outcome is Outcome.TRANSIENT)


async def test_a_refused_connection_moves_on() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with HttpRecorder() as second:
            second.answer(YES)
            async with room_of(nobody, second.url) as room:
                receipt = await room.send(Sms(to=NUMBER, body="hello"))
    assert [attempt.outcome for attempt in receipt.attempts] == [Outcome.TRANSIENT, Outcome.ACCEPTED]
    assert receipt.attempts[0].error == "provider_unreachable"


async def test_an_untrusted_certificate_moves_on_and_hands_nothing_over() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with HttpRecorder(tls=context) as first, HttpRecorder() as second:
        first.answer(YES)
        second.answer(YES)
        async with room_of(first.url, second.url) as room:
            receipt = await room.send(Sms(to=NUMBER, body="hello"))
    assert first.requests == []
    assert receipt.account == "second"
    assert receipt.attempts[0].scope == "account"


async def test_a_server_that_is_not_speaking_tls_moves_on() -> None:
    async with HttpRecorder() as first, HttpRecorder() as second:
        first.answer(YES)
        second.answer(YES)
        async with room_of(first.url.replace("http:", "https:"), second.url, timeout=5) as room:
            receipt = await room.send(Sms(to=NUMBER, body="hello"))
    assert receipt.account == "second"
    assert first.requests == []


async def test_cancelled_mid_send_is_one_request_and_no_failover() -> None:
    async with HttpRecorder() as first, HttpRecorder() as second:
        first.answer(Hang("request"))
        second.answer(YES)
        async with room_of(first.url, second.url) as room:
            sending = asyncio.ensure_future(room.send(Sms(to=NUMBER, body="hello")))
            async with asyncio.timeout(60):
                while not first.requests:
                    await asyncio.sleep(0.005)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await sending
            assert any("handed over" in note for note in caught.value.__notes__)
    assert (len(first.requests), len(second.requests)) == (1, 0)


async def test_a_hundred_messages_through_a_failing_provider_arrive_once_each() -> None:
    async with HttpRecorder() as first, HttpRecorder() as second:
        steps: list[Answer | Drop] = [
            Answer(status=503),
            Answer(status=201, body={"id": "1"}),
            Drop("request"),
            Answer(status=429),
        ]
        first.answer(*steps * 25, Answer(status=503))
        second.answer(YES)
        async with room_of(first.url, second.url) as room:
            results = await room.send_many([Sms(to=NUMBER, body=str(n)) for n in range(100)])
    assert len(first.requests) == 100
    taken_over = {request.json()["text"] for request in second.requests}
    assert len(taken_over) == len(second.requests) == 50
    receipts = [result.receipt if isinstance(result, DeliveryError) else result for result in results]
    for n, receipt in enumerate(receipts):
        assert isinstance(receipt, Receipt)
        first_outcome = receipt.attempts[0].outcome
        assert (str(n) in taken_over) == (first_outcome is Outcome.TRANSIENT)
    assert sum(isinstance(receipt, Receipt) and receipt.status is Status.IN_DOUBT for receipt in receipts) == 25
