"""Scenarios: what a provider may do with a message, and the outcome that a transport must report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from postroom.errors import AuthenticationFailed, DeliveryError, Outcome, ProviderUnreachable, RateLimited, Scope


class Scenario(StrEnum):
    """What the fake provider does when a message comes; the kit plays each of them."""

    ACCEPTED = "accepted"
    REFUSED_CONNECTION = "refused connection"
    RESET_ON_CONNECT = "reset on connect"
    CLOSED_AFTER_READ = "closed after read"
    RESET_AFTER_READ = "reset after read"
    SILENT = "silent"
    UNAUTHORISED = "unauthorised"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too large"
    RATE_LIMITED = "rate limited"
    REJECTED = "rejected"
    REJECTED_WITH_ECHO = "rejected with echo"
    SERVER_ERROR = "server error"
    UNAVAILABLE = "unavailable"
    GATEWAY_PAGE = "gateway page"
    CAPTIVE_PORTAL = "captive portal"
    EMPTY_SUCCESS = "empty success"
    TRUNCATED_SUCCESS = "truncated success"


_NOT_SENT = frozenset({Outcome.TRANSIENT})
_REFUSED = frozenset({Outcome.PERMANENT})
_DOUBT = frozenset({Outcome.UNKNOWN})
_NOT_FOR_GOOD = frozenset({Outcome.TRANSIENT, Outcome.UNKNOWN})

_LOOKED_UP = (
    "the message may have been sent: raise OutcomeUnknown, or UnexpectedResponse for an answer that proves nothing. "
    "HttpTransport.request does so for broken connections"
)


@dataclass(frozen=True, slots=True)
class Expected:
    """The outcomes that are true, the error and scopes where they are certain, and what to do otherwise."""

    outcomes: frozenset[Outcome]
    advice: str
    kind: type[DeliveryError] = DeliveryError
    scopes: frozenset[Scope] = frozenset(Scope)


EXPECTED: dict[Scenario, Expected] = {
    Scenario.REFUSED_CONNECTION: Expected(
        _NOT_SENT,
        "nothing was handed over, so another try is safe: raise ProviderUnreachable",
        ProviderUnreachable,
    ),
    Scenario.RESET_ON_CONNECT: Expected(
        _NOT_FOR_GOOD,
        "the connection broke: raise ProviderUnreachable when no byte of the message was written, else OutcomeUnknown",
    ),
    Scenario.CLOSED_AFTER_READ: Expected(_DOUBT, _LOOKED_UP),
    Scenario.RESET_AFTER_READ: Expected(_DOUBT, _LOOKED_UP),
    Scenario.SILENT: Expected(_DOUBT, _LOOKED_UP),
    Scenario.UNAUTHORISED: Expected(
        _REFUSED,
        "the account's credentials are refused: raise AuthenticationFailed, whose scope is the account",
        AuthenticationFailed,
        frozenset({Scope.ACCOUNT}),
    ),
    Scenario.FORBIDDEN: Expected(
        _REFUSED, "the provider refused for good: raise AuthenticationFailed, or MessageRejected"
    ),
    Scenario.TOO_LARGE: Expected(
        _REFUSED,
        "this message will never pass: raise MessageRejected, whose scope is the message",
        scopes=frozenset({Scope.MESSAGE}),
    ),
    Scenario.RATE_LIMITED: Expected(
        _NOT_SENT, "refused for now: raise RateLimited with retry_after, and never wait or retry yourself"
    ),
    Scenario.REJECTED: Expected(
        _REFUSED,
        "the provider refused this message: raise MessageRejected, or RecipientsRefused with a result per recipient",
        scopes=frozenset({Scope.MESSAGE, Scope.RECIPIENT}),
    ),
    Scenario.REJECTED_WITH_ECHO: Expected(_REFUSED, "the provider refused this message: raise MessageRejected"),
    Scenario.SERVER_ERROR: Expected(
        _NOT_FOR_GOOD, "the provider broke: raise ProviderUnavailable, or OutcomeUnknown when its docs leave doubt"
    ),
    Scenario.UNAVAILABLE: Expected(_NOT_FOR_GOOD, "the provider is down for now: raise ProviderUnavailable"),
    Scenario.GATEWAY_PAGE: Expected(
        _DOUBT,
        "a gateway had passed the message on and lost the answer (RFC 9110 15.6.3): raise OutcomeUnknown, and read "
        "nothing from an HTML page",
    ),
    Scenario.CAPTIVE_PORTAL: Expected(
        _DOUBT, "a success response of another server proves nothing: raise UnexpectedResponse"
    ),
    Scenario.EMPTY_SUCCESS: Expected(
        _DOUBT, "an empty answer proves nothing: raise UnexpectedResponse unless it holds what the provider documents"
    ),
    Scenario.TRUNCATED_SUCCESS: Expected(
        _DOUBT, "an answer that broke off proves nothing: read it whole before believing it, and raise OutcomeUnknown"
    ),
}

FAILURES = tuple(EXPECTED)

RATE_LIMIT = Expected(_NOT_SENT, EXPECTED[Scenario.RATE_LIMITED].advice, RateLimited)
"""Where the provider can say how long to wait."""
