"""Names that were mistyped, and copies that are not checked again."""

from __future__ import annotations

import pickle

import pytest

from postroom.addresses import Address
from postroom.messages import Email
from postroom.validation import did_you_mean

KNOWN = ["subject", "to", "reply_to"]


@pytest.mark.parametrize(("word", "hint"), [("sbject", "; did you mean 'subject'?"), ("zzzz", "")])
def test_the_nearest_known_name_is_named_if_one_is_near(word: str, hint: str) -> None:
    assert did_you_mean(word, KNOWN) == hint
    assert did_you_mean(word, []) == ""


def test_a_stamped_copy_equals_one_that_pydantic_made_and_leaves_the_original() -> None:
    email = Email(to="ann@example.org", subject="Hi", text="x")
    stamped = email.stamped(id="1" * 32, subject="Ho")
    assert stamped == email.model_copy(update={"id": "1" * 32, "subject": "Ho"})
    assert stamped.model_fields_set == {"to", "subject", "text", "id"}
    assert pickle.loads(pickle.dumps(stamped)) == stamped
    assert (email.subject, email.id) == ("Hi", None)


def test_a_stamped_address_is_an_address() -> None:
    assert Address("ann@example.org").stamped(name="Ann") == Address("ann@example.org", "Ann")
