"""The error tree: one root, stable codes, texts for people, and copies that lose nothing."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from postroom import errors
from postroom.errors import (
    ConfigError,
    DeliveryError,
    MessageRejected,
    Outcome,
    PostroomError,
    RateLimited,
    RecipientsRefused,
    Scope,
    UnsupportedFeature,
)
from postroom.receipts import Channel, Receipt, RecipientResult, Status

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, PostroomError)]


def example(cls: type[Any]) -> PostroomError:
    if cls is UnsupportedFeature:
        return cls("no html", feature="html", provider="twilio")  # type: ignore[no-any-return]
    return cls("it failed")  # type: ignore[no-any-return]


def test_every_error_is_in_the_tree_that_the_module_draws() -> None:
    drawn = {}
    stack: list[Any] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"([│├└─ ]*)([A-Z]\w+)", line)
        if found and hasattr(errors, found[2]):
            depth = len(found[1]) // 4
            del stack[depth:]
            drawn[found[2]] = stack[-1] if stack else None
            stack.append(found[2])
    assert drawn == {c.__name__: None if c is PostroomError else c.__base__.__name__ for c in CLASSES}  # type: ignore[union-attr]


def test_codes_are_the_names_in_snake_case_and_never_shared() -> None:
    for cls in CLASSES:
        assert cls.code == re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
@pytest.mark.parametrize(
    "copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"]
)
def test_a_copied_error_is_the_same_error(cls: type[Any], copied: Callable[..., Any]) -> None:
    error = example(cls)
    twin = copied(error)
    assert type(twin) is cls
    assert (str(twin), twin.message, twin.args, vars(twin)) == (str(error), error.message, error.args, vars(error))


def test_a_pickled_delivery_error_keeps_all_it_knew() -> None:
    refused = RecipientResult(address="a@example.org", outcome=Outcome.PERMANENT, code="recipients_refused", status=550)
    error = RecipientsRefused(
        "none taken", provider_code="5.1.1", status=550, detail="no such user", recipients=(refused,)
    )
    error = error.with_receipt(Receipt(id="1", channel=Channel.EMAIL, status=Status.FAILED, recipients=(refused,)))
    twin = pickle.loads(pickle.dumps(error))
    assert vars(twin) == vars(error)
    assert twin.recipients == (refused,)


def test_a_configuration_error_names_its_path_once_even_when_pickled() -> None:
    error = ConfigError("must be a number", path="accounts.main.port")
    assert str(error) == "accounts.main.port: must be a number"
    twin = pickle.loads(pickle.dumps(error))
    assert (str(twin), twin.path) == (str(error), error.path)


@pytest.mark.parametrize("cls", [c for c in CLASSES if issubclass(c, DeliveryError)], ids=lambda c: c.__name__)
def test_a_delivery_error_has_an_outcome_and_a_scope_of_its_own(cls: type[Any]) -> None:
    error = cls("it failed")
    assert (error.outcome, error.scope) == (cls.default_outcome, cls.default_scope)
    assert error.outcome is not Outcome.ACCEPTED
    assert error.receipt is None


def test_outcome_and_scope_can_be_told() -> None:
    error = RateLimited("slow down", outcome=Outcome.PERMANENT, scope=Scope.MESSAGE, retry_after=3.5)
    assert (error.outcome, error.scope, error.retry_after) == (Outcome.PERMANENT, Scope.MESSAGE, 3.5)


def test_an_error_cannot_say_accepted() -> None:
    with pytest.raises(ValueError, match="accepted"):
        DeliveryError("no", outcome=Outcome.ACCEPTED)


def test_facts_of_the_wrong_type_are_put_into_the_right_one() -> None:
    error = RateLimited("slow down", provider_code=20429, status="429", retry_after="7", detail=5, request_id=b"x")  # type: ignore[arg-type]
    assert (error.provider_code, error.status, error.retry_after, error.detail) == ("20429", 429, 7.0, "5")
    assert RateLimited("slow down", retry_after="soon").retry_after is None  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_no_public_field_of_an_error_can_be_changed(cls: type[Any]) -> None:
    error = example(cls)
    before = dict(vars(error))
    for name in [*before, "args", "code", "message"]:
        with pytest.raises(AttributeError):
            setattr(error, name, "other")
        with pytest.raises(AttributeError):
            delattr(error, name)
    assert vars(error) == before


def test_what_python_notes_of_an_error_stays_open() -> None:
    error = DeliveryError("it failed")
    error.add_note("while trying")
    error.__cause__ = ValueError("why")
    error.__suppress_context__ = True
    assert error.with_traceback(None).__notes__ == ["while trying"]


class Awkward(MessageRejected):
    """A plugin's error whose constructor takes other arguments than ours."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}", provider_code="7")
        self.first = first


def raised(error: DeliveryError) -> DeliveryError:
    try:
        raise error from ValueError("why")
    except DeliveryError as caught:
        return caught


def test_a_copy_with_one_field_changed_keeps_all_else() -> None:
    receipt = Receipt(id="1", channel=Channel.EMAIL, status=Status.FAILED)
    refused = RecipientResult(address="a@example.org", outcome=Outcome.PERMANENT)
    for error in (raised(Awkward("no", "way")), raised(RateLimited("slow down", retry_after=3))):
        for copied, changed in (
            (error.with_receipt(receipt), {"receipt": receipt}),
            (error.with_recipients((refused,)), {"recipients": (refused,)}),
            (error.with_outcome(Outcome.UNKNOWN), {"outcome": Outcome.UNKNOWN}),
        ):
            assert copied is not error
            assert (type(copied), str(copied)) == (type(error), str(error))
            assert vars(copied) == {**vars(error), **changed}
            assert (copied.__cause__, copied.__traceback__) == (error.__cause__, error.__traceback__)
            assert copied.__suppress_context__ is error.__suppress_context__ is True
        assert error.receipt is None


def test_a_copy_cannot_say_accepted_either() -> None:
    with pytest.raises(ValueError, match="accepted"):
        DeliveryError("no").with_outcome(Outcome.ACCEPTED)


def test_the_result_of_a_recipient_says_what_the_delivery_error_says() -> None:
    error = RateLimited("slow down", provider_code="20429", status=429, detail="too fast")
    assert RecipientResult.failed("+15550100", error) == RecipientResult(
        address="+15550100",
        outcome=Outcome.TRANSIENT,
        code="rate_limited",
        provider_code="20429",
        status=429,
        detail="too fast",
    )


def test_an_error_before_any_attempt_is_permanent_for_a_recipient() -> None:
    error = UnsupportedFeature("no html", feature="html", provider="twilio")
    assert RecipientResult.failed("a@example.org", error) == RecipientResult(
        address="a@example.org", outcome=Outcome.PERMANENT, code="unsupported_feature", detail="no html"
    )
