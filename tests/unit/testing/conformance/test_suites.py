"""A test of the kit may neither vanish nor be replaced; a deviation is stated where users see it."""

from __future__ import annotations

from typing import Any, Never

import pytest

from postroom.builtin.memory import MemorySms
from postroom.events import Event
from postroom.plugin import WebhookRequest
from postroom.testing.conformance import ConformanceError, FakeHttpProvider, SmsConformance
from postroom.testing.conformance.rule import rule

SOME_TEST = "test_the_timeout_is_kept"


def derived(*bases: type, **members: object) -> Any:
    """A test class as an author would write it."""
    return type("TestMade", (*bases, SmsConformance), {"__module__": __name__, **members})


@pytest.mark.parametrize("name", [SOME_TEST, "attempt", "sample", "accepted"])
def test_what_belongs_to_the_kit_cannot_be_replaced(name: str) -> None:
    with pytest.raises(TypeError, match=f"TestMade replaces {name}, which belongs to the conformance kit"):
        derived(**{name: lambda self: None})


def test_the_error_says_where_a_deviation_goes() -> None:
    with pytest.raises(TypeError, match=rf"deviations = \{{'{SOME_TEST}': 'why'\}}"):
        derived(**{SOME_TEST: None})


def test_a_test_cannot_be_replaced_through_another_base() -> None:
    class Quiet:
        def test_the_timeout_is_kept(self) -> None:
            """Looks as if it had been tested."""

    with pytest.raises(TypeError, match="TestMade replaces test_the_timeout_is_kept"):
        derived(Quiet)


@pytest.mark.parametrize("word", ["deviations", "not_applicable"])
def test_a_test_class_has_no_deviations_of_its_own(word: str) -> None:
    with pytest.raises(TypeError, match="belong on the transport class"):
        derived(**{word: {SOME_TEST: "slow"}})


def test_a_class_of_the_kit_cannot_be_hidden_from_pytest() -> None:
    with pytest.raises(TypeError, match="take that line out"):
        derived(__test__=False)


@pytest.mark.parametrize(
    ("deviations", "reason"),
    [
        ({"test_no_such_thing": "why"}, "names 'test_no_such_thing', which is no test of the kit"),
        ({SOME_TEST: " "}, f"gives no reason for '{SOME_TEST}'"),
        ({SOME_TEST: None}, f"gives no reason for '{SOME_TEST}'"),
    ],
)
def test_a_deviation_names_a_test_and_gives_a_reason(deviations: dict[str, str], reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        derived(provider="memory", transport=type("Made", (MemorySms,), {"deviations": deviations}))


def test_a_deviation_of_one_parameter_is_taken() -> None:
    deviations = {"test_a_failure_has_its_true_outcome[empty-success]": "answers 200 with an empty body"}
    assert derived(provider="memory", transport=type("Made", (MemorySms,), {"deviations": deviations}))


def test_what_the_transport_does_not_promise_is_left_out_with_the_reason() -> None:
    made = derived(provider="memory", transport=MemorySms)
    assert made.test_a_failed_lookup_settles_nothing is None
    assert made.not_applicable["test_a_failed_lookup_settles_nothing"] == "capabilities do not say reconciles"
    assert made.not_applicable["test_an_unsigned_webhook_is_refused"] == "the transport has no parse_webhook"


def test_a_class_derived_for_another_transport_asks_what_that_one_promises() -> None:
    class Reporting(MemorySms):
        def parse_webhook(self, request: WebhookRequest, /) -> list[Event]:
            return []

    first = derived(provider="memory", transport=MemorySms)
    second: Any = type("TestSecond", (first,), {"__module__": __name__, "transport": Reporting})
    assert first.test_an_unsigned_webhook_is_refused is None
    assert callable(second.test_an_unsigned_webhook_is_refused)
    assert "test_an_unsigned_webhook_is_refused" not in second.not_applicable


class Ruled:
    transport = MemorySms

    @rule("do the right thing")
    async def fails(self) -> Never:
        raise ConformanceError("saw the wrong thing")

    @rule("do the right thing")
    async def fails_with_better_advice(self) -> Never:
        raise ConformanceError("saw the wrong thing", "do this one thing")

    @rule("do the right thing")
    async def breaks(self) -> Never:
        raise KeyError("id")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fails", "MemorySms: saw the wrong thing\nWhat to do: do the right thing"),
        ("fails_with_better_advice", "MemorySms: saw the wrong thing\nWhat to do: do this one thing"),
        ("breaks", "MemorySms: KeyError: 'id'\nWhat to do: do the right thing"),
    ],
)
def test_a_failure_says_what_was_seen_and_what_to_do(name: str, text: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        getattr(Ruled(), name)()
    assert str(caught.value) == text
    assert isinstance(caught.value.__cause__, KeyError) == (name == "breaks")


def test_every_test_of_the_kit_has_advice() -> None:
    rules = [getattr(member, "__conformance__", None) for name, member in vars_of(SmsConformance) if "test_" in name]
    assert len(rules) > 30
    assert all(found and len(found.advice) > 20 for found in rules)


def vars_of(cls: type) -> list[tuple[str, object]]:
    """The tests of a class and its bases."""
    return [(name, member) for base in cls.__mro__ for name, member in vars(base).items() if name.startswith("test_")]


def test_a_fake_provider_must_know_its_success_response() -> None:
    with pytest.raises(TypeError, match="accepted"):
        FakeHttpProvider()  # type: ignore[abstract]
