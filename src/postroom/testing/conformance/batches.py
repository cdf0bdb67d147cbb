"""Concurrency and batches: many messages at once, in a batch, and the same one again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from postroom.errors import DeliveryError
from postroom.receipts import Accepted
from postroom.testing.conformance.base import Conformance, FakeT, SettingsT, expect
from postroom.testing.conformance.rule import ConformanceError, rule
from postroom.testing.conformance.scenarios import Scenario

if TYPE_CHECKING:
    from postroom.plugin import Transport
    from postroom.testing.conformance.fake_provider import FakeProvider

AT_ONCE = 20
BATCH = 5
LARGEST_BATCH = 50
"""Messages of a batch, unless the transport takes fewer: its end must be treated like its beginning."""


class Batches(Conformance[FakeT, SettingsT]):
    """Each message gets its own answer, whatever goes on beside it."""

    @rule("keep what belongs to one message in local variables of `send`, never on the transport")
    async def test_messages_sent_at_once_each_get_their_own_answer(self) -> None:
        messages = [self.message(number) for number in range(AT_ONCE)]
        with self.fake_provider() as fake:
            for number, message in enumerate(messages):
                fake.answer_after(0.01 * (AT_ONCE - number), to=message.recipients[0])
            async with self.opened(fake) as transport:
                answers = await asyncio.gather(*(self.accepted(transport, message) for message in messages))
            _each_its_own(fake, messages, answers)

    @rule("return send_many's results in the order of the batch, one for each message, whichever was done first")
    async def test_a_batch_is_answered_in_its_order(self) -> None:
        messages = [self.message(number) for number in range(self._batch())]
        with self.fake_provider() as fake:
            fake.answer_after(0.2, to=messages[0].recipients[0])
            async with self.opened(fake) as transport:
                answers = await self._batched(transport, messages)
            for answer in answers:
                if isinstance(answer, DeliveryError):
                    raise ConformanceError(
                        f"the provider accepted every message, send_many says {answer!r}"
                    ) from answer
            _each_its_own(fake, messages, answers)

    @rule("judge each message by its own answer: the error in the place of the refused one, Accepted elsewhere")
    async def test_a_refused_message_of_a_batch_fails_alone(self) -> None:
        messages = [self.message(number) for number in range(self._batch())]
        refused = len(messages) - 2
        with self.fake_provider() as fake:
            fake.play(Scenario.REJECTED, to=messages[refused].recipients[0])
            async with self.opened(fake) as transport:
                answers = await self._batched(transport, messages)
        failed = [isinstance(answer, DeliveryError) for answer in answers]
        expect(
            failed == [number == refused for number in range(len(messages))],
            f"message {refused} was refused and no other, send_many answered {answers!r}",
        )

    @rule("never send a batch again whose answer was lost, nor a part of it: every outcome is unknown until looked up")
    async def test_a_batch_whose_answer_was_lost_is_not_sent_again(self) -> None:
        messages = [self.message(number) for number in range(self._batch())]
        with self.fake_provider() as fake:
            fake.play(Scenario.CLOSED_AFTER_READ)
            async with self.opened(fake) as transport:
                answers = await self._batched(transport, messages)
            for message in messages:
                times = len(_to(fake, message))
                expect(times == 1, f"a message of a batch whose answer was lost was sent {times} times")
        outcomes = {answer.outcome if isinstance(answer, DeliveryError) else "accepted" for answer in answers}
        expect(outcomes == {"unknown"}, f"the answer to a batch was lost, its messages were answered {outcomes}")

    @rule("take the sender from each message: neither the first of a batch, nor the one before, has the sender of all")
    async def test_every_message_has_its_own_sender(self) -> None:
        messages = [self.message(number, **{"from": self.other_sender(number)}) for number in range(2 + BATCH)]
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                for message in messages[:2]:
                    await self.accepted(transport, message)
                await self._batched(transport, messages[2:])
            for number, message in enumerate(messages):
                sender = self.other_sender(number)
                there = [fake.holds(sent, "from", sender) for sent in _to(fake, message)]
                expect(there and all(there), f"the message from {sender} went out with another sender")

    def other_sender(self, number: int) -> str:
        """A sender of that number's own."""
        raise NotImplementedError

    @rule("take every message as it comes: what was sent before is the core's to know, never the transport's")
    async def test_a_message_handed_over_again_is_sent_again(self) -> None:
        message = self.message()
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                for _ in range(2):
                    await self.accepted(transport, message)
            expect(len(fake.sent) == 2, f"a message handed over twice reached the provider {len(fake.sent)} times")
            if self.transport.capabilities.deduplicates:
                first, second = (set(fake.texts(sent)) | set(fake.credentials(sent)) for sent in fake.sent)
                _same_key(str(message.id), first | _headers(fake.sent[0]), second | _headers(fake.sent[1]))

    def _batch(self) -> int:
        most = self.transport.capabilities.max_batch
        return min(LARGEST_BATCH, most) if most > 1 else BATCH

    async def _batched(self, transport: Transport[Any, Any], messages: list[Any]) -> list[Accepted | DeliveryError]:
        try:
            answers = await transport.send_many(messages)
        except Exception as error:
            raise ConformanceError(f"send_many raised {error!r}; return a result for each message instead") from error
        expect(len(answers) == len(messages), f"send_many answered {len(answers)} results for {len(messages)} messages")
        for answer in answers:
            expect(isinstance(answer, (Accepted, DeliveryError)), f"send_many answered {answer!r} for a message")
        return list(answers)


def _each_its_own(fake: FakeProvider[Any], messages: list[Any], answers: list[Any]) -> None:
    for message, answer in zip(messages, answers, strict=True):
        own = _to(fake, message)
        expect(len(own) == 1, f"the message to {message.recipients[0]} reached the provider {len(own)} times")
        given = fake.identifier(own[0])
        expect(
            (answer.provider_message_id or "").startswith(given or " "),
            f"the message to {message.recipients[0]} got the provider's id {given!r}, its result says "
            f"{answer.provider_message_id!r}",
        )


def _to(fake: FakeProvider[Any], message: Any) -> list[Any]:
    """What reached the provider for the message's recipient."""
    return [sent for sent in fake.sent if message.recipients[0].removeprefix("+") in fake.recipients(sent)]


def _headers(sent: Any) -> set[str]:
    return set(getattr(sent, "headers", {}).values())


def _same_key(key: str, first: set[str], second: set[str]) -> None:
    expect(
        all(any(key in text for text in texts) for texts in (first, second)),
        "capabilities say deduplicates, but message.id is not in the request, so the provider cannot know a copy",
        "send message.id as the idempotency key, or declare deduplicates = False",
    )
