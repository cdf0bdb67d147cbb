"""Webhooks: verified first, then read, the same way each time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from postroom.errors import PayloadInvalid, SignatureInvalid, WebhookError
from postroom.plugin import Transport, WebhookRequest
from postroom.testing.conformance.base import Conformance, FakeT, SettingsT, expect
from postroom.testing.conformance.rule import ConformanceError, Tested, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postroom.events import Event, EventType

_ABOUT_THE_BODY = frozenset({"content-type", "content-length", "host", "user-agent", "accept"})


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
                lambda r: replace(r, body=_tampered(r.body)), sample.body, "changed after it was signed"
            )

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

    def _samples(self) -> Sequence[WebhookSample]:
        expect(self.webhooks, "the transport takes webhooks, but the test class gives no samples in `webhooks`")
        return self.webhooks


def _marks(events: Sequence[Event]) -> list[str]:
    return [event.fingerprint for event in events]


def _tampered(body: bytes) -> bytes:
    """`body` with its last alphanumeric character changed."""
    for at in range(len(body) - 1, -1, -1):
        if chr(body[at]).isalnum() and body[at] < 128:
            other = b"a" if body[at : at + 1] != b"a" else b"b"
            return body[:at] + other + body[at + 1 :]
    return body + b"0"
