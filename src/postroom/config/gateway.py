"""The `[gateway]` table: how the HTTP service answers, whom, and how much it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from postroom.config.section import Seconds, Section
from postroom.notation import SECONDS, read_rate

_LIMIT_SCHEMA = {"type": "string", "pattern": r"^\s*\d{1,9}\s*/\s*\d{0,5}[smhd]\s*$", "examples": ["20/30s", "1000/d"]}


@dataclass(frozen=True, slots=True)
class Limit:
    """So many within any `window` seconds; written `20/30s`, `1000/d`."""

    count: int
    window: int

    @classmethod
    def read(cls, value: object) -> Limit:
        """Return the limit in `value`. Raises ValueError with the notation."""
        if isinstance(value, Limit):
            return value
        found = read_rate(value) if isinstance(value, str) else None
        if not found or not found[0].is_integer():
            raise ValueError("write a limit like 20/30s, 100/m, 1000/h or 5000/d")
        return cls(int(found[0]), found[1])

    def __str__(self) -> str:
        unit = next(unit for unit in "dhms" if self.window % SECONDS[unit] == 0)
        amount = int(self.window // SECONDS[unit])
        return f"{self.count}/{amount if amount > 1 else ''}{unit}"


def _as_list(value: object) -> object:
    return [value] if isinstance(value, (str, Limit)) else value


OneLimit = Annotated[Limit, PlainValidator(Limit.read), PlainSerializer(str), WithJsonSchema(_LIMIT_SCHEMA)]
Limits = Annotated[tuple[OneLimit, ...], BeforeValidator(_as_list)]
Country = Annotated[str, Field(pattern="^[A-Z]{2}$")]
Texts = Annotated[tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


Countries = Annotated[tuple[Country, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


NumberType = Literal[
    "premium_rate", "shared_cost", "personal_number", "voip", "toll_free", "uan", "pager", "voicemail", "fixed_line"
]
"""Types of numbers as the numbering plans have them (github.com/google/libphonenumber, PhoneNumberType)."""

NumberTypes = Annotated[tuple[NumberType, ...], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)]


class GatewaySettings(Section):
    """Settings of `postroom serve`.

    Who may ask: `region` begins every key made (`eu--…`); `request_credentials` says whether an SMS may bring
    the credentials of a provider.

    How often, for each key: `rate_limit` counts requests, `message_limit` messages, and either may be a list
    (`["20/30s", "5000/d"]`); above them the answer is 429. A key that goes on regardless is flagged after
    `flag_after` such answers and suspended after `suspend_after`, until an operator lifts it. `quota` counts
    messages too, but those above it are held and flow later.

    How much: `max_body` bytes of a request, `max_recipients` of a message, `max_attachments` of an e-mail,
    `max_batch` items of a batch; `body_timeout` seconds for a request to arrive; `max_bodies` bytes of all
    requests being read at once.

    Where: `public_url` is the address callers and providers use, needed for unsubscribe links and for webhook
    signatures behind a proxy; `trusted_proxies` are addresses or networks whose X-Forwarded-For and
    X-Forwarded-Proto are believed; `cors_origins` are the browser origins that may call, none by default; `metrics`
    says who may see `/metrics`. `unsubscribe_within` is for how many seconds an unsubscribe link works, 30 days at
    least (16 CFR 316.5 of the CAN-SPAM rule); None: for ever.

    As whom: `sender_names` says which `from_name` is taken: `"any"`, or with `"own"` none with an address of a domain
    that no account sends from.

    SMS: `sms_countries` maps an account to the countries (ISO 3166) it may send to, `"*"` any account without an entry
    of its own; the accounts behind a rule that fits count too where the message names another. `sms_refused_types` are
    types of numbers that nothing is sent to. For each key, `sms_budget` limits SMS parts, `sms_per_recipient` messages
    to one number, and `sms_spend` units of money, at `sms_prices` for one part by country (`"*"`: everywhere else);
    `sms_per_number` limits messages to one number by all keys together; what is above is held.
    """

    region: Annotated[str, Field(pattern="^[a-z]{2}$")] = "eu"
    request_credentials: Literal["allow", "deny"] = "allow"
    rate_limit: Limits = (Limit(20, 30),)
    message_limit: Limits = ()
    flag_after: OneLimit = Limit(20, 600)
    suspend_after: OneLimit = Limit(100, 600)
    quota: Limits = ()
    max_body: Annotated[int, Field(ge=1024, le=1_000_000_000)] = 30_000_000
    max_bodies: Annotated[int, Field(ge=1024)] = 120_000_000
    max_recipients: Annotated[int, Field(ge=1)] = 1000
    max_attachments: Annotated[int, Field(ge=0)] = 100
    max_batch: Annotated[int, Field(ge=1)] = 1000
    body_timeout: Annotated[float, Field(gt=0)] = 30.0
    public_url: str | None = None
    trusted_proxies: Texts = ()
    cors_origins: Texts = ()
    metrics: Literal["open", "key", "closed"] = "open"
    unsubscribe_within: Annotated[Seconds, Field(ge=30 * 86_400)] | None = None
    sender_names: Literal["any", "own"] = "any"
    sms_countries: dict[str, Countries] = {}
    sms_refused_types: NumberTypes = ()
    sms_budget: Limits = ()
    sms_per_recipient: Limits = ()
    sms_per_number: Limits = ()
    sms_prices: dict[Country | Literal["*"], Annotated[float, Field(ge=0, le=1000)]] = {}
    sms_spend: Limits = ()

    @model_validator(mode="after")
    def _spending_needs_prices(self) -> Self:
        if self.sms_spend and not self.sms_prices:
            raise ValueError('sms_spend needs sms_prices, such as {GB = 0.04, "*" = 0.1}')
        return self
