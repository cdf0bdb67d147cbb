"""Mistakes that harm: each in an otherwise right provider, and the test of the kit that tells its author."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, ClassVar

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from tests.unit.testing.conformance.acme import AcmeEmail, AcmeSettings, AcmeSms, FakeAcme, email_suite, sms_suite

from postroom.errors import DeliveryError, MessageError
from postroom.messages import Email, Sms
from postroom.plugin import UnknownAttempt, WebhookRequest
from postroom.plugin.http import HttpReply
from postroom.receipts import Accepted, NotTaken, RecipientResult
from postroom.testing.conformance import ConformanceError
from postroom.testing.conformance.scenarios import Scenario
from postroom.testing.conformance.webhooks import tampered
from postroom.testing.http import Answer, RecordedRequest


class RetriesBatches(AcmeSms):
    async def send_many(self, batch: Sequence[Sms], /) -> list[Accepted | DeliveryError]:
        answers = await super().send_many(batch)
        if isinstance(answers[0], DeliveryError):
            answers = await super().send_many(batch)
        return answers


class HalvesBatches(AcmeSms):
    """Takes eight messages a call and forgets the rest, which it reports like the others."""

    async def send_many(self, batch: Sequence[Sms], /) -> list[Accepted | DeliveryError]:
        answers = await super().send_many(batch[:8])
        return [*answers, *answers[:1] * len(batch)][: len(batch)]


class OneSenderForAll(AcmeSms):
    async def send_many(self, batch: Sequence[Sms], /) -> list[Accepted | DeliveryError]:
        return await super().send_many([sms.stamped(from_=batch[0].from_) for sms in batch])


class KeepsTheSender(AcmeSms):
    def payload(self, sms: Sms) -> dict[str, Any]:
        self.sender = getattr(self, "sender", sms.from_)
        return {**super().payload(sms), "from": self.sender}


class Cuts(AcmeSms):
    def payload(self, sms: Sms) -> dict[str, Any]:
        return {**super().payload(sms), "text": sms.body[:160]}


class FirstMedium(AcmeSms):
    def payload(self, sms: Sms) -> dict[str, Any]:
        return {**super().payload(sms), "media": list(sms.media[:1])}


class SharesItsKey(AcmeSms):
    kept: ClassVar[list[str]] = []

    def key(self) -> str:
        self.kept.append(super().key())
        return self.kept[0]


class Wavers(AcmeSms):
    asked = 0

    async def reconcile(self, attempt: UnknownAttempt[Sms], /) -> Accepted | NotTaken | None:
        self.asked += 1
        return await super().reconcile(attempt) or (NotTaken() if self.asked > 1 else None)


class TakesAnyones(AcmeSms):
    def is_ours(self, attempt: UnknownAttempt[Sms], reply: HttpReply) -> bool:
        return True


class GivesUpAtOnce(AcmeSms):
    async def reconcile(self, attempt: UnknownAttempt[Sms], /) -> Accepted | NotTaken | None:
        return await super().reconcile(attempt) or NotTaken()


class TwoDigits(AcmeSms):
    def same(self, expected: str, given: str) -> bool:
        return given[:2] == expected[:2]


class LastDigits(AcmeSms):
    def same(self, expected: str, given: str) -> bool:
        return len(given) == len(expected) and given[-2:] == expected[-2:]


class TrustsWithoutSecret(AcmeSms):
    def is_signed(self, request: WebhookRequest) -> bool:
        return self.settings.webhook_secret is None or super().is_signed(request)


class ShowsBlindCopies(AcmeEmail):
    def payload(self, email: Email) -> dict[str, Any]:
        made = super().payload(email)
        return {**made, "cc": made["cc"] + made["bcc"], "bcc": []}


class SwapsMergeData(AcmeEmail):
    def person(self, email: Email, address: str) -> dict[str, Any]:
        others = [each.email for each in email.to if each.email != address]
        return {**super().person(email, address), "data": email.merge_data.get((others or [address])[0], {})}


class CallsAllAccepted(AcmeEmail):
    def results(self, email: Email, reply: HttpReply) -> tuple[RecipientResult, ...]:
        return ()


class FirstFile(AcmeEmail):
    def payload(self, email: Email) -> dict[str, Any]:
        return {**super().payload(email), "files": super().payload(email)["files"][:1]}


class FirstHeader(AcmeEmail):
    def payload(self, email: Email) -> dict[str, Any]:
        return {**super().payload(email), "headers": dict(list(email.headers.items())[:1])}


LOST = "test_a_batch_whose_answer_was_lost_is_not_sent_again"
ORDER = "test_a_batch_is_answered_in_its_order"
SENDER = "test_every_message_has_its_own_sender"
LONG = "test_a_long_text_arrives_whole_or_is_refused"
SEVERAL = "test_several_of_a_kind_arrive_all_or_are_refused"
TWO = "test_two_accounts_at_once_each_use_their_own_credentials"
SAME = "test_the_same_lookup_has_the_same_answer"
ANYONES = "test_somebody_elses_message_is_not_taken_for_ours"
JUST_NOW = "test_a_message_of_just_now_that_is_not_there_is_not_called_not_taken"
REFUSED = "test_a_recipient_who_was_refused_is_not_called_accepted"
NEARLY = "test_a_signature_that_is_nearly_right_is_refused"
NO_SECRET = "test_without_a_secret_no_webhook_is_taken"
BLIND = "test_a_blind_copy_is_shown_to_nobody"
MERGE = "test_merge_data_stays_with_its_person"

WRONG_SMS: list[tuple[type[AcmeSms], str, str]] = [
    (RetriesBatches, LOST, "sent 2 times"),
    (HalvesBatches, ORDER, "reached the provider 0 times"),
    (OneSenderForAll, SENDER, "with another sender"),
    (KeepsTheSender, SENDER, "with another sender"),
    (Cuts, LONG, "of body a part was sent"),
    (FirstMedium, SEVERAL, "of media a part was sent"),
    (SharesItsKey, TWO, "with the credentials of the first"),
    (Wavers, SAME, "asked again"),
    (TakesAnyones, ANYONES, "took it for the one to"),
    (GivesUpAtOnce, JUST_NOW, "called not taken"),
    (TwoDigits, NEARLY, "differs in one place was taken"),
    (LastDigits, NEARLY, "differs in one place was taken"),
    (TrustsWithoutSecret, NO_SECRET, "an unsigned webhook was taken"),
]
WRONG_EMAIL: list[tuple[type[AcmeEmail], str, str]] = [
    (ShowsBlindCopies, BLIND, "stands where the open one does"),
    (SwapsMergeData, MERGE, "merge_data of somebody else"),
    (CallsAllAccepted, REFUSED, "is called accepted"),
    (FirstFile, SEVERAL, "of attachments a part was sent"),
    (FirstHeader, SEVERAL, "of headers a part was sent"),
]


def name_of(value: object) -> str | None:
    return value.__name__ if isinstance(value, type) else ""


@pytest.mark.parametrize(("transport", "test", "seen"), WRONG_SMS, ids=name_of)
def test_a_wrong_sms_provider_is_told(transport: type[AcmeSms], test: str, seen: str) -> None:
    with pytest.raises(ConformanceError, match=f"(?s){seen}.*What to do: "):
        getattr(sms_suite(transport), test)()


@pytest.mark.parametrize(("transport", "test", "seen"), WRONG_EMAIL, ids=name_of)
def test_a_wrong_email_provider_is_told(transport: type[AcmeEmail], test: str, seen: str) -> None:
    with pytest.raises(ConformanceError, match=f"(?s){seen}.*What to do: "):
        getattr(email_suite(transport), test)()


@pytest.mark.parametrize("test", [LOST, ORDER, SENDER, LONG, SEVERAL, TWO, SAME, ANYONES, JUST_NOW, NEARLY, NO_SECRET])
def test_the_right_sms_provider_passes(test: str) -> None:
    getattr(sms_suite(AcmeSms), test)()


@pytest.mark.parametrize("test", [BLIND, MERGE, REFUSED, SEVERAL, LONG, SENDER, TWO])
def test_the_right_email_provider_passes(test: str) -> None:
    getattr(email_suite(AcmeEmail), test)()


class OneAtMost(AcmeSms):
    def validate(self, sms: Sms, /) -> None:
        if len(sms.media) > 1 or len(sms.body) > 160:
            raise MessageError("acme takes one medium and 160 characters")


@pytest.mark.parametrize("test", [LONG, SEVERAL])
def test_a_provider_that_says_what_it_cannot_take_passes(test: str) -> None:
    getattr(sms_suite(OneAtMost), test)()


class EitherOr(AcmeEmail):
    """An honest provider of an API that takes a template or a text, not both."""

    def validate(self, email: Email, /) -> None:
        if email.template and (email.text or email.subject):
            raise MessageError("acme takes a template or a text")


class Both(AcmeEmail):
    """One that wants a text beside the template."""

    def validate(self, email: Email, /) -> None:
        if email.template and not email.text:
            raise MessageError("acme wants a text beside the template")


@pytest.mark.parametrize("transport", [AcmeEmail, EitherOr, Both])
@pytest.mark.parametrize("feature", ["template", "merge_data"])
def test_a_template_is_tried_in_a_form_that_the_provider_takes(transport: type[AcmeEmail], feature: str) -> None:
    email_suite(transport).test_a_feature_arrives_if_declared_and_is_refused_if_not(feature)


class Keyless(AcmeSettings):
    api_key: SecretStr = SecretStr("")


def test_a_provider_without_credentials_says_what_proves_its_accounts() -> None:
    suite = sms_suite(type("Keyless", (AcmeSms,), {"settings_model": Keyless}))
    type(suite).settings = lambda self, fake: {"base_url": fake.url}
    with pytest.raises(ConformanceError, match="no_secret = 'a local socket'"):
        suite.test_credentials_are_declared_as_secrets()
    type(suite).no_secret = "the machine's role"
    suite.test_credentials_are_declared_as_secrets()


@given(st.binary(min_size=1, max_size=40))
def test_a_body_that_was_tampered_with_says_something_else_also_in_base64(signature: bytes) -> None:
    body = b'{"what": 1, "signature": "' + base64.b64encode(signature) + b'"}'
    changed = tampered(body)
    assert base64.b64decode(changed.split(b'"')[-2]) != signature


class Coded(FakeAcme):
    def rejected(self, request: RecordedRequest) -> Answer:
        return Answer(400, {"error": "invalid_number", "errors": [{"type": "BAD", "text": "The number is wrong"}]})


async def test_an_echo_leaves_codes_and_words_of_fixed_sets_as_they_are() -> None:
    with Coded() as fake:
        fake.play(Scenario.REJECTED_WITH_ECHO)
        headers = {"Authorization": "Bearer canary-key-0123"}
        async with aiohttp.ClientSession() as session, session.post(fake.url, headers=headers) as reply:
            said = await asyncio.wait_for(reply.json(), 50)
    assert said["error"] == "invalid_number"
    assert said["errors"][0]["type"] == "BAD"
    assert said["errors"][0]["text"].startswith("The number is wrong canary-key-0123")


def test_a_deviation_names_one_case_of_a_test_that_has_several() -> None:
    def derived(name: str) -> object:
        return sms_suite(type("Made", (AcmeSms,), {"deviations": {name: "acme is so"}}))

    with pytest.raises(TypeError, match="name the one case that deviates"):
        derived("test_a_failure_has_its_true_outcome")
    for name in ("test_a_failure_has_its_true_outcome[silent]", f"TestAcme::{LONG}", LONG):
        assert derived(name)
