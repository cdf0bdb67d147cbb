"""Frozen containers, and messages that nobody changes behind their owner's back, however deep."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from pydantic_core import to_json

from postroom.errors import MessageError
from postroom.frozen import FrozenDict, FrozenList, frozen
from postroom.messages import Email, Sms
from postroom.mime import to_bytes
from postroom.outbox.serialization import dump_message, load_message

CHANGES: list[Callable[[Any], object]] = [
    lambda d: d.__setitem__("a", 2),
    lambda d: d.__delitem__("a"),
    lambda d: d.__ior__({"b": 1}),
    lambda d: d.update(b=1),
    lambda d: d.pop("a"),
    lambda d: d.popitem(),
    lambda d: d.setdefault("b", 1),
    lambda d: d.clear(),
]
LIST_CHANGES: list[Callable[[Any], object]] = [
    lambda v: v.append(1),
    lambda v: v.extend([1]),
    lambda v: v.insert(0, 1),
    lambda v: v.pop(),
    lambda v: v.remove(1),
    lambda v: v.reverse(),
    lambda v: v.sort(),
    lambda v: v.clear(),
    lambda v: v.__setitem__(0, 2),
    lambda v: v.__delitem__(0),
    lambda v: v.__iadd__([1]),
    lambda v: v.__imul__(2),
]


def email(**fields: Any) -> Email:
    return Email(**{"to": "ann@example.org", "from_": "bob@example.org", "text": "x", **fields})


DEEP = {
    "headers": {"X-Order": "7"},
    "metadata": {"order": "7"},
    "provider_options": {"a": {"b": [1, {"c": 2}]}},
    "template": "t",
    "merge_data": {"ann@example.org": {"a": [1], "b": {"c": 1}}},
    "options": {"api_key": "k"},
}

MESSAGES = [email(**DEEP), Sms(to="+442079460958", provider_options=DEEP["provider_options"])]
COPIES: list[Callable[[Any], Any]] = [
    lambda m: m,
    lambda m: m.stamped(),
    copy.deepcopy,
    lambda m: m.model_copy(deep=True),
    lambda m: m.without(["eve@example.org"]) if isinstance(m, Email) else m,
    lambda m: load_message(m.channel_name, dump_message(m), lambda _: b"", {}, "i"),
]


def count() -> Callable[[object], str]:
    numbers = itertools.count()
    return lambda _: str(next(numbers))


def containers(value: object) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    found = [found for each in inner for found in containers(each)]
    return [value, *found] if isinstance(value, (dict, list)) else found


@pytest.mark.parametrize("change", CHANGES, ids=count())
def test_a_frozen_dict_refuses_every_change(change: Callable[[Any], object]) -> None:
    made = FrozenDict({"a": 1})
    with pytest.raises(TypeError, match="frozen"):
        change(made)
    assert made == {"a": 1}


@pytest.mark.parametrize("change", LIST_CHANGES, ids=count())
def test_a_frozen_list_refuses_every_change(change: Callable[[Any], object]) -> None:
    made = FrozenList([1])
    with pytest.raises(TypeError, match="frozen"):
        change(made)
    assert made == [1]


def test_in_everything_else_they_are_dicts_and_lists() -> None:
    plain = {"a": [1, {"b": 2}], "c": "d"}
    made = frozen(plain)
    assert made == plain
    assert json.loads(json.dumps(made)) == json.loads(to_json(made)) == plain
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == copy.copy(made) == plain
    assert {**made, "e": 1} == {**plain, "e": 1}
    assert hash(made) == hash(frozen(plain))


@pytest.mark.parametrize("message", MESSAGES, ids=["email", "sms"])
@pytest.mark.parametrize("copied", COPIES, ids=count())
def test_a_message_is_frozen_to_the_bottom(message: Email | Sms, copied: Callable[[Any], Any]) -> None:
    same = copied(message)
    found = [each for name in type(same).model_fields for each in containers(getattr(same, name))]
    assert found
    assert all(isinstance(each, (FrozenDict, FrozenList)) for each in found)


def test_what_the_caller_changes_later_in_their_own_dict_is_no_part_of_the_message() -> None:
    given = {"X-Order": "7"}
    made = email(headers=given)
    given["X-Order"] = "8\r\nBcc: eve@example.org"
    assert made.headers == {"X-Order": "7"}


@pytest.mark.parametrize("value", ["1\r\nBcc: eve@example.org", "1\nX: 2", "1\r2", "1\0"])
@pytest.mark.parametrize("field", ["headers", "subject"])
def test_a_line_break_that_came_past_the_checks_does_not_reach_the_wire(field: str, value: str) -> None:
    forged = email().model_copy(update={field: {"X-A": value} if field == "headers" else value})
    with pytest.raises(MessageError, match="line break"):
        to_bytes(forged)
