"""Outcomes: whatever breaks, and wherever, the true outcome and one request."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from postroom.errors import DeliveryError, Outcome, PostroomError, Scope
from postroom.plugin.cancellation import was_handed_over
from postroom.plugin.confirmation import Withdrawn, confirming
from postroom.testing.conformance.base import ACCOUNT, Answer, Conformance, FakeT, SettingsT, expect
from postroom.testing.conformance.fake_provider import DEADLINE
from postroom.testing.conformance.rule import ConformanceError, rule
from postroom.testing.conformance.scenarios import EXPECTED, FAILURES, RATE_LIMIT, Expected, Scenario

failures = pytest.mark.parametrize("scenario", FAILURES, ids=lambda scenario: scenario.replace(" ", "-"))

reached = pytest.mark.parametrize(
    "scenario",
    [scenario for scenario in FAILURES if scenario is not Scenario.REFUSED_CONNECTION],
    ids=lambda scenario: scenario.replace(" ", "-"),
)

_CLOSED = Scenario.CLOSED_AFTER_READ

SHORT = 1.0
"""Seconds of timeout where the provider stays silent."""


class Outcomes(Conformance[FakeT, SettingsT]):
    """The outcome of an attempt, for every way in which it can end."""

    @rule("return Accepted with provider_message_id, the id the provider's success response gives")
    async def test_a_yes_is_accepted_with_the_providers_id(self) -> None:
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                answer = await self.accepted(transport, self.message())
            expect(len(fake.sent) == 1, f"{len(fake.sent)} messages reached the provider, not 1")
            given = fake.identifier(fake.sent[0])
        expect(
            answer.provider_message_id == given, f"the provider's id is {given!r}, not {answer.provider_message_id!r}"
        )

    @failures
    @rule("raise what is known: see the table of outcomes in the guide")
    async def test_a_failure_has_its_true_outcome(self, scenario: Scenario) -> None:
        fake, error = await self._failure(scenario)
        expected = RATE_LIMIT if scenario is Scenario.RATE_LIMITED and fake.retry_after else EXPECTED[scenario]
        _judge(scenario, error, expected)

    @failures
    @rule("mark `suppress` only where the provider refuses for good for the person's sake: they opted out, or are gone")
    async def test_a_failure_that_may_pass_or_proves_nothing_suppresses_nobody(self, scenario: Scenario) -> None:
        _, answer = await self._answer(scenario)
        if isinstance(answer, DeliveryError):
            marks = [(answer.suppress, answer.outcome), *((each.suppress, each.outcome) for each in answer.recipients)]
            for mark, outcome in marks:
                expect(
                    not mark or (outcome is Outcome.PERMANENT and answer.scope is not Scope.ACCOUNT),
                    f"{scenario}: marked {mark} with the outcome {outcome}, scope {answer.scope}",
                )

    @reached
    @rule("send once and raise: the core owns every retry, so switch off those of the SDK or the HTTP client")
    async def test_one_attempt_is_one_request(self, scenario: Scenario) -> None:
        fake, _ = await self._answer(scenario)
        expect(fake.tries == 1, f"one send was tried {fake.tries} times at the provider ({scenario})")

    @failures
    @rule("begin the text with the account's name, and say what happened and what to do next")
    async def test_an_error_names_its_account_and_says_more_than_its_class(self, scenario: Scenario) -> None:
        _, answer = await self._answer(scenario)
        if isinstance(answer, DeliveryError):
            expect(ACCOUNT in str(answer), f"the error does not name the account: {answer}")
            expect(len(str(answer)) > len(ACCOUNT) + 20, f"the error says nothing of what to do: {answer}")

    @reached
    @rule("leave nothing behind that a failure broke: a connection, a lock, a counter")
    async def test_the_next_message_goes_out_after_a_failure(self, scenario: Scenario) -> None:
        timeout = 3 * SHORT if scenario is Scenario.SILENT else DEADLINE
        with self.fake_provider() as fake:
            fake.play(scenario)
            async with self.opened(fake, timeout=timeout) as transport:
                await self.attempt(transport, self.message(0))
                fake.play(Scenario.ACCEPTED)
                await self.accepted(transport, self.message(1))

    @rule(
        "pass on how long to wait: raise RateLimited(…, retry_after=seconds); HttpTransport.failure reads Retry-After"
    )
    async def test_the_wait_a_provider_asks_for_is_kept(self) -> None:
        fake, error = await self._failure(Scenario.RATE_LIMITED)
        expect(
            error.retry_after == fake.retry_after,
            f"the provider asked for {fake.retry_after} s of limit, the error says {error.retry_after}",
        )

    @rule("end within settings.timeout, or leave keeps_timeout False so that the core ends it")
    async def test_the_timeout_is_kept(self) -> None:
        begun = time.monotonic()
        await self._answer(Scenario.SILENT)
        took = time.monotonic() - begun
        expect(took < SHORT + DEADLINE / 2, f"with a timeout of {SHORT:g} s the send took {took:.1f} s")

    @rule("send once, also when a kept connection turns out to be gone: no client library may repeat the request")
    async def test_a_kept_connection_that_broke_is_not_used_twice(self) -> None:
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                await self.accepted(transport, self.message(0))
                fake.play(Scenario.CLOSED_AFTER_READ)
                answer = await self.attempt(transport, self.message(1))
            expect(len(fake.sent) == 2, f"two messages reached the provider {len(fake.sent)} times")
        outcome = answer.outcome if isinstance(answer, DeliveryError) else "accepted"
        expect(outcome == "unknown", f"closed after read on a kept connection: {answer!r}", EXPECTED[_CLOSED].advice)

    @rule("let CancelledError through at once, catch nothing broader than Exception, and leave nothing behind")
    async def test_a_cancelled_send_has_left_once_and_the_next_one_goes_out(self) -> None:
        with self.fake_provider() as fake:
            fake.play(Scenario.SILENT)
            async with self.opened(fake) as transport:
                task = asyncio.create_task(transport.send(self.message(0)))
                await fake.received(1)
                handed_over = await _cancel(task)
                expect(
                    handed_over or not transport.keeps_timeout,
                    "a send cancelled after the hand-over does not say so",
                    "with keeps_timeout, let no CancelledError through without mark_cancelled(…, handed_over=…)",
                )
                expect(fake.tries == 1, f"a cancelled send was tried {fake.tries} times at the provider")
                fake.play(Scenario.ACCEPTED)
                await self.accepted(transport, self.message(1))

    @rule(
        "with confirms, await confirmation() immediately before the provider could take the message, and let Withdrawn "
        "through; or leave confirms False, so that the core awaits it before send"
    )
    async def test_a_message_that_is_withdrawn_is_not_sent(self) -> None:
        sent_when_asked: list[int] = []

        async def confirm() -> None:
            sent_when_asked.append(len(fake.sent))
            if len(sent_when_asked) == 1:
                raise Withdrawn

        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                if not transport.confirms:
                    return
                with confirming(confirm):
                    with suppress(Withdrawn):
                        answer = await transport.send(self.message(0))
                        raise ConformanceError(f"a message that was withdrawn was answered {answer!r}")
                    await self.accepted(transport, self.message(1))
        expect(sent_when_asked[:2] == [0, 0], "it was asked for after the message had reached the provider")
        expect(len(fake.sent) == 1, f"{len(fake.sent)} messages reached the provider, not 1")

    async def _failure(self, scenario: Scenario) -> tuple[FakeT, DeliveryError]:
        fake, answer = await self._answer(scenario)
        if isinstance(answer, DeliveryError):
            return fake, answer
        raise ConformanceError(f"{scenario}: the message was reported accepted ({answer!r})", EXPECTED[scenario].advice)

    async def _answer(self, scenario: Scenario) -> tuple[FakeT, Answer]:
        with self.fake_provider() as fake:
            fake.play(scenario)
            if scenario is not Scenario.REFUSED_CONNECTION:
                return fake, await self._send_into(fake, scenario)
        return fake, await self._send_into(fake, scenario)

    async def _send_into(self, fake: FakeT, scenario: Scenario) -> Answer:
        timeout = SHORT if scenario is Scenario.SILENT else DEADLINE
        async with self.opened(fake, timeout=timeout) as transport:
            return await self.attempt(transport, self.message())


async def _cancel(task: asyncio.Task[object]) -> bool | None:
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=DEADLINE)
    expect(done, f"a cancelled send was still going on after {DEADLINE:g} s")
    try:
        answer = task.result()
    except asyncio.CancelledError as cancelled:
        return was_handed_over(cancelled)
    except PostroomError as error:
        answer = error
    raise ConformanceError(f"a cancelled send ended as if it had not been cancelled, with {answer!r}")


def _judge(scenario: Scenario, error: DeliveryError, expected: Expected) -> None:
    seen = f"{scenario}: {type(error).__name__} with outcome {error.outcome} and scope {error.scope} ({error})"
    outcomes, scopes = _either(expected.outcomes), _either(expected.scopes)
    expect(error.outcome in expected.outcomes, f"{seen}; the outcome must be {outcomes}", expected.advice)
    expect(error.scope in expected.scopes, f"{seen}; the scope must be {scopes}", expected.advice)
    expect(isinstance(error, expected.kind), f"{seen}; it must be a {expected.kind.__name__}", expected.advice)


def _either(words: frozenset[str]) -> str:
    return " or ".join(sorted(words))
