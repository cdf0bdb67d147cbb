"""A provider's HTTP API on loopback."""

from __future__ import annotations

import base64
import json
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from postroom.testing.conformance.fake_provider import FakeProvider
from postroom.testing.conformance.scenarios import Scenario
from postroom.testing.conformance.text_extraction import request_texts
from postroom.testing.http import Answer, Drop, Hang, HttpRecorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from postroom.testing.conformance.fake_provider import Lookup
    from postroom.testing.http import RecordedRequest, Step

T = TypeVar("T")

_PAGE = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
_CREDENTIAL_HEADERS = ("authorization", "x-api-key", "api-key", "x-auth-token")


class FakeHttpProvider(FakeProvider["RecordedRequest"]):
    """What the vendor's API answers. An author gives `accepted`, and the vendor's own words for its rejections.

    `url` is for the account's `base_url`. Every method takes the request and returns an Answer, so that it may be
    as exact as the vendor is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._recorder = HttpRecorder()
        self._recorder.answer_with(self._step)
        self._playing: dict[str, Scenario] = {}
        self._delays: dict[str, float] = {}
        self._others = 0
        self._lookup: Callable[[RecordedRequest], Answer] = self.other

    @property
    def url(self) -> str:
        return self._recorder.url

    # --- what the vendor answers

    @abstractmethod
    def accepted(self, request: RecordedRequest, identifier: str) -> Answer:
        """The success response: the message has the id `identifier`, or several messages ids that begin with it."""

    def rejected(self, request: RecordedRequest) -> Answer:
        """The rejection of this message, such as for a wrong parameter."""
        del request
        return Answer(400, {"error": "invalid", "message": "the message is not valid"})

    def rejected_among(self, request: RecordedRequest, recipient: str, identifier: str) -> Answer:
        """The answer to a request that carries several messages, of which only the one to `recipient` is wrong.

        By default the whole request is refused. Ids of the others begin with `identifier`.
        """
        del recipient, identifier
        return self.rejected(request)

    def unauthorised(self, request: RecordedRequest) -> Answer:
        """The rejection of wrong credentials."""
        del request
        return Answer(401, {"error": "unauthorized", "message": "wrong credentials"})

    def forbidden(self, request: RecordedRequest) -> Answer:
        """The rejection of right credentials that may not do this."""
        del request
        return Answer(403, {"error": "forbidden", "message": "not allowed"})

    def too_large(self, request: RecordedRequest) -> Answer:
        """The rejection of a message that is too large."""
        del request
        return Answer(413, {"error": "too_large", "message": "the message is too large"})

    def rate_limited(self, request: RecordedRequest, seconds: int) -> Answer:
        """The rejection for now, for `seconds`."""
        del request
        headers = {"Retry-After": str(seconds)}
        return Answer(429, {"error": "rate_limited", "message": "too many requests"}, headers)

    def server_error(self, request: RecordedRequest) -> Answer:
        """An error of the vendor's own."""
        del request
        return Answer(500, {"error": "internal", "message": "something went wrong"})

    def empty_success(self, request: RecordedRequest) -> Answer:
        """A success response that lacks what the vendor's says."""
        whole = self.accepted(request, self.new_identifier())
        return Answer(whole.status if whole.body else 200)

    def carries_message(self, request: RecordedRequest) -> bool:
        """Whether a request hands a message over; anything else is answered by `other`."""
        return request.method in {"POST", "PUT"}

    def other(self, request: RecordedRequest) -> Answer:
        """The answer to a request that carries no message: a token, an account, a lookup."""
        del request
        return Answer(404, {"error": "not_found", "message": "nothing here"})

    def found(self, request: RecordedRequest, identifier: str) -> Answer:
        """The answer to a lookup by `reconcile` for a message that the vendor has, as `identifier`."""
        del identifier
        return self.other(request)

    def missing(self, request: RecordedRequest) -> Answer:
        """The answer to a lookup by `reconcile` for a message that the vendor never took."""
        return self.other(request)

    # --- what the kit does with it

    def server(self) -> AbstractAsyncContextManager[object]:
        return self._recorder

    def play(self, scenario: Scenario, *, to: str = "") -> None:
        if scenario is Scenario.RESET_ON_CONNECT:
            self._recorder.answer(Drop("accept", reset=True))
            return
        self._playing[to] = scenario
        self._recorder.answer_with(self._step)

    def answer_after(self, seconds: float, *, to: str = "") -> None:
        self._delays[to] = seconds

    def answer_lookups(self, lookup: Lookup, identifier: str = "") -> None:
        answers = {"found": lambda r: self.found(r, identifier), "missing": self.missing, "failed": self.server_error}
        self._lookup = answers[lookup]

    @property
    def tries(self) -> int:
        if self._others:
            return self._recorder.begun - self._others
        return max(self._recorder.connections, self._recorder.begun)

    def texts(self, sent: RecordedRequest) -> list[str]:
        return request_texts(sent)

    def recipients(self, sent: RecordedRequest) -> str:
        return "\n".join(request_texts(sent))

    def credentials(self, sent: RecordedRequest) -> list[str]:
        given = [sent.headers[name] for name in _CREDENTIAL_HEADERS if name in sent.headers]
        return [value.rpartition(" ")[2] for value in given]

    def _step(self, request: RecordedRequest) -> Step:
        if not self.carries_message(request):
            self._others += 1
            answer = self._lookup(request)
            self.lookup_answers.append(
                answer.body.decode() if isinstance(answer.body, bytes) else json.dumps(answer.body)
            )
            return answer
        self.take(request)
        to, scenario = self._for(request, self._playing, Scenario.ACCEPTED)
        step = self._played(scenario, request, to)
        _, delay = self._for(request, self._delays, 0.0)
        return replace(step, delay=delay) if delay and isinstance(step, Answer) else step

    def _for(self, request: RecordedRequest, plans: dict[str, T], usual: T) -> tuple[str, T]:
        """The plan for one of the request's recipients, and which, else the plan for all."""
        whom = self.recipients(request)
        for to, plan in plans.items():
            if to and to.removeprefix("+") in whom:
                return to, plan
        return "", plans.get("", usual)

    def _played(self, scenario: Scenario, request: RecordedRequest, to: str) -> Step:
        if to and scenario is Scenario.REJECTED:
            return self.rejected_among(request, to, self.new_identifier())
        if scenario in _BREAKS:
            return _BREAKS[scenario]
        if scenario is Scenario.TRUNCATED_SUCCESS:
            return Drop("answer", of=self.accepted(request, self.new_identifier()))
        return self._answered(scenario, request)

    def _answered(self, scenario: Scenario, request: RecordedRequest) -> Answer:
        answers = {
            Scenario.ACCEPTED: self._accept,
            Scenario.REJECTED: self.rejected,
            Scenario.REJECTED_WITH_ECHO: self._echo,
            Scenario.UNAUTHORISED: self.unauthorised,
            Scenario.FORBIDDEN: self.forbidden,
            Scenario.TOO_LARGE: self.too_large,
            Scenario.RATE_LIMITED: lambda r: self.rate_limited(r, int(self.retry_after or 0)),
            Scenario.SERVER_ERROR: self.server_error,
            Scenario.UNAVAILABLE: lambda _: Answer(503, "<html><body>Service unavailable</body></html>"),
            Scenario.GATEWAY_PAGE: lambda _: Answer(502, _PAGE),
            Scenario.CAPTIVE_PORTAL: lambda _: Answer(200, "<html><body>Welcome to the hotel's network</body></html>"),
            Scenario.EMPTY_SUCCESS: self.empty_success,
        }
        return answers[scenario](request)

    def _accept(self, request: RecordedRequest) -> Answer:
        identifier = self._identifiers[id(request)] = self.new_identifier()
        return self.accepted(request, identifier)

    def _echo(self, request: RecordedRequest) -> Answer:
        """A rejection that quotes what it was given, as careless servers do."""
        answer = self.rejected(request)
        quoted = [part for text in self.credentials(request) for part in (text, *_basic(text))]
        return replace(answer, body=_quoting(answer.body, " ".join(quoted), only_sentences=_has_sentence(answer.body)))


_BREAKS: dict[Scenario, Step] = {
    Scenario.CLOSED_AFTER_READ: Drop("request"),
    Scenario.RESET_AFTER_READ: Drop("request", reset=True),
    Scenario.SILENT: Hang("request"),
}


def _basic(credentials: str) -> list[str]:
    """User name and password, if they are in there (RFC 7617)."""
    try:
        return base64.b64decode(credentials, validate=True).decode().split(":")
    except ValueError:
        return []


def _quoting(tree: Any, secret: str, *, only_sentences: bool) -> Any:
    """`tree` with `secret` behind its sentences: a code or a word of a fixed set is never anything else."""
    if isinstance(tree, dict):
        return {name: _quoting(value, secret, only_sentences=only_sentences) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_quoting(value, secret, only_sentences=only_sentences) for value in tree]
    if not isinstance(tree, str) or tree.isdigit() or (only_sentences and " " not in tree.strip()):
        return tree
    return f"{tree} {secret}"


def _has_sentence(tree: Any) -> bool:
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return (isinstance(tree, str) and " " in tree.strip()) or any(_has_sentence(each) for each in inner)
