"""What the line of a request in the log never holds."""

from __future__ import annotations

import pytest

from postroom.gateway.http.middleware import masked

KEY = "eu--abcdefg123456789"


@pytest.mark.parametrize("name", ["auth_token", "AUTH_TOKEN", "auth%5Ftoken", "%61uth_token", "Auth-token", "api_key"])
def test_a_key_in_a_query_is_masked_however_its_name_is_spelt(name: str) -> None:
    assert masked(f"to=ann&{name}={KEY}&limit=1") == f"to=ann&{name}=***&limit=1"
    assert masked(f"auth_token=x&{name}={KEY}") == f"auth_token=***&{name}=***"


@pytest.mark.parametrize("query", ["", "status=sent&limit=5", "a&b=&=c", "limit"])
def test_the_rest_of_a_query_is_kept_as_it_came(query: str) -> None:
    assert masked(query) == query
