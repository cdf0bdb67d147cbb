"""What the gateway knows of a request: its headers and query, and the state it gathers on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from postroom.gateway.http.errors import bad_request

if TYPE_CHECKING:
    from starlette.types import Scope

MOST_PARAMETERS = 100
"""Parameters of a query: no endpoint knows more than eight, and a provider's report by GET has 30."""

_STATE = "postroom"


@dataclass(slots=True)
class BodyBudget:
    """Bytes and seconds that one kind of body may take: `largest` for one of them, `together` for all."""

    largest: int
    together: int
    seconds: float
    held: int = 0


@dataclass(slots=True)
class RequestState:
    """State of one request, kept in its ASGI scope: for the log, the metrics, and the memory it holds."""

    id: str
    route: str = "other"
    """The path as it is declared, so that there are only so many of them."""

    key_id: str | None = None
    error: str | None = None
    """Code of the error it was answered with."""

    messages: int | None = None
    """How many messages were accepted, or events taken in."""

    body_bytes: int = 0
    """What its body is counted with against its budget."""

    body_budget: BodyBudget | None = None

    def attach(self, scope: Scope) -> None:
        scope[_STATE] = self


def state_of(scope: Scope) -> RequestState:
    """Return the state that `RequestMiddleware` attached to a request."""
    state: RequestState = scope[_STATE]
    return state


def query_of(scope: Scope) -> str:
    query: str = scope["query_string"].decode("latin-1")
    return query


def query_pairs(query: str) -> list[tuple[str, str]]:
    """Return the names and values of a query, decoded. Raises ApiError (400) for more than `MOST_PARAMETERS`."""
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise bad_request("invalid_request", f"The query has more than {MOST_PARAMETERS} parameters.") from None


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by their lower-case names; of one given several times, the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
