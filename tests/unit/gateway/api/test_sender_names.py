"""A display name shows nobody an address that the mail does not come from, where the operator says so."""

from __future__ import annotations

import pytest

from postroom import Config, Email
from postroom.gateway.api.sender_names import SenderNames
from postroom.gateway.http.errors import ApiError

CONFIG = Config.model_validate(
    {
        "accounts": {
            "mail": {"provider": "memory", "from": "Desk <desk@Example.org>"},
            "texts": {"provider": "memory", "from": "+15005550006"},
        }
    }
)


def email(name: str) -> Email:
    return Email(to="ann@example.org", text="x", from_name=name)


@pytest.mark.parametrize("name", ["", "Desk", "Desk @ work", "desk@example.org", "DESK@EXAMPLE.ORG (desk)", "a@b"])
def test_names_and_addresses_of_the_own_domains_are_taken(name: str) -> None:
    SenderNames(CONFIG.accounts.values()).check(email(name))


@pytest.mark.parametrize(
    "name",
    ["boss@bank.example", "Boss <boss@bank.example>", "desk@example.org, boss@bank.example", "boss @ bank.example",
     "boss\uff20bank.example", "boss@example.org.evil.example"],
)  # fmt: skip
def test_an_address_of_another_domain_is_refused(name: str) -> None:
    with pytest.raises(ApiError, match="does not send from") as caught:
        SenderNames(CONFIG.accounts.values()).check(email(name))
    assert caught.value.status == 403


def test_a_name_with_the_address_of_its_sender_counts_too() -> None:
    with pytest.raises(ApiError):
        message = Email(to="ann@example.org", text="x", from_="boss@bank.example <desk@example.org>")
        SenderNames(CONFIG.accounts.values()).check(message)
