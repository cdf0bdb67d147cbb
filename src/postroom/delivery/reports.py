"""Provider reports: a webhook request read and verified by the transport of its account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from postroom.errors import WebhookError

if TYPE_CHECKING:
    from postroom.delivery.accounts import Accounts
    from postroom.delivery.routing import Router
    from postroom.events import Event
    from postroom.plugin.transport import WebhookRequest

AHEAD = timedelta(days=1)
"""How far a provider's clock, or its time zone, may be ahead of ours; what is dated later is dated when it came."""


async def read_reports(accounts: Accounts, router: Router, account: str, request: WebhookRequest) -> list[Event]:
    """Return what a request to `account` reports.

    Raises SignatureInvalid, PayloadInvalid, WebhookError for a provider that never reports, and ProviderNotFound.
    """
    for target, channel in router.uses(account):
        events = await accounts.read_report(target, channel, request)
        if events is not None:
            return [_as_it_came(event) for event in events]
    raise _never_reports(account)


async def check_report_head(accounts: Accounts, router: Router, account: str, head: WebhookRequest) -> bool:
    """Return whether the head of a request to `account` proves who sends it.

    Raises SignatureInvalid, WebhookError for a provider that never reports, and ProviderNotFound.
    """
    for target, channel in router.uses(account):
        proven = await accounts.check_report_head(target, channel, head)
        if proven is not None:
            return proven
    raise _never_reports(account)


def _never_reports(account: str) -> WebhookError:
    return WebhookError(f"the provider of account {account!r} sends no reports that postroom can read")


def _as_it_came(event: Event) -> Event:
    now = datetime.now(UTC)
    if event.occurred_at <= now + AHEAD:
        return event
    return event.model_copy(update={"occurred_at": now, "dated": False})
