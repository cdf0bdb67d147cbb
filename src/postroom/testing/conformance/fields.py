"""Fields: what a message says arrives, or is refused before it is sent; nothing is dropped in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.delivery.attempt import prepare
from postroom.delivery.dispatcher import AccountDispatcher
from postroom.delivery.progress import DeliveryProgress
from postroom.errors import DeliveryError, MessageError, UnsupportedFeature
from postroom.messages import new_id
from postroom.plugin import Resources
from postroom.testing.conformance import samples
from postroom.testing.conformance.base import ACCOUNT, Conformance, FakeT, SettingsT, expect
from postroom.testing.conformance.rule import ConformanceError, rule
from postroom.testing.conformance.samples import UNICODE, Sample

if TYPE_CHECKING:
    from postroom.messages import Message
    from postroom.plugin import Transport

LEFT_OUT_AT_WILL = frozenset(
    {"tags", "metadata", "headers", "priority", "reply_to", "html", "amp", "calendar", "attachments", "inline"}
) | {"send_at", "media", "provider_options"}
"""Features whose absence leaves a message that still says something to the same people."""


_PUT_IT_IN = (
    "put it into the request, or take the feature out of capabilities.features so that such a message is refused "
    "before it is sent; where the provider spells it another way, say so in the fake provider's `holds`"
)


class Fields(Conformance[FakeT, SettingsT]):
    """Every field, for both channels; the features of each are tested by its own class."""

    @rule("put sender, recipient and text into the request, unchanged")
    async def test_a_plain_message_arrives_whole(self) -> None:
        await self._arrives(self.sample())

    @rule("encode text as the provider's API asks (UTF-8, quoting) and never by hand-made string joins")
    async def test_any_character_arrives_as_it_was_written(self) -> None:
        plain = self.sample()
        name = "body" if "body" in plain.fields else "text"
        await self._arrives(Sample({**plain.fields, name: UNICODE}, [(name, UNICODE)]))
        lines = "first\n\n.\n..\nsecond — naïve\n"
        await self._arrives(Sample({**plain.fields, name: lines}, [(name, lines.strip())]))

    @rule("send the whole text, or refuse what is too long in `validate`: never a part of it")
    async def test_a_long_text_arrives_whole_or_is_refused(self) -> None:
        plain = self.sample()
        name = "body" if "body" in plain.fields else "text"
        long = " ".join(f"word{number}" for number in range(60)) + " the end"
        await self._all_or_nothing({**plain.fields, name: long}, [(name, long)])

    @rule("send all of several headers, files, tags or media, or refuse more than one in `validate`: never the first")
    async def test_several_of_a_kind_arrive_all_or_are_refused(self) -> None:
        for feature in sorted(samples.SEVERAL.keys() & self.all_features() & self.transport.capabilities.features):
            several = samples.SEVERAL[feature]()
            await self._all_or_nothing({**self.sample().fields, **several.fields}, several.marks)

    @rule(
        "with unsupported = warn, send the message without what the provider cannot say: read only the fields you list"
    )
    async def test_what_cannot_be_said_is_left_out_where_the_account_says_so(self) -> None:
        fields = dict(self.sample().fields)
        for feature in sorted(LEFT_OUT_AT_WILL - self.transport.capabilities.features):
            if feature in self.all_features():
                fields |= self.feature_sample(feature).fields
        with self.fake_provider() as fake:
            async with self.opened(fake, unsupported="warn") as transport:
                await self.accepted(transport, self.build(fields))

    def all_features(self) -> frozenset[str]:
        raise NotImplementedError

    async def arrives_or_is_refused(self, feature: str) -> None:
        """The promise of `capabilities.features`, for one of its words."""
        added = self.feature_sample(feature)
        if feature in self.transport.capabilities.features:
            if feature == "provider_options" and not added.marks:
                raise ConformanceError("the test class gives no provider_options; set one that the provider takes")
            base = self._without_text(feature, added) or self.sample().fields
            await self._arrives(Sample({**base, **added.fields}, added.marks), feature)
        else:
            given = added.fields if added.marks else {feature: {"kit-option": "kit-value"}}
            await self._is_refused({**self.sample().fields, **given}, feature)

    def _without_text(self, feature: str, added: Sample) -> dict[str, Any] | None:
        """A message whose text the template brings, if the provider takes it so; some want a text beside it."""
        if feature not in {"template", "merge_data"}:
            return None
        bare = {name: value for name, value in self.sample().fields.items() if name not in {"subject", "text"}}
        with self.fake_provider() as fake:
            transport = self.transport(ACCOUNT, self.account(fake), Resources())
            try:
                _prepared(transport, self.build({**bare, **added.fields}))
            except (MessageError, DeliveryError):
                return None
        return bare

    async def _arrives(self, sample: Sample, feature: str | None = None) -> None:
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                message = self.build(sample.fields)
                if not _may_be_sent(transport, message, feature):
                    return
                await self.accepted(transport, message)
            expect(len(fake.sent) == 1, f"{len(fake.sent)} messages reached the provider, not 1")
            for field, value in sample.marks:
                dropped = f"{field} was accepted and then dropped: {value!s} is not in what was sent"
                expect(fake.holds(fake.sent[0], field, value), dropped, _PUT_IT_IN)

    async def _all_or_nothing(self, fields: dict[str, Any], marks: list[tuple[str, object]]) -> None:
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                message = self.build(fields)
                try:
                    _prepared(transport, message)
                except (MessageError, DeliveryError):
                    return
                await self.attempt(transport, message)
            for field, value in marks if fake.sent else ():
                there = any(fake.holds(sent, field, value) for sent in fake.sent)
                expect(there, f"of {field} a part was sent: {str(value)[:60]!r} is missing")

    async def _is_refused(self, fields: dict[str, Any], feature: str) -> None:
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                try:
                    _prepared(transport, self.build(fields))
                except UnsupportedFeature:
                    pass
                else:
                    raise ConformanceError(f"a message with {feature}, which is not declared, was let through")
            expect(fake.tries == 0, f"a message with {feature}, which is not declared, was handed over")


def _prepared(transport: Transport[Any, Any], message: Message) -> Message:
    """Return the message as the core would hand it to `transport`; raises what it would refuse it with."""
    return prepare(message, AccountDispatcher(transport), DeliveryProgress(message, new_id()))


def _may_be_sent(transport: Transport[Any, Any], message: Any, feature: str | None) -> bool:
    """Whether the core may hand `message` over; an account may lack one `feature` that others of its kind have."""
    try:
        _prepared(transport, message)
    except UnsupportedFeature as error:
        if error.feature == feature:
            return False
        raise ConformanceError(f"a message that capabilities allow was refused: {error}") from error
    except (MessageError, DeliveryError) as error:
        raise ConformanceError(f"a message that capabilities allow was refused: {error}") from error
    return True
