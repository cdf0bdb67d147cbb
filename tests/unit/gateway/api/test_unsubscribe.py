"""A link to unsubscribe works as long as the operator says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom import Email
from postroom.gateway.api.unsubscribe import UnsubscribeLinks

DAY = 86_400.0


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def token_of(links: UnsubscribeLinks) -> str:
    message = links.add_to(Email(to="ann@example.org", text="x", category="marketing"))
    found = re.search(r"/v1/unsubscribe/([\w-]+)>", message.headers["List-Unsubscribe"])
    assert found
    return found[1]


@pytest.mark.parametrize(("within", "works"), [(None, [True] * 4), (30 * DAY, [True, True, False, False])])
def test_a_link_works_for_so_long_and_then_unsubscribes_nobody(within: float | None, works: list[bool]) -> None:
    clock = Clock()
    links = UnsubscribeLinks(b"secret", "https://post.example", within, clock=clock)
    token, made_at = token_of(links), clock.now
    found = []
    for days in (0, 29.9, 30.1, 4000):
        clock.now = made_at + days * DAY
        found.append(links.address_in(token))
    assert found == ["ann@example.org" if each else None for each in works]


def test_the_time_of_a_link_cannot_be_changed() -> None:
    clock = Clock()
    links = UnsubscribeLinks(b"secret", "https://post.example", 30 * DAY, clock=clock)
    earlier = token_of(links)
    clock.now += 20 * DAY
    later = token_of(links)
    assert links.address_in(earlier) == links.address_in(later) == "ann@example.org"
    assert links.address_in(earlier[:22] + later[22:]) is None


def undated(secret: bytes, address: str) -> str:
    """A token as earlier versions wrote it."""
    signature = hmac.digest(secret, b"unsubscribe " + address.encode(), hashlib.sha256)[:16]
    return base64.urlsafe_b64encode(signature + address.encode()).decode().rstrip("=")


@pytest.mark.parametrize("within", [None, 30 * DAY])
@given(address=st.from_regex(r"[a-z.]{1,20}@[a-z]{1,10}\.example", fullmatch=True))
def test_a_link_of_an_earlier_version_is_for_its_address_and_no_other(within: float | None, address: str) -> None:
    links = UnsubscribeLinks(b"secret", "https://post.example", within, clock=Clock())
    assert links.address_in(undated(b"secret", address)) == address
    assert links.address_in(undated(b"another", address)) is None
