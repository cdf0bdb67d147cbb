"""The suites: EmailConformance and SmsConformance, which authors derive their test class from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from postroom.errors import Outcome
from postroom.messages import Email, Sms, new_id
from postroom.plugin import EMAIL_FEATURES, SMS_FEATURES, Resources
from postroom.receipts import Accepted
from postroom.testing.conformance import samples
from postroom.testing.conformance.base import FakeT, SettingsT, expect
from postroom.testing.conformance.batches import Batches
from postroom.testing.conformance.event_loop import EventLoop
from postroom.testing.conformance.fields import Fields
from postroom.testing.conformance.import_cost import ImportCost
from postroom.testing.conformance.outcomes import Outcomes
from postroom.testing.conformance.reconciliation import Reconciliation
from postroom.testing.conformance.rule import rule
from postroom.testing.conformance.scenarios import Scenario
from postroom.testing.conformance.secrets import Secrets
from postroom.testing.conformance.settings import Settings
from postroom.testing.conformance.text_extraction import beside, places
from postroom.testing.conformance.webhooks import Webhooks

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROMISE = (
    "list in capabilities.features what the provider can express, and put it into the request; leave out what it "
    "cannot, so that such a message is refused before it is sent"
)


class _Suite(
    Outcomes[FakeT, SettingsT],
    Fields[FakeT, SettingsT],
    Batches[FakeT, SettingsT],
    Secrets[FakeT, SettingsT],
    Settings[FakeT, SettingsT],
    Webhooks[FakeT, SettingsT],
    Reconciliation[FakeT, SettingsT],
    EventLoop[FakeT, SettingsT],
    ImportCost[FakeT, SettingsT],
):
    """Everything that holds for both channels."""


class EmailConformance(_Suite[FakeT, SettingsT]):
    """Derive from this to test an e-mail transport. `template` is a template's name as the provider writes them."""

    template: ClassVar[str] = "d-kit"
    sender: ClassVar[str] = "post@example.org"

    def sample(self, number: int = 0) -> samples.Sample:
        return samples.plain_email(number, self.sender)

    def other_sender(self, number: int) -> str:
        return f"sender{number}@example.org"

    def feature_sample(self, feature: str) -> samples.Sample:
        return samples.email_feature(feature, template=self.template, options=dict(self.provider_options))

    def build(self, fields: Mapping[str, Any]) -> Email:
        return Email(**fields)

    def all_features(self) -> frozenset[str]:
        return EMAIL_FEATURES

    @pytest.mark.parametrize("feature", sorted(EMAIL_FEATURES))
    @rule(_PROMISE)
    async def test_a_feature_arrives_if_declared_and_is_refused_if_not(self, feature: str) -> None:
        await self.arrives_or_is_refused(feature)

    @rule(
        "send to message.recipients, which may be fewer than to, cc and bcc name",
        applies=lambda kit: kit.transport.capabilities.partial_envelope,
        otherwise="capabilities do not say partial_envelope",
    )
    async def test_only_the_recipients_that_are_left_are_written_to(self) -> None:
        message = self.message(0, to=["kit0@example.org", "kit1@example.org"]).for_recipients(["kit1@example.org"])
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                await self.accepted(transport, message)
            whom = fake.recipients(fake.sent[0])
        expect("kit1@" in whom and "kit0@" not in whom, f"kit1@example.org alone was left, the message went to {whom}")

    @rule("address every recipient of the message, each once")
    async def test_every_recipient_is_written_to(self) -> None:
        message = self.message(0, to=["kit0@example.org", "kit1@example.org"])
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                await self.accepted(transport, message)
            whom = fake.recipients(fake.sent[0])
        expect("kit0@example.org" in whom and "kit1@example.org" in whom, f"the message went to {whom} only")

    @rule("give a result for each recipient where the provider refused some: Accepted alone says that all are accepted")
    async def test_a_recipient_who_was_refused_is_not_called_accepted(self) -> None:
        message = self.message(0, to=["kit0@example.org", "kit1@example.org"])
        with self.fake_provider() as fake:
            fake.play(Scenario.REJECTED, to="kit1@example.org")
            async with self.opened(fake) as transport:
                answer = await self.attempt(transport, message)
        if isinstance(answer, Accepted):
            refused = [each for each in answer.recipients if each.address == "kit1@example.org"]
            accepted = not refused or refused[0].outcome is Outcome.ACCEPTED
            expect(not accepted, "kit1@example.org was refused, and is called accepted")

    @rule("name whoever gets a blind copy in the envelope, or where the provider's API wants them, and nowhere else")
    async def test_a_blind_copy_is_shown_to_nobody(self) -> None:
        declared = self.transport.capabilities.features
        if not {"bcc", "cc"} <= declared:
            return
        copies = {"cc": "kit8@example.org", "bcc": "kit9@example.org"}
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                await self.accepted(transport, self.message(0, **copies))
            to, cc, bcc = (places(fake.sent[0], f"kit{number}@example.org") for number in (0, 8, 9))
            shown = bcc if hasattr(fake.sent[0], "data") else (cc & bcc) - to  # where all stand is an envelope
        expect(not shown, f"the blind copy stands where the open one does: {', '.join(sorted(shown))}")

    @rule("give each person their own merge_data: it belongs to the address that it was given for")
    async def test_merge_data_stays_with_its_person(self) -> None:
        if "merge_data" not in self.transport.capabilities.features:
            return
        whose = {f"kit{number}@example.org": samples.token("merge") for number in range(2)}
        data = {address: {"name": word} for address, word in whose.items()}
        fields = {**self.feature_sample("template").fields, "to": list(whose), "merge_data": data}
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                await self.accepted(transport, self.message(0, **fields))
            for address, word in whose.items():
                others = [w for w in whose.values() if w != word]
                wrong = [w for sent in fake.sent for w in others if beside(sent, address, w, whose)]
                expect(not wrong, f"{address} gets the merge_data of somebody else")

    @rule("make the bytes of an e-mail with self.write, so that an extension that signs them is heard")
    async def test_bytes_that_an_extension_changed_are_what_is_handed_over(self) -> None:
        mark, seen = f"kit{new_id()}", list[bytes]()

        def transform(content: bytes, *_: object) -> bytes:
            seen.append(content)
            return f"X-Kit: {mark}\r\n".encode() + content

        with self.fake_provider() as fake:
            async with self.opened(fake, Resources(transform)) as transport:
                await self.accepted(transport, self.message())
            written = bool(seen) or fake.holds(fake.sent[0], "headers", "MIME-Version")
            arrived = fake.holds(fake.sent[0], "headers", mark)
        expect(arrived or not written, "bytes went out that no extension had seen, or other ones than it had made")
        expect(len(seen) <= 1, f"the bytes of one message were made {len(seen)} times")


class SmsConformance(_Suite[FakeT, SettingsT]):
    """Derive from this to test an SMS transport."""

    sender: ClassVar[str] = "+442079460999"

    def sample(self, number: int = 0) -> samples.Sample:
        return samples.plain_sms(number, self.sender)

    def other_sender(self, number: int) -> str:
        return f"+4420794608{number:02}"

    def feature_sample(self, feature: str) -> samples.Sample:
        return samples.sms_feature(feature, options=dict(self.provider_options))

    def build(self, fields: Mapping[str, Any]) -> Sms:
        return Sms(**fields)

    def all_features(self) -> frozenset[str]:
        return SMS_FEATURES

    @pytest.mark.parametrize("feature", sorted(SMS_FEATURES))
    @rule(_PROMISE)
    async def test_a_feature_arrives_if_declared_and_is_refused_if_not(self, feature: str) -> None:
        await self.arrives_or_is_refused(feature)
