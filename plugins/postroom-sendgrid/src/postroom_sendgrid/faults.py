"""Attribution of faults: which messages of a refused call are refused, and the calls that send the others again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom_sendgrid.bulk import Call, Member
    from postroom_sendgrid.errors import Fault

ROUNDS_WHOLE = 3
"""Refusals after which the innocent go on in halves, so that many bad messages cannot hold up the good for long."""


def attribute(
    call: Call, status: int, faults: Sequence[Fault], refusals: int
) -> tuple[list[tuple[Member, list[Fault]]], list[Call]]:
    """Return the messages that a refusal is for, each with its own faults, and the calls the others may go in.

    `refusals` counts those before. With every round a message is settled or a call halved, so the rounds end.
    """
    if len(call.members) > 1 and _hides_its_cause(status, faults):
        return [], call.halves()
    blamed, shared = _by_owner(call, faults) if status == 400 else ({}, list(faults))
    if not blamed:
        return [(member, shared) for member in call.members], []
    refused = [(call.members[position], [*own, *shared]) for position, own in blamed.items()]
    innocent = [position for position in range(len(call.members)) if position not in blamed]
    if not innocent:
        return refused, []
    rest = call.part(innocent)
    return refused, [rest] if refusals < ROUNDS_WHOLE else rest.halves()


def _hides_its_cause(status: int, faults: Sequence[Fault]) -> bool:
    """Whether single messages may be to blame without being named."""
    unnamed = [fault.field.startswith("personalizations") and fault.personalization is None for fault in faults]
    return status == 413 or (status == 400 and bool(unnamed) and all(unnamed))


def _by_owner(call: Call, faults: Sequence[Fault]) -> tuple[dict[int, list[Fault]], list[Fault]]:
    """Return the positions of the members that are named -> their faults, and the faults that name none.

    An owned fault's personalization is counted from the member's own first.
    """
    owners = [(position, own) for position, member in enumerate(call.members) for own in range(member.envelope_count)]
    blamed: dict[int, list[Fault]] = {}
    shared: list[Fault] = []
    for fault in faults:
        if fault.personalization is None or fault.personalization >= len(owners):
            shared.append(replace(fault, personalization=None))
        else:
            position, own = owners[fault.personalization]
            blamed.setdefault(position, []).append(replace(fault, personalization=own))
    return blamed, shared
