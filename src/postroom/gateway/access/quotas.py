"""Quotas and protection against SMS pumping: what a key may send where, and at what pace.

Robots that make a form send SMS to numbers they earn from ("SMS pumping") write to unusual countries, or to one
number over and over: countries are refused, and what goes beyond a pace or a budget is held.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from typing import TYPE_CHECKING, NamedTuple

from postroom.config.gateway import Limit
from postroom.delivery.routing import country_of
from postroom.gateway.access.storage import Counter
from postroom.gateway.http.errors import ApiError, Problem
from postroom.messages import Sms
from postroom.outbox.records import NEVER
from postroom.segments import count_segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from postroom.config.gateway import GatewaySettings
    from postroom.gateway.access.keys import ApiKey
    from postroom.gateway.access.sliding_window import SlidingWindow
    from postroom.gateway.access.storage import AccessStorage
    from postroom.messages import Email

_log = logging.getLogger("postroom.gateway")

_PRICE_UNITS = 10_000
"""Parts of a unit of money that prices are counted in."""

_PRUNE_AFTER = 60.0
"""Seconds between two removals of windows nobody needs any more."""

EVERYWHERE_ELSE = "*"

EVERY_KEY = "every key"
"""In place of a key's id: what all keys use together; no key has such an id."""


class Reservation(NamedTuple):
    """`cost` to be counted against a quota."""

    counter: Counter
    cost: int


class Quotas:
    """Holds what goes beyond a quota or budget, and refuses SMS to countries nobody meant."""

    def __init__(
        self, storage: AccessStorage, settings: GatewaySettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._storage = storage
        self._settings = settings
        self._clock = clock
        self._prune_at = 0.0
        of_keys = settings.quota or settings.sms_budget or settings.sms_per_recipient or settings.sms_spend
        self._limited = bool(of_keys or settings.sms_per_number)
        self._depends_on_numbers = bool(settings.sms_countries or settings.sms_refused_types)

    def depends_on_numbers(self, message: Email | Sms) -> bool:
        """Whether it depends on the numbers of a message if it may go."""
        return isinstance(message, Sms) and self._depends_on_numbers

    def check_numbers(self, message: Email | Sms, accounts: Iterable[str], ruled: Iterable[Sequence[str]] = ()) -> None:
        """Raise ApiError (403) where `message` must not go to one of its numbers.

        `accounts` are those that might send it; `ruled`, for each recipient, those that the rules would have had do it:
        otherwise whoever names another account would be free of the limits of the one that is meant for that number.
        """
        named = tuple(accounts)
        behind = list(ruled) or [()] * len(message.recipients)
        for index, (number, others) in enumerate(zip(message.recipients, behind, strict=True)):
            self._check_type(number, index)
            self._check_country(number, index, (*named, *others))

    def _check_type(self, number: str, index: int) -> None:
        refused = self._settings.sms_refused_types
        if refused and (type_ := number_type(number)) in refused:
            what = f"This service sends no SMS to numbers of the type {type_}."
            raise ApiError(403, "number_not_allowed", what, (Problem(f"data.to[{index}]", f"{number} is {type_}"),))

    def _check_country(self, number: str, index: int, accounts: Iterable[str]) -> None:
        countries = self._settings.sms_countries
        everywhere_else = countries.get(EVERYWHERE_ELSE)
        lists = [listed for name in accounts if (listed := countries.get(name, everywhere_else)) is not None]
        if not lists:
            return
        country = country_of(number)
        if any(country not in allowed for allowed in lists):
            what = f"This service sends no SMS to {country or 'numbers of no country'}."
            problem = Problem(f"data.to[{index}]", f"{number} is in {country or 'no country'}")
            raise ApiError(403, "country_not_allowed", what, (problem,))

    async def reserve(self, key: ApiKey, messages: Sequence[Email | Sms]) -> list[float]:
        """Count messages against the quotas of their key; for each, the Unix time until which it is held (0: not).

        NEVER for what is larger than a whole budget: a person has to let it go. Empty when there are no quotas.
        """
        if not self._limited:
            return []
        own = await self._counted(key.id, [[*self._reservations(message)] for message in messages])
        shared = await self._counted(EVERY_KEY, [[*self._shared(message)] for message in messages])
        times = [max(pair) for pair in zip(own, shared, strict=True)]
        if held := [time for time in times if time]:
            _log.warning("key %s (%s) is over a quota: %s messages are held", key.id, key.name, len(held))
        return [NEVER if math.isinf(time) else time for time in times]

    async def _counted(self, whose: str, wanted: Sequence[Sequence[Reservation]]) -> list[float]:
        """Count what is wanted for one key, or for all together; for each message, when it fits."""
        counters = list(dict.fromkeys(reservation.counter for each in wanted for reservation in each))
        if not counters:
            return [0.0] * len(wanted)
        now = self._clock()
        times = await self._storage.update_windows(
            whose, counters, lambda windows: reserve(dict(zip(counters, windows, strict=True)), wanted, now)
        )
        if now >= self._prune_at:
            self._prune_at = now + _PRUNE_AFTER
            await self._storage.delete_stale_windows(now)
        return times

    def _shared(self, message: Email | Sms) -> Iterator[Reservation]:
        """What counts whoever sends it: a number is flooded as well by many keys."""
        if isinstance(message, Sms):
            for limit in self._settings.sms_per_number:
                for number in message.recipients:
                    yield Reservation(Counter(f"to {_fingerprint(number)}", limit), 1)

    def _reservations(self, message: Email | Sms) -> Iterator[Reservation]:
        settings = self._settings
        yield from (Reservation(Counter("quota", limit), 1) for limit in settings.quota)
        if not isinstance(message, Sms):
            return
        parts = count_segments(message.body).count
        for limit in settings.sms_budget:
            yield Reservation(Counter("sms parts", limit), parts * len(message.recipients))
        for limit in settings.sms_spend:
            yield Reservation(Counter("sms spend", _in_price_units(limit)), self._price(message, parts))
        for limit in settings.sms_per_recipient:
            for number in message.recipients:
                yield Reservation(Counter(f"to {_fingerprint(number)}", limit), 1)

    def _price(self, message: Sms, parts: int) -> int:
        """Return what an SMS costs; a country without a price costs `*`, or as much as the dearest."""
        prices = self._settings.sms_prices
        unknown = prices.get(EVERYWHERE_ELSE, max(prices.values()))
        return sum(round(prices.get(country_of(n) or "", unknown) * parts * _PRICE_UNITS) for n in message.recipients)


def reserve(
    windows: Mapping[Counter, SlidingWindow], wanted: Sequence[Sequence[Reservation]], now: float
) -> list[float]:
    """Count all that is wanted, in its order; for each message, the Unix time from which it fits (0: now).

    A time that is taken is taken: those who come later wait behind it. What is larger than a whole limit fits
    never (infinity).
    """
    return [max([0.0, *(windows[counter].reserve(now, cost) for counter, cost in each)]) for each in wanted]


def number_type(number: str) -> str:
    """Return the type of an E.164 number in the words of `sms_refused_types`, or `unknown`."""
    import phonenumbers  # noqa: PLC0415 - costly to import

    found = phonenumbers.number_type(phonenumbers.parse(number))
    return phonenumbers.PhoneNumberType.to_string(found).lower()


def _in_price_units(limit: Limit) -> Limit:
    return Limit(limit.count * _PRICE_UNITS, limit.window)


def _fingerprint(number: str) -> str:
    """Stand for a number, so that counting does not keep it longer than its messages."""
    return hashlib.blake2b(number.encode(), digest_size=10).hexdigest()
