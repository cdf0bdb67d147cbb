"""Reconciliation: `check` and `reconcile` ask the provider, and send nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from postroom.errors import DeliveryError, PostroomError
from postroom.plugin import CheckReport, Transport, UnknownAttempt
from postroom.receipts import Accepted, NotTaken
from postroom.testing.conformance.base import Conformance, FakeT, SettingsT, expect
from postroom.testing.conformance.rule import ConformanceError, Tested, rule
from postroom.testing.conformance.scenarios import Scenario

if TYPE_CHECKING:
    from postroom.testing.conformance.fake_provider import Lookup


def _reconciles(kit: Tested) -> bool:
    return kit.transport.capabilities.reconciles


NOT_DECLARED = "capabilities do not say reconciles"


class Reconciliation(Conformance[FakeT, SettingsT]):
    """What the provider is asked about messages and accounts."""

    @rule("send no message in `check`; answer a CheckReport or raise a PostroomError")
    async def test_a_check_sends_nothing(self) -> None:
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                try:
                    report = await transport.check()
                except PostroomError:
                    report = CheckReport(ok=False, summary="refused")
            expect(isinstance(report, CheckReport), f"check returned {report!r}")
            expect(fake.sent == [], "check handed a message to the provider")

    @rule("set reconciles = True in capabilities when `reconcile` is implemented, and only then")
    async def test_reconcile_is_declared_if_and_only_if_it_is_there(self) -> None:
        there = self.transport.reconcile is not Transport.reconcile
        expect(there is _reconciles(self), f"reconcile implemented: {there}, declared: {_reconciles(self)}")

    @rule(
        "ask the provider for the message by its id, and return Accepted with the provider's id",
        applies=_reconciles,
        otherwise=NOT_DECLARED,
    )
    async def test_a_message_that_the_provider_has_is_reconciled_as_accepted(self) -> None:
        found, identifier = await self._reconciled("found")
        expect(
            isinstance(found, Accepted) and found.provider_message_id == identifier,
            f"the provider has it as {identifier!r}, reconcile answered {found!r}",
        )

    @rule(
        "return NotTaken when the provider would surely know, else None: the message is sent again after NotTaken",
        applies=_reconciles,
        otherwise=NOT_DECLARED,
    )
    async def test_a_message_that_the_provider_has_not_is_never_reconciled_as_accepted(self) -> None:
        found, _ = await self._reconciled("missing")
        expect(
            found is None or isinstance(found, NotTaken),
            f"the provider has no such message, reconcile answered {found!r}",
        )

    @rule(
        "answer None for a message that was handed over just now and is not there: it may be on its way yet. NotTaken, "
        "after which it is sent again, is for when the provider would surely know: see attempt.started_at",
        applies=_reconciles,
        otherwise=NOT_DECLARED,
    )
    async def test_a_message_of_just_now_that_is_not_there_is_not_called_not_taken(self) -> None:
        found, _ = await self._reconciled("missing")
        expect(not isinstance(found, NotTaken), "a message of a second ago was called not taken")

    @rule(
        "match what is found with the message: its id, else recipient, sender, text and time; else None",
        applies=_reconciles,
        otherwise=NOT_DECLARED,
    )
    async def test_somebody_elses_message_is_not_taken_for_ours(self) -> None:
        ours, other = self.message(0), self.message(1)
        with self.fake_provider() as fake:
            fake.play(Scenario.CLOSED_AFTER_READ)
            async with self.opened(fake) as transport:
                asked = UnknownAttempt(ours, datetime.now(UTC))
                for message in (ours, other):
                    await self.attempt(transport, message)
                fake.answer_lookups("found", fake.new_identifier())
                try:
                    found = await transport.reconcile(asked)
                except DeliveryError:
                    return
            answers = "".join(fake.lookup_answers)
        has_ours, has_other = (m.recipients[0].removeprefix("+") in answers for m in (ours, other))
        expect(
            has_ours or not has_other or not isinstance(found, Accepted),
            f"the provider answered with a message to {other.recipients[0]}, reconcile took it for the one to "
            f"{ours.recipients[0]}",
        )

    @rule(
        "look the message up anew each time, and keep nothing between two lookups: the same state has the same answer",
        applies=_reconciles,
        otherwise=NOT_DECLARED,
    )
    async def test_the_same_lookup_has_the_same_answer(self) -> None:
        for lookup in ("found", "missing"):
            first, second = await self._reconciled_twice(lookup)
            expect(first == second, f"reconcile answered {first!r}, and asked again {second!r}")

    @rule(
        "raise a DeliveryError or return None when the provider cannot be asked; NotTaken would send a second copy",
        applies=_reconciles,
        otherwise=NOT_DECLARED,
    )
    async def test_a_failed_lookup_settles_nothing(self) -> None:
        found, _ = await self._reconciled("failed")
        expect(found is None or isinstance(found, DeliveryError), f"the lookup failed, reconcile answered {found!r}")

    async def _reconciled_twice(self, lookup: Lookup) -> tuple[object, object]:
        with self.fake_provider() as fake:
            fake.play(Scenario.CLOSED_AFTER_READ)
            async with self.opened(fake) as transport:
                asked = UnknownAttempt(self.message(), datetime.now(UTC))
                await self.attempt(transport, asked.message)
                fake.answer_lookups(lookup, fake.new_identifier())
                try:
                    return await transport.reconcile(asked), await transport.reconcile(asked)
                except DeliveryError as error:
                    return type(error), type(error)

    async def _reconciled(self, lookup: Lookup) -> tuple[object, str]:
        with self.fake_provider() as fake:
            fake.play(Scenario.CLOSED_AFTER_READ)
            identifier = fake.new_identifier()
            async with self.opened(fake) as transport:
                message, started_at = self.message(), datetime.now(UTC)
                await self.attempt(transport, message)
                fake.answer_lookups(lookup, identifier)
                try:
                    found: object = await transport.reconcile(UnknownAttempt(message, started_at))
                except DeliveryError as error:
                    found = error
                except Exception as error:
                    raise ConformanceError(f"reconcile raised {type(error).__name__}: {error}") from error
            expect(len(fake.sent) == 1, "reconcile handed the message over again")
        return found, identifier
