"""The error table keeps its own rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import DeliveryError, Outcome, Scope
from postroom_twilio.errors import CODES, SENDERS, meaning, read_problem

codes = st.sampled_from(sorted(CODES)) | st.integers(10_000, 99_999)


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_a_delivery_error_and_a_next_step(code: int) -> None:
    found = CODES[code]
    assert issubclass(found.kind, DeliveryError)
    assert found.advice
    assert not found.advice.endswith(".")


def test_codes_that_blame_the_sender_reach_the_whole_account() -> None:
    for code in SENDERS:
        assert CODES[code].scope is Scope.ACCOUNT


@settings(deadline=None)
@given(status=st.sampled_from([429, 500, 502, 503, 504, 599]), code=codes)
def test_a_code_never_makes_a_passing_status_permanent(status: int, code: int) -> None:
    found = meaning(status, code)
    assert found is None or not found.lasting


@settings(deadline=None)
@given(status=st.sampled_from([400, 403, 404, 409, 422]), code=codes, own=st.booleans())
def test_a_known_code_decides_among_lasting_statuses(status: int, code: int, own: bool) -> None:
    found = meaning(status, code, own_sender=own)
    if code in CODES:
        assert found is not None
        assert found.kind is CODES[code].kind
        assert found.outcome is not Outcome.ACCEPTED
    else:
        assert found is None or status == 404


values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=1)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["code", "message", "detail", "title"]), values))
def test_any_error_body_can_be_read(body: dict[str, Any]) -> None:
    code, text = read_problem(body)
    assert code is None or isinstance(code, int)
    assert isinstance(text, str)


def test_the_readme_lists_every_code() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    table = readme.partition("| code | error | scope |")[2]
    told = {
        int(code)
        for row in table.splitlines()
        if row.startswith("| ")
        for code in re.findall(r"\d{5}", row.split("|")[1])
    }
    assert told == CODES.keys()
