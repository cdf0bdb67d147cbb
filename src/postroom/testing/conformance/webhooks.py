"""Webhooks: verified first, then read, the same way each time."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import SecretStr, ValidationError

from postroom.errors import PayloadInvalid, PostroomError, SignatureInvalid, WebhookError
from postroom.plugin import Transport, WebhookRequest
from postroom.testing.conformance.base import Conformance, FakeT, SettingsT, expect
from postroom.testing.conformance.rule import ConformanceError, Tested, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postroom.events import Event, EventType

_ABOUT_THE_BODY = frozenset({"content-type", "content-length", "host", "user-agent", "accept"})


_WORD = re.compile(rb"[A-Za-z0-9+/_-]*[A-Za-z0-9]")


_SHORTEST_SIGNATURE = 16


@dataclass(frozen=True, slots=True)
class WebhookSample:
    """A body as the vendor sends it, and the types of the events it reports, in their order."""

    body: bytes
    events: tuple[EventType, ...]


def _takes_webhooks(kit: Tested) -> bool:
    return kit.transport.parse_webhook is not Transport.parse_webhook


NO_WEBHOOKS = "the transport has no parse_webhook"


class Webhooks(Conformance[FakeT, SettingsT]):
    """Tests of `parse_webhook`.

    The author's part: `webhooks`, samples from the vendor's docs, `unknown_webhook`, the body of an event that the
    plugin does not know, and `signed`, which makes the request that the vendor would.
    """

    webhooks: ClassVar[Sequence[WebhookSample]] = ()
    unknown_webhook: ClassVar[bytes] = b""

    def signed(self, settings: SettingsT, body: bytes) -> WebhookRequest:
        """The request the vendor makes of `body` for the account with `settings`, signed."""
        del settings, body
        raise ConformanceError("the test class has no `signed`, which makes the vendor's signed request of a body")

    def unsigned(self, request: WebhookRequest) -> WebhookRequest:
        """The same request without its signature; override when that is not in a header of its own."""
        headers = {name: value for name, value in request.headers.items() if name in _ABOUT_THE_BODY}
        return replace(request, headers=headers)

    @rule(
        "read every event of the body, in its order, into postroom's words",
        applies=_takes_webhooks,
        otherwise=NO_WEBHOOKS,
    )
    async def test_a_signed_webhook_is_read(self) -> None:
        for sample in self._samples():
            events = await self._parsed(sample.body)
            found = tuple(event.type for event in events)
            expect(found == sample.events, f"the sample reports {sample.events}, parse_webhook read {found}")
            for event in events:
                expect(event.provider == self.provider, f"an event names provider {event.provider!r}")
                expect(event.channel is self.transport.channel, f"an event names channel {event.channel!r}")
                expect(event.occurred_at.tzinfo, "an event's occurred_at has no time zone")

    @rule(
        "verify the signature over the raw body, before reading it, and raise SignatureInvalid",
        applies=_takes_webhooks,
        otherwise=NO_WEBHOOKS,
    )
    async def test_a_tampered_webhook_is_refused(self) -> None:
        for sample in self._samples():
            await self._refused_webhook(
                lambda r: replace(r, body=tampered(r.body)), sample.body, "changed after it was signed"
            )

    @rule(
        "compare the whole signature, in constant time (hmac.compare_digest), and refuse what differs anywhere",
        applies=_takes_webhooks,
        otherwise=NO_WEBHOOKS,
    )
    async def test_a_signature_that_is_nearly_right_is_refused(self) -> None:
        for sample in self._samples():
            for part in (0.0, 0.4, 0.7):
                await self._refused_webhook(
                    partial(_nearly, part=part, without=self.unsigned),
                    sample.body,
                    "whose signature differs in one place",
                )

    @rule(
        "refuse every webhook while no secret is set, or require the secret: unsigned, anybody can write them",
        applies=_takes_webhooks,
        otherwise=NO_WEBHOOKS,
    )
    async def test_without_a_secret_no_webhook_is_taken(self) -> None:
        with self.fake_provider() as fake:
            given = self.account(fake)
            for name in [name for name, value in given if isinstance(value, SecretStr)]:
                await self._refused_without(fake, given, name)

    @rule(
        "raise SignatureInvalid when there is no signature: anybody can post to the address",
        applies=_takes_webhooks,
        otherwise=NO_WEBHOOKS,
    )
    async def test_an_unsigned_webhook_is_refused(self) -> None:
        for sample in self._samples():
            await self._refused_webhook(self.unsigned, sample.body, "without a signature")

    @rule(
        "take occurred_at and every id from the payload, never from the clock, so that a repeat is known as one (where "
        "the vendor gives no time, dated is False); or refuse a repeat with WebhookError",
        applies=_takes_webhooks,
        otherwise=NO_WEBHOOKS,
    )
    async def test_a_replayed_webhook_reads_the_same(self) -> None:
        for sample in self._samples():
            first = await self._parsed(sample.body)
            try:
                second = await self._parsed(sample.body)
            except WebhookError:
                continue
            expect(_marks(first) == _marks(second), f"the same webhook was read as {first!r} and then as {second!r}")

    @rule(
        "read each webhook by itself: providers repeat and reorder them, so keep nothing between two",
        applies=_takes_webhooks,
        otherwise=NO_WEBHOOKS,
    )
    async def test_reordered_webhooks_read_the_same(self) -> None:
        bodies = [sample.body for sample in self._samples()]
        with self.fake_provider() as fake:
            async with self.opened(fake) as one, self.opened(fake) as other:
                forth = [_marks(self._read(one, body)) for body in bodies]
                back = [_marks(self._read(other, body)) for body in reversed(bodies)]
        expect(forth == back[::-1], "the order in which webhooks came changed what was read in them")

    @rule(
        "answer EventType.OTHER, or no event, for what you do not know: an error makes vendors repeat it",
        applies=_takes_webhooks,
        otherwise=NO_WEBHOOKS,
    )
    async def test_an_unknown_event_harms_nothing(self) -> None:
        if not self.unknown_webhook:
            raise ConformanceError("the test class gives no unknown_webhook, the body of an event of an unknown kind")
        events = await self._parsed(self.unknown_webhook)
        expect(
            all(event.type == "other" for event in events),
            f"an event the plugin cannot know was read as {[str(event.type) for event in events]}",
        )

    @rule(
        "raise PayloadInvalid for what is signed and cannot be read, never the JSON library's own error",
        applies=_takes_webhooks,
        otherwise=NO_WEBHOOKS,
    )
    async def test_an_unreadable_webhook_is_refused(self) -> None:
        for body in (b"", b"\xff\xfe", b"{", b"[[]]", b'{"a": [null]}', b"null"):
            try:
                events = await self._parsed(body)
            except (PayloadInvalid, SignatureInvalid):
                continue
            expect(all(event.type == "other" for event in events), f"{body!r} was read as {events!r}")

    async def _parsed(self, body: bytes) -> list[Event]:
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                return self._read(transport, body)

    def _read(self, transport: Transport[Any, Any], body: bytes) -> list[Event]:
        request = self.signed(transport.settings, body)
        try:
            return list(transport.parse_webhook(request))
        except WebhookError:
            raise
        except Exception as error:
            raise ConformanceError(f"parse_webhook raised {type(error).__name__}: {error}") from error

    async def _refused_webhook(self, change: Callable[[WebhookRequest], WebhookRequest], body: bytes, how: str) -> None:
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                changed = change(self.signed(transport.settings, body))
                secrets = [text for text in transport.settings.secret_texts() if text]
                try:
                    events = transport.parse_webhook(changed)
                except SignatureInvalid as error:
                    expect(not any(secret in str(error) for secret in secrets), "the error shows a secret")
                    return
                except Exception as error:
                    seen = f"a webhook {how} raised {type(error).__name__}: {error}, not SignatureInvalid"
                    raise ConformanceError(seen) from error
        raise ConformanceError(f"a webhook {how} was taken: {events!r}")

    async def _refused_without(self, fake: FakeT, given: SettingsT, secret: str) -> None:
        """Whether an account without that secret, if there can be one, refuses what carries no signature."""
        request = self.unsigned(self.signed(given, self._samples()[0].body))
        try:
            async with self.opened(fake, **{secret: None}) as transport:
                events = transport.parse_webhook(request)
        except (ValidationError, PostroomError):
            return
        expect(not events, f"without {secret}, an unsigned webhook was taken: {events!r}")

    def _samples(self) -> Sequence[WebhookSample]:
        expect(self.webhooks, "the transport takes webhooks, but the test class gives no samples in `webhooks`")
        return self.webhooks


def _marks(events: Sequence[Event]) -> list[str]:
    return [event.fingerprint for event in events]


def tampered(body: bytes) -> bytes:
    """`body` with the first character of its last word changed, every bit of which counts in base64 and hex too.

    The last character of a word need not: of a base64 text that ends in one, up to four bits stand for nothing.
    """
    words = list(_WORD.finditer(body))
    if not words:
        return body + b"0"
    return _with_other(body, words[-1].start())


def _nearly(
    request: WebhookRequest, *, part: float, without: Callable[[WebhookRequest], WebhookRequest]
) -> WebhookRequest:
    """`request` with one character of its signature changed: of the longest word in the headers that are not usual.

    Where the signature stands elsewhere, the request `without` it.
    """
    found = [
        (word.end() - word.start(), name, word.start())
        for name, value in request.headers.items()
        if name not in _ABOUT_THE_BODY
        for word in _WORD.finditer(value.encode())
    ]
    if not found or max(found)[0] < _SHORTEST_SIGNATURE:
        return without(request)
    length, name, start = max(found)
    value = _with_other(request.headers[name].encode(), start + int(length * part))
    return replace(request, headers={**request.headers, name: value.decode()})


def _with_other(body: bytes, at: int) -> bytes:
    """`body` with the character there replaced by one of the same kind, another in any case."""
    old = body[at : at + 1]
    others = b"12" if old.isdigit() else b"ab" if old.islower() else b"AB"
    other = others[:1] if old != others[:1] else others[1:]
    return body[:at] + other + body[at + 1 :]
