"""A token: fetched once for all, kept until it expires, and never a reason to doubt whether a message went out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from postroom.delivery.dispatcher import AccountDispatcher, AttemptResult
from postroom.errors import AuthenticationFailed, DeliveryError, Outcome, ProviderUnavailable, ProviderUnreachable
from postroom.messages import Sms
from postroom.plugin import HttpAccountSettings, Resources, Token
from postroom.plugin.cancellation import was_handed_over
from postroom.plugin.http import HttpSmsTransport
from postroom.receipts import Accepted
from postroom.testing.http import Answer, Drop, Hang, HttpRecorder, RecordedRequest, Step

pytestmark = pytest.mark.slow

MANY = 30
SECRET = "canary-token-0123456789"


class TokenSettings(HttpAccountSettings):
    provider: str = "acme"
    client_secret: SecretStr = SecretStr("canary-client-0123456789")


class Acme(HttpSmsTransport[TokenSettings]):
    """Fetches a token, then sends with it."""

    settings_model = TokenSettings

    def __init__(self, account: str, settings: TokenSettings, resources: Resources) -> None:
        super().__init__(account, settings, resources)
        self.token = Token(self, self.fetch)

    async def fetch(self) -> tuple[str, float]:
        secret = self.settings.client_secret.get_secret_value().encode()
        reply = await self.ask("POST", f"{self.base_url}/token", headers={}, body=secret)
        answer = reply.json_object()
        if reply.status != 200 or not answer.get("token"):
            raise self.failure(reply, detail=str(answer.get("message", "")))
        return str(answer["token"]), float(answer["seconds"])

    async def send(self, sms: Sms, /) -> Accepted:
        token = await self.token.get()
        headers = {"Authorization": f"Bearer {token}"}
        reply = await self.request("POST", f"{self.base_url}/sms", headers=headers, body=sms.body.encode())
        if reply.status == 401:
            self.token.forget(token)
        if reply.status != 202:
            raise self.failure(reply, detail=reply.body.decode())
        return Accepted()


class Vendor:
    """Answers for the token and for messages, and counts both."""

    def __init__(self, token: Step | None = None, sms: Step | None = None, seconds: float = 3600.0) -> None:
        self.token, self.sms = token, sms or Answer(202)
        self.seconds = seconds
        self.tokens, self.messages = 0, list[RecordedRequest]()

    def __call__(self, request: RecordedRequest) -> Step:
        if request.path != "/token":
            self.messages.append(request)
            return self.sms
        self.tokens += 1
        return self.token or Answer(200, {"token": f"{SECRET}{self.tokens}", "seconds": self.seconds})


@asynccontextmanager
async def account(vendor: Vendor, **settings: Any) -> AsyncIterator[Acme]:
    async with HttpRecorder() as server:
        server.answer_with(vendor)
        resources = Resources()
        try:
            yield Acme("texts", TokenSettings(base_url=server.url, **settings), resources)
        finally:
            await resources.close()


def sms() -> Sms:
    return Sms(to="+442079460958", from_="+442079460999", body="hello", id="m1")


async def sent(acme: Acme) -> Accepted | Exception:
    """What the core makes of a send."""
    found: list[AttemptResult] = []
    await AccountDispatcher(acme).send(sms(), found.append)
    return found[0].answer


async def test_all_who_send_at_once_share_one_token_and_those_after_them_too() -> None:
    vendor = Vendor()
    async with account(vendor) as acme:
        await asyncio.gather(*(acme.send(sms()) for _ in range(MANY)))
        await acme.send(sms())
    assert (vendor.tokens, len(vendor.messages)) == (1, MANY + 1)
    assert {request.headers["authorization"] for request in vendor.messages} == {f"Bearer {SECRET}1"}


async def test_a_token_is_fetched_anew_before_it_expires_and_when_it_was_refused() -> None:
    vendor = Vendor(seconds=0.0)
    async with account(vendor) as acme:
        await acme.send(sms())
        await acme.send(sms())
        assert vendor.tokens == 2
        vendor.seconds = 3600.0
        await acme.send(sms())
        vendor.sms = Answer(401)
        with pytest.raises(AuthenticationFailed):
            await acme.send(sms())
        vendor.sms = Answer(202)
        await acme.send(sms())
        acme.token.forget("one from before")
        await acme.send(sms())
    assert vendor.tokens == 4


BROKEN: dict[str, Step] = {
    "dropped": Drop("request"),
    "reset": Drop("request", reset=True),
    "half": Drop("answer"),
    "silent": Hang("request"),
    "502": Answer(502),
    "504": Answer(504),
    "500": Answer(500),
    "captive portal": Answer(200, "<html>sign in</html>"),
    "redirected": Answer(302),
    "not text": Answer(200, {"token": "t", "seconds": "soon"}),
}


@pytest.mark.parametrize("step", BROKEN.values(), ids=BROKEN.keys())
async def test_whatever_breaks_before_the_send_the_outcome_is_known_and_nothing_was_sent(step: Step) -> None:
    vendor = Vendor(token=step)
    async with account(vendor, timeout=0.5 if isinstance(step, Hang) else 20) as acme:
        answers = await asyncio.gather(*(sent(acme) for _ in range(3)))
        for answer in answers:
            assert isinstance(answer, DeliveryError)
            assert answer.outcome in {Outcome.TRANSIENT, Outcome.PERMANENT}
            assert "may have been sent" not in str(answer)
        vendor.token = None
        assert isinstance(await sent(acme), Accepted), "a failure was kept"
    assert len(vendor.messages) == 1


async def test_a_refused_credential_is_what_the_vendor_said() -> None:
    async with account(Vendor(token=Answer(401, {"message": "no such client"}))) as acme:
        answer = await sent(acme)
    assert isinstance(answer, AuthenticationFailed)
    assert "no such client" in str(answer)


async def test_the_token_and_the_send_have_one_time_limit_together() -> None:
    """The send may have what the token left: a clock in the test's hands would stop the sockets."""
    vendor = Vendor(token=Answer(200, {"token": SECRET, "seconds": 60}, delay=1.5), sms=Hang("request"))
    async with account(vendor, timeout=2.0) as acme:
        loop = asyncio.get_running_loop()
        started = loop.time()
        ends: list[float] = []
        answer = await sent(acme)
        ends.append(loop.time() - started)
        assert isinstance(answer, DeliveryError)
        started = loop.time()
        await sent(acme)  # with the token kept: the whole limit for itself
        ends.append(loop.time() - started)
    assert ends[0] < 1.5 * ends[1], "the send had the whole limit once more"


async def test_who_leaves_does_not_take_the_token_from_the_others() -> None:
    vendor = Vendor(token=Answer(200, {"token": SECRET, "seconds": 60}, delay=0.2))
    async with account(vendor) as acme:
        first, second = (asyncio.create_task(acme.send(sms())) for _ in range(2))
        while not vendor.tokens:
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await first
        assert was_handed_over(caught.value) is False
        assert await second == Accepted()
    assert (vendor.tokens, len(vendor.messages)) == (1, 1)


async def test_when_all_have_left_nothing_goes_on() -> None:
    before = asyncio.all_tasks()
    vendor = Vendor(token=Hang("request"))
    async with account(vendor) as acme:
        sending = [asyncio.create_task(acme.send(sms())) for _ in range(3)]
        while not vendor.tokens:
            await asyncio.sleep(0)
        for each in sending:
            each.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        assert not [task for task in asyncio.all_tasks() - before if task.get_name() == "postroom token"]


async def test_the_token_is_in_no_error() -> None:
    vendor = Vendor(sms=Answer(400, f"bad token {SECRET}1"))
    async with account(vendor) as acme:
        answer = await sent(acme)
    assert "bad token ***" in str(answer)


async def test_an_exchange_that_carries_no_message_is_never_unknown() -> None:
    async with account(Vendor(token=Drop("request"))) as acme:
        with pytest.raises(ProviderUnreachable, match="nothing was sent"):
            await acme.ask("PUT", f"{acme.base_url}/token", headers={}, body=b"x")
    async with account(Vendor(token=Answer(502))) as acme:
        reply = await acme.ask("GET", f"{acme.base_url}/token", headers={})
        assert isinstance(acme.failure(reply), ProviderUnavailable)
