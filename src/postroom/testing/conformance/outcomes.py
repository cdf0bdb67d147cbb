"""Whatever breaks, and wherever: the true outcome, and one request."""

from __future__ import annotations

import asyncio
import time

import pytest

from postroom.errors import DeliveryError, PostroomError
from postroom.testing.conformance.fake_provider import PATIENCE, FakeProvider
from postroom.testing.conformance.kit import ACCOUNT, Answer, Conformance, expect
from postroom.testing.conformance.rule import ConformanceError, rule
from postroom.testing.conformance.scenarios import EXPECTED, FAILURES, RATE_LIMIT, Expected, Scenario

failures = pytest.mark.parametrize("situation", FAILURES, ids=lambda situation: situation.replace(" ", "-"))

reached = pytest.mark.parametrize(
    "situation",
    [situation for situation in FAILURES if situation is not Scenario.REFUSED_CONNECTION],
    ids=lambda situation: situation.replace(" ", "-"),
)

_CLOSED = Scenario.CLOSED_AFTER_READ

SHORT = 0.4
"""Seconds of timeout where the wire stays silent."""


class Outcomes(Conformance):
    """What became of an attempt, told truly."""

    @rule("return Accepted with provider_message_id, the id the provider's yes gives")
    async def test_a_yes_is_accepted_with_the_providers_id(self) -> None:
        with self.wire() as wire:
            async with self.opened(wire) as transport:
                answer = await self.accepted(transport, self.message())
            expect(len(wire.sent) == 1, f"{len(wire.sent)} messages reached the wire, not 1")
            given = wire.identifier(wire.sent[0])
        expect(
            answer.provider_message_id == given, f"the provider's id is {given!r}, not {answer.provider_message_id!r}"
        )

    @failures
    @rule("tell what is known: see the table of outcomes in the guide")
    async def test_a_failure_has_its_true_outcome(self, situation: Scenario) -> None:
        wire, error = await self._failure(situation)
        expected = RATE_LIMIT if situation is Scenario.RATE_LIMITED and wire.retry_after else EXPECTED[situation]
        _judge(situation, error, expected)

    @reached
    @rule("send once and raise: the core owns every retry, so switch off those of the SDK or the HTTP client")
    async def test_one_attempt_is_one_request(self, situation: Scenario) -> None:
        wire, _ = await self._answer(situation)
        expect(wire.tries == 1, f"one send was tried {wire.tries} times at the wire ({situation})")

    @failures
    @rule("begin the text with the account's name, and say what happened and what to do next")
    async def test_an_error_names_its_account_and_says_more_than_its_class(self, situation: Scenario) -> None:
        _, answer = await self._answer(situation)
        if isinstance(answer, DeliveryError):
            expect(ACCOUNT in str(answer), f"the error does not name the account: {answer}")
            expect(len(str(answer)) > len(ACCOUNT) + 20, f"the error tells nobody what to do: {answer}")

    @reached
    @rule("leave nothing behind that a failure broke: a connection, a lock, a counter")
    async def test_the_next_message_goes_out_after_a_failure(self, situation: Scenario) -> None:
        timeout = 2 * SHORT if situation is Scenario.SILENT else PATIENCE
        with self.wire() as wire:
            wire.play(situation)
            async with self.opened(wire, timeout=timeout) as transport:
                await self.hand_over(transport, self.message(0))
                wire.play(Scenario.ACCEPTED)
                await self.accepted(transport, self.message(1))

    @rule(
        "pass on how long to wait: raise RateLimited(…, retry_after=seconds); HttpTransport.failure reads Retry-After"
    )
    async def test_the_wait_a_provider_asks_for_is_kept(self) -> None:
        wire, error = await self._failure(Scenario.RATE_LIMITED)
        expect(
            error.retry_after == wire.retry_after,
            f"the provider asked for {wire.retry_after} s of patience, the error says {error.retry_after}",
        )

    @rule("end within settings.timeout, or leave keeps_timeout False so that the core ends it")
    async def test_the_timeout_is_kept(self) -> None:
        begun = time.monotonic()
        await self._answer(Scenario.SILENT)
        took = time.monotonic() - begun
        expect(took < SHORT + PATIENCE / 2, f"with a timeout of {SHORT:g} s the send took {took:.1f} s")

    @rule("send once, also when a kept connection turns out to be gone: no client library may repeat the request")
    async def test_a_kept_connection_that_broke_is_not_used_twice(self) -> None:
        with self.wire() as wire:
            async with self.opened(wire) as transport:
                await self.accepted(transport, self.message(0))
                wire.play(Scenario.CLOSED_AFTER_READ)
                answer = await self.hand_over(transport, self.message(1))
            expect(len(wire.sent) == 2, f"two messages reached the wire {len(wire.sent)} times")
        outcome = answer.outcome if isinstance(answer, DeliveryError) else "accepted"
        expect(outcome == "unknown", f"closed after read on a kept connection: {answer!r}", EXPECTED[_CLOSED].advice)

    @rule("let CancelledError through at once, catch nothing broader than Exception, and leave nothing behind")
    async def test_a_cancelled_send_has_left_once_and_the_next_one_goes_out(self) -> None:
        with self.wire() as wire:
            wire.play(Scenario.SILENT)
            async with self.opened(wire) as transport:
                task = asyncio.create_task(transport.send(self.message(0)))
                await wire.received(1)
                notes = await _cancel(task)
                expect(
                    notes or not transport.keeps_timeout,
                    "a send cancelled after the hand-over does not say so",
                    "with keeps_timeout, add a note to the CancelledError that the message was handed over",
                )
                expect(wire.tries == 1, f"a cancelled send was tried {wire.tries} times at the wire")
                wire.play(Scenario.ACCEPTED)
                await self.accepted(transport, self.message(1))

    async def _failure(self, situation: Scenario) -> tuple[FakeProvider, DeliveryError]:
        wire, answer = await self._answer(situation)
        if isinstance(answer, DeliveryError):
            return wire, answer
        raise ConformanceError(
            f"{situation}: the message was reported accepted ({answer!r})", EXPECTED[situation].advice
        )

    async def _answer(self, situation: Scenario) -> tuple[FakeProvider, Answer]:
        with self.wire() as wire:
            wire.play(situation)
            if situation is not Scenario.REFUSED_CONNECTION:
                return wire, await self._send_into(wire, situation)
        return wire, await self._send_into(wire, situation)

    async def _send_into(self, wire: FakeProvider, situation: Scenario) -> Answer:
        timeout = SHORT if situation is Scenario.SILENT else PATIENCE
        async with self.opened(wire, timeout=timeout) as transport:
            return await self.hand_over(transport, self.message())


async def _cancel(task: asyncio.Task[object]) -> list[str]:
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=PATIENCE)
    expect(done, f"a cancelled send was still going on after {PATIENCE:g} s")
    try:
        answer = task.result()
    except asyncio.CancelledError as cancelled:
        return list(getattr(cancelled, "__notes__", ()))
    except PostroomError as error:
        answer = error
    raise ConformanceError(f"a cancelled send ended as if it had not been cancelled, with {answer!r}")


def _judge(situation: Scenario, error: DeliveryError, expected: Expected) -> None:
    seen = f"{situation}: {type(error).__name__} with outcome {error.outcome} and scope {error.scope} ({error})"
    outcomes, scopes = _either(expected.outcomes), _either(expected.scopes)
    expect(error.outcome in expected.outcomes, f"{seen}; the outcome must be {outcomes}", expected.advice)
    expect(error.scope in expected.scopes, f"{seen}; the scope must be {scopes}", expected.advice)
    expect(isinstance(error, expected.kind), f"{seen}; it must be a {expected.kind.__name__}", expected.advice)


def _either(words: frozenset[str]) -> str:
    return " or ".join(sorted(words))
