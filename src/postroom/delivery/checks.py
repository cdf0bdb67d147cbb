"""Account checks: settings and names validated, credentials and reachability tried; nothing is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.errors import PluginError, PostroomError

if TYPE_CHECKING:
    from postroom.delivery.accounts import Accounts, Target
    from postroom.delivery.routing import Router
    from postroom.plugin.transport import CheckReport
    from postroom.receipts import Channel


def validate_accounts(accounts: Accounts, router: Router) -> None:
    """Validate the settings of every account, and every name that defaults and rules use.

    Raises ConfigError, or ProviderNotFound for a name that nothing answers to.
    """
    for name in router.accounts:
        for target, channel in router.uses(name):
            accounts.settings(target, channel)
    for name, channel in router.names_in_use():
        router.targets(name, channel)


async def check_accounts(
    accounts: Accounts, router: Router, only: str | None
) -> dict[str, CheckReport | PostroomError]:
    """Try each account, or the one that is named, for each channel it carries; see `Postroom.check`."""
    found: dict[str, CheckReport | PostroomError] = {}
    for name in [only] if only else router.accounts:
        try:
            uses = router.uses(name)
        except PluginError as error:
            if only:
                raise
            found[name] = error
            continue
        for target, channel in uses:
            label = target.name if len(uses) == 1 else f"{target.name} ({channel})"
            found[label] = await _checked(accounts, target, channel)
    return found


async def _checked(accounts: Accounts, target: Target, channel: Channel) -> CheckReport | PostroomError:
    try:
        return await accounts.check(target, channel)
    except PostroomError as error:
        return error
