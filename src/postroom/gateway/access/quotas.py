"""Against a key in the wrong hands, and forms that robots find: what a key may send where, and at what pace.

Robots that make a form send SMS to numbers they earn from ("SMS pumping") write to unusual countries, or to one
number over and over: countries are refused, and what goes beyond a pace or a budget is held.
"""

from __future__ import annotations

import hashlib
import logging
import math
from typing import TYPE_CHECKING

from postroom.config.gateway import Limit
from postroom.delivery.routing import country_of
from postroom.gateway.access.reservations import Booking
from postroom.gateway.http.errors import ApiError, Problem
from postroom.messages import Sms
from postroom.outbox.records import NEVER
from postroom.segments import count_segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from postroom.config.gateway import GatewaySettings
    from postroom.gateway.access.keys import Key
    from postroom.gateway.access.storage import AccessStorage
    from postroom.messages import Email

_log = logging.getLogger("postroom.gateway")

_COINS = 10_000
"""Parts of a unit of money that prices are counted in."""

ELSEWHERE = "*"


class Guards:
    """Holds what goes beyond a quota or budget, and refuses SMS to countries nobody meant."""

    def __init__(self, access_storage: AccessStorage, settings: GatewaySettings) -> None:
        self._ledger = access_storage
        self._settings = settings
        self._holding = bool(settings.quota or settings.sms_budget or settings.sms_per_recipient or settings.sms_spend)

    def watches_countries(self, message: Email | Sms) -> bool:
        return isinstance(message, Sms) and bool(self._settings.sms_countries)

    def check_countries(self, message: Email | Sms, accounts: Iterable[str]) -> None:
        """Raise Refusal (403) when an account that might send `message` may not send to one of its numbers."""
        lists = [self._settings.sms_countries[name] for name in accounts if name in self._settings.sms_countries]
        if not lists:
            return
        for index, number in enumerate(message.recipients):
            country = country_of(number)
            if any(country not in allowed for allowed in lists):
                what = f"This service sends no SMS to {country or 'numbers of no country'}."
                problem = Problem(f"data.to[{index}]", f"{number} is in {country or 'no country'}")
                raise ApiError(403, "country_not_allowed", what, (problem,))

    async def flows_at(self, key: Key, messages: Sequence[Email | Sms]) -> list[float]:
        """Count messages against the quotas of their key; for each, the Unix time until which it is held (0: not).

        NEVER for what is larger than a whole budget: a person has to let it go.
        """
        if not self._holding:
            return []
        wanted = [list(self._bookings(message)) for message in messages]
        times = [NEVER if math.isinf(time) else time for time in await self._ledger.book(key.id, wanted)]
        if held := [time for time in times if time]:
            _log.warning("key %s (%s) is over a quota: %s messages are held", key.id, key.name, len(held))
        return times

    def _bookings(self, message: Email | Sms) -> Iterator[Booking]:
        settings = self._settings
        yield from (Booking("quota", limit, 1) for limit in settings.quota)
        if not isinstance(message, Sms):
            return
        parts = count_segments(message.body).count
        yield from (Booking("sms parts", limit, parts * len(message.recipients)) for limit in settings.sms_budget)
        yield from (Booking("sms spend", _in_coins(limit), self._price(message, parts)) for limit in settings.sms_spend)
        for limit in settings.sms_per_recipient:
            yield from (Booking(f"to {_fingerprint(number)}", limit, 1) for number in message.recipients)

    def _price(self, message: Sms, parts: int) -> int:
        """Return what an SMS costs; a country without a price costs `*`, or as much as the dearest."""
        prices = self._settings.sms_prices
        unknown = prices.get(ELSEWHERE, max(prices.values()))
        return sum(round(prices.get(country_of(n) or "", unknown) * parts * _COINS) for n in message.recipients)


def _in_coins(limit: Limit) -> Limit:
    return Limit(limit.count * _COINS, limit.window)


def _fingerprint(number: str) -> str:
    """Stand for a number, so that counting does not keep it longer than its messages."""
    return hashlib.blake2b(number.encode(), digest_size=10).hexdigest()
