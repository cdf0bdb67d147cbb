"""Dry run: what each account would make of a message. Opens no connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroom.delivery.attempt import check_sendable, prepare, split_for_transport
from postroom.delivery.progress import DeliveryProgress
from postroom.errors import PostroomError, UnsupportedFeature
from postroom.messages import new_id

if TYPE_CHECKING:
    from postroom.delivery.accounts import Accounts, Target
    from postroom.delivery.routing import Router
    from postroom.messages import Email, Message, Sms


@dataclass(frozen=True, slots=True)
class AccountPreview:
    """What one account would make of a message.

    `message` is what its transport would get, None where the account would refuse it, for `problem`; an SMS to more
    recipients than the provider takes goes as several. `unsupported` are the features it would be refused for,
    `left_out` those it would be sent without. `sender` is the account's.
    """

    account: str
    provider: str
    sender: str | None = None
    message: Message | None = None
    unsupported: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    problem: str | None = None


def preview(accounts: Accounts, router: Router, message: Email | Sms) -> list[AccountPreview]:
    """Return what every account that `message` would be tried at now would make of its part of it, in their order.

    Raises what choosing an account raises, and MessageError for a message that has expired.
    """
    sendable = check_sendable(message)
    progress = DeliveryProgress(sendable, sendable.id or new_id())
    return [
        _account_preview(accounts, target, part, progress)
        for part, _, targets in router.peek(sendable)
        for target in targets
    ]


def _account_preview(
    accounts: Accounts, target: Target, message: Message, progress: DeliveryProgress
) -> AccountPreview:
    missing: tuple[str, ...] = ()
    sender: str | None = None
    try:
        dispatcher = accounts.unopened(target, message)
        sender = dispatcher.settings.from_
        missing = tuple(sorted(message.features - dispatcher.capabilities.features))
        prepared = prepare(message, dispatcher, progress)
        split_for_transport(prepared, prepared.recipients, dispatcher)
    except UnsupportedFeature as error:
        return AccountPreview(target.name, target.provider, sender, unsupported=missing or (error.feature,))
    except PostroomError as error:
        return AccountPreview(target.name, target.provider, sender, problem=str(error))
    return AccountPreview(target.name, target.provider, sender, prepared, left_out=missing)
