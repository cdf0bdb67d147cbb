"""Base class of the suites: the author's part, and how a transport is opened and used."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, cast

from postroom.errors import DeliveryError, OutcomeUnknown
from postroom.plugin import Resources
from postroom.receipts import Accepted
from postroom.testing.conformance.fake_provider import DEADLINE
from postroom.testing.conformance.rule import ConformanceError, rule_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from typing_extensions import TypeVar

    from postroom.messages import Message
    from postroom.plugin import AccountSettings, Transport
    from postroom.testing.conformance.fake_provider import FakeProvider
    from postroom.testing.conformance.samples import Sample

    FakeT = TypeVar("FakeT", bound=FakeProvider[Any], default=Any)
    SettingsT = TypeVar("SettingsT", bound=AccountSettings, default=Any)
else:  # a default (PEP 696), so that test classes may leave both out, is for type checkers alone
    from typing import TypeVar

    FakeT = TypeVar("FakeT")
    SettingsT = TypeVar("SettingsT")

ACCOUNT = "kit-account"
"""The name of the account that the kit opens; every error must say it."""

AUTHORS_PART = frozenset(
    {"provider", "transport", "fake_provider", "settings", "provider_options", "sender", "template"}
) | {
    "webhooks",
    "unknown_webhook",
    "signed",
    "unsigned",
    "no_secret",
    "not_applicable",
}
"""What a test class may define of the kit's names; everything else of it is the kit's own."""

Answer = Accepted | DeliveryError


class Conformance(Generic[FakeT, SettingsT]):
    """Base of the kit's classes.

    An author derives a test class and fills in `provider`, the entry point's name; `transport`, the class;
    `fake_provider`, a FakeProvider class with the vendor's words; and `settings`. Where the defaults do not fit:
    `provider_options`, a value that the provider takes; `sender`, the `from` of messages; and `no_secret`, what proves
    an account that has no credential: the machine's role, a local socket.

    For type checkers, `SmsConformance[FakeAcme, AcmeSettings]` says which fake provider and which settings they are.

    Tests follow what `transport.capabilities` declares. None can be overridden: where a transport must do otherwise,
    the transport class itself says so in `deviations`, test name -> reason, of one case of a test that has several:
    `"test_x[case]"`, and of one of several test classes: `"TestAcme::test_x"`.
    """

    provider: ClassVar[str]
    transport: ClassVar[type[Transport[Any, Any]]]
    fake_provider: type[FakeT]
    provider_options: ClassVar[Mapping[str, Any]] = {}
    no_secret: ClassVar[str] = ""
    sender: ClassVar[str]
    not_applicable: ClassVar[Mapping[str, str]] = {}

    def settings(self, fake: FakeT) -> dict[str, Any]:
        """The account's settings, but for `provider`: complete, with every secret set, and sending to `fake`."""
        raise NotImplementedError("return the settings of an account that sends to the fake provider")

    def sample(self, number: int = 0) -> Sample:
        """A plain message to the recipient of that number."""
        raise NotImplementedError

    def feature_sample(self, feature: str) -> Sample:
        """What uses `feature`, to be added to a plain message."""
        raise NotImplementedError

    def build(self, fields: Mapping[str, Any]) -> Message:
        """The message, as the core hands it to a transport."""
        raise NotImplementedError

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if cls.__module__.startswith(f"{__package__}."):
            return
        _refuse_overrides(cls)
        if "transport" in vars(cls):
            _refuse_bad_deviations(cls)
            _leave_out_what_is_not_promised(cls)

    # --- what the tests use

    def account(self, fake: FakeT, **changed: Any) -> SettingsT:
        """Validated settings; `changed` replaces or adds. What else is named a timeout is as long as `timeout`."""
        model = self.transport.settings_model
        given = {"provider": self.provider, "timeout": DEADLINE, **self.settings(fake), **changed}
        others = {name: given["timeout"] for name in model.model_fields if name.endswith("_timeout")}
        return cast("SettingsT", model.model_validate({**others, **given}))

    @asynccontextmanager
    async def opened(
        self, fake: FakeT, resources: Resources | None = None, **changed: Any
    ) -> AsyncIterator[Transport[SettingsT, Any]]:
        """The transport, opened the way the core does, and closed with its resources."""
        resources = resources or Resources()
        transport = self.transport(ACCOUNT, self.account(fake, **changed), resources)
        try:
            await transport.open()
            yield transport
        finally:
            await transport.close()
            await resources.close()

    def message(self, number: int = 0, **fields: Any) -> Message:
        return self.build({**self.sample(number).fields, **fields})

    async def attempt(self, transport: Transport[Any, Any], message: Message) -> Answer:
        """Send as the core does, and insist on an answer of the contract."""
        limit = transport.settings.timeout if not transport.keeps_timeout else transport.settings.timeout + DEADLINE
        try:
            async with asyncio.timeout(limit):
                answer = await transport.send(message)
        except DeliveryError as error:
            return error
        except TimeoutError as error:
            if transport.keeps_timeout:
                raise ConformanceError(f"send did not end within {limit:g} s, though keeps_timeout is True") from error
            return OutcomeUnknown(f"{ACCOUNT}: no answer within {limit:g} s")
        except Exception as error:
            raise ConformanceError(f"send raised {type(error).__name__}: {error}; raise a DeliveryError") from error
        if not isinstance(answer, Accepted):
            raise ConformanceError(f"send returned {answer!r}; return an Accepted or raise a DeliveryError")
        return answer

    async def accepted(self, transport: Transport[Any, Any], message: Message) -> Accepted:
        answer = await self.attempt(transport, message)
        if isinstance(answer, DeliveryError):
            raise ConformanceError(f"a message that the provider accepted was refused: {answer!r}") from answer
        return answer


def expect(truth: object, seen: str, advice: str = "") -> None:
    """Fail with what was seen unless `truth`; `advice` replaces the rule's."""
    if not truth:
        raise ConformanceError(seen, advice)


def kit_tests(cls: type) -> dict[str, Any]:
    """Every test that the kit gives `cls`, by name."""
    return {name: member for name, member in _kit_members(cls).items() if rule_of(member)}


def _kit_members(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith(f"{__package__}."):
            found.update({name: member for name, member in vars(base).items() if not name.startswith("__")})
    return found


def _refuse_overrides(cls: type[Conformance[Any, Any]]) -> None:
    for name, member in _kit_members(cls).items():
        if inspect.getattr_static(cls, name) is member or name in AUTHORS_PART or name in cls.not_applicable:
            continue
        reason = (
            f"; if the transport must do otherwise, state the reason on its class: deviations = {{{name!r}: 'why'}}"
        )
        raise TypeError(
            f"{cls.__name__} replaces {name}, which belongs to the conformance kit; take it out or give it another name"
            f"{reason if rule_of(member) else ''}"
        )
    for word in ("deviations", "not_applicable"):
        if word in vars(cls):
            raise TypeError(
                f"{cls.__name__} has {word}; deviations belong on the transport class, where users see them"
            )
    if cls.__dict__.get("__test__") is False:
        raise TypeError(f"{cls.__name__} is taken out of the tests by __test__ = False; take that line out")


def _refuse_bad_deviations(cls: type[Conformance[Any, Any]]) -> None:
    tests = kit_tests(cls)
    for name, reason in cls.transport.deviations.items():
        bare, bracket, _ = name.rpartition("::")[2].partition("[")
        if bare not in tests:
            raise TypeError(f"{cls.transport.__name__}.deviations names {name!r}, which is no test of the kit")
        if not bracket and any(mark.name == "parametrize" for mark in getattr(tests[bare], "pytestmark", ())):
            raise TypeError(
                f"{cls.transport.__name__}.deviations names {name!r} whole; name the one case that deviates, as pytest "
                f"shows it: '{bare}[CASE]'"
            )
        if not (isinstance(reason, str) and reason.strip()):
            raise TypeError(f"{cls.transport.__name__}.deviations gives no reason for {name!r}; say why in words")


def _leave_out_what_is_not_promised(cls: type[Conformance[Any, Any]]) -> None:
    left_out: dict[str, str] = {}
    for name, test in kit_tests(cls).items():
        rule = rule_of(test)
        if rule and not rule.applies(cls):
            left_out[name] = rule.otherwise
            setattr(cls, name, None)
        elif getattr(cls, name) is None:
            setattr(cls, name, test)
    cls.not_applicable = left_out
