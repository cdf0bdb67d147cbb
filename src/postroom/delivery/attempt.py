"""One attempt: a message checked and prepared for one account, split as its transport needs it, and sent."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar

from postroom.addresses import Address
from postroom.delivery.dispatcher import AttemptResult, early_fault
from postroom.errors import DeliveryError, MessageError, PostroomError, Suppressed, UnsupportedFeature
from postroom.messages import Email, Message
from postroom.plugin.confirmation import Withdrawn
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from postroom.delivery.accounts import Accounts, Target
    from postroom.delivery.dispatcher import AccountDispatcher
    from postroom.delivery.progress import DeliveryProgress
    from postroom.plugin.confirmation import Confirm

MessageT = TypeVar("MessageT", bound=Message)

_log = logging.getLogger("postroom.delivery")


async def attempt(
    accounts: Accounts,
    target: Target,
    message: Message,
    recipients: tuple[str, ...],
    progress: DeliveryProgress,
    *,
    confirm: Confirm | None = None,
) -> PostroomError | None:
    """Send `message` through `target` to `recipients`, and record in `progress` what came of it.

    Returns the error that kept it from being tried at all. When it is cancelled, what may have reached the provider
    is recorded as unknown; of whom nothing is recorded, nothing was sent to. Raises Withdrawn when `confirm` does.
    """
    try:
        dispatcher = accounts.ready(target, message) or await accounts.dispatcher_for(target, message)
        if isinstance(message, Email) and len(recipients) < len(message.recipients):
            message = _without_suppressed(message, recipients, dispatcher, progress)
        prepared = prepare(message, dispatcher, progress)
        limit = dispatcher.capabilities.max_recipients
        whole = len(recipients) == len(prepared.recipients) and (limit is None or len(recipients) <= limit)
        parts = [prepared] if whole else split_for_transport(prepared, recipients, dispatcher)
    except DeliveryError as error:  # its transport could not be opened
        progress.record(target, AttemptResult(recipients, datetime.now(UTC), 0.0, error))
        return None
    except PostroomError as error:
        progress.skip(recipients, error)
        return error
    record = partial(progress.record, target, assume_sent=dispatcher.settings.on_unknown == "assume_sent")
    if len(parts) == 1:
        await dispatcher.send(parts[0], record, confirm)
        return None
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(dispatcher.send(part, record, confirm))
    except* Withdrawn:
        raise Withdrawn from None
    return None


def check_sendable(message: MessageT, now: datetime | None = None) -> MessageT:
    """Return `message` without a `send_at` that has come, if it may be sent at all.

    Raises TypeError for what is no message, MessageError for one that has expired.
    """
    if not isinstance(message, Message):
        raise TypeError(f"takes an Email or an Sms, not {type(message).__name__}")
    if message.send_at is None and message.expires_at is None:
        return message
    now = now or datetime.now(UTC)
    if message.expires_at and message.expires_at <= now:
        raise MessageError(f"expired at {message.expires_at.isoformat()}; nothing was sent")
    return message.stamped(send_at=None) if message.send_at and message.send_at <= now else message


def prepare(message: Message, dispatcher: AccountDispatcher, progress: DeliveryProgress) -> Message:
    """Return `message` as the transport gets it: with its id, its sender, and the Message-ID and Date all accounts use.

    Raises UnsupportedFeature or MessageError for what the account cannot send, ContractViolation for a transport
    that fails when it checks the message; nothing was sent then.
    """
    sender = getattr(message, "from_", None) or dispatcher.sender
    account = dispatcher.transport.account
    if isinstance(message, Email):
        if not isinstance(sender, Address):
            raise MessageError(
                f"no sender: give the message a from_, or set from on account {account!r}; nothing was sent"
            )
        if message.from_name:
            sender = Address(sender.email, message.from_name)
        if progress.message_id is None:
            progress.message_id = message_id_for(progress.id, sender)
        progress.date = progress.date or datetime.now(UTC)
        stamps = {"message_id": progress.message_id, "date": progress.date}
        prepared: Message = message.stamped(id=progress.id, from_=sender, **stamps)
    else:
        prepared = message.stamped(id=progress.id, from_=sender)
    if dispatcher.transforms is not None:
        prepared = dispatcher.transforms.message(prepared, account)
    missing = prepared.features - dispatcher.capabilities.features
    if missing:
        _refuse_or_warn(dispatcher, missing)
    if dispatcher.checks:
        try:
            dispatcher.transport.validate(prepared)
        except PostroomError:
            raise
        except Exception as error:
            raise early_fault(account, dispatcher.settings.provider, error, "validated the message") from error
    return prepared


def split_for_transport(message: Message, recipients: tuple[str, ...], dispatcher: AccountDispatcher) -> list[Message]:
    """Narrow a message to `recipients`, and split an SMS into as many messages as the transport needs.

    Raises UnsupportedFeature or MessageError for an e-mail that the provider cannot send to just these.
    """
    everyone = len(recipients) == len(message.recipients)
    capabilities, account, provider = (
        dispatcher.capabilities,
        dispatcher.transport.account,
        dispatcher.settings.provider,
    )
    most = capabilities.max_recipients or len(recipients)
    if message.channel_name is Channel.SMS:
        groups = [recipients[i : i + most] for i in range(0, len(recipients), most)]
        return [message.stamped(to=group, recipients=group) for group in groups]
    if not everyone and not capabilities.partial_envelope:
        raise UnsupportedFeature(
            f"{account}: {provider} cannot send to only some of an e-mail's recipients",
            feature="partial_envelope",
            provider=provider,
        )
    if len(recipients) > most:
        raise MessageError(
            f"{account}: {provider} takes at most {most} recipients a message, this has {len(recipients)}; nothing "
            "was sent. Send several messages"
        )
    return [message if everyone else message.for_recipients(recipients)]


def message_id_for(id_: str, sender: Address) -> str:
    """Return the Message-ID of the message `id_`; it is the same whenever it is made."""
    return f"<{id_}@{_ascii_domain(sender.email)}>"


def unsupported(account: str, provider: str, missing: Iterable[str]) -> UnsupportedFeature:
    """Return the error for a message that asks for what the provider cannot express."""
    names = sorted(missing)
    return UnsupportedFeature(
        f"{account}: {provider} cannot send {', '.join(names)}; nothing was sent. Leave it out, choose another "
        'provider, or set unsupported = "warn" on the account to send without it',
        feature=names[0],
        provider=provider,
    )


def _without_suppressed(
    email: Email, recipients: tuple[str, ...], dispatcher: AccountDispatcher, progress: DeliveryProgress
) -> Email:
    """Leave suppressed recipients out of the headers too, where the provider writes to everybody they name.

    Whoever else is missing from `recipients` was served already, and stays in the headers for the others to see.
    """
    missing = [recipient for recipient in email.recipients if recipient not in recipients]
    suppressed = [r for r in missing if (result := progress.result(r)) and result.code == Suppressed.code]
    return email if dispatcher.capabilities.partial_envelope else email.without(suppressed)


def _refuse_or_warn(dispatcher: AccountDispatcher, missing: frozenset[str]) -> None:
    account, provider = dispatcher.transport.account, dispatcher.settings.provider
    if dispatcher.settings.unsupported != "warn":
        raise unsupported(account, provider, missing)
    _log.warning("%s: %s sends the message without %s", account, provider, ", ".join(sorted(missing)))


@lru_cache(maxsize=1024)
def _ascii_domain(email: str) -> str:
    ascii_email = Address(email=f"x@{Address(email=email).domain}").ascii_email  # the local part may have no such form
    assert ascii_email
    return ascii_email.removeprefix("x@")
