"""Settings: usual ports, credentials that fit, and none that would travel in clear."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from postroom import Postroom
from postroom.config.accounts import account_settings
from postroom.config.urls import account_from_url
from postroom.errors import ConfigError
from postroom.testing.smtp import SmtpRecorder
from postroom_smtp.settings import SmtpSettings, is_loopback


def read(**values: Any) -> SmtpSettings:
    settings = account_settings("main", {"provider": "smtp", **values}, SmtpSettings)
    assert isinstance(settings, SmtpSettings)
    return settings


@pytest.mark.parametrize(("tls", "port"), [("starttls", 587), ("opportunistic", 587), ("implicit", 465), ("none", 25)])
def test_the_usual_port_follows_from_tls(tls: str, port: int) -> None:
    assert read(host="mx.example.org", tls=tls).port == port
    assert read(host="mx.example.org", tls=tls, port=2525).port == 2525


def test_starttls_and_retry_are_the_defaults() -> None:
    settings = read(host="mx.example.org")
    assert (settings.tls, settings.on_unknown, settings.pool) == ("starttls", "retry", 5)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, r"accounts\.main\.host"),
        ({"host": "mx.example.org", "username": "ann"}, r"accounts\.main\.password: .*is missing"),
        ({"host": "mx.example.org", "password": "x"}, r"accounts\.main\.password: .*needs a username"),
        ({"host": "mx.example.org", "oauth_token": "x"}, r"accounts\.main\.oauth_token: .*needs a username"),
        (
            {"host": "mx.example.org", "username": "a", "password": "b", "oauth_token": "c"},
            r"accounts\.main\.password: .*oauth_token",
        ),
        (
            {"host": "mx.example.org", "username": "a", "password": "b", "tls": "none"},
            r"accounts\.main\.password: .*unencrypted",
        ),
        ({"host": "mx.example.org", "tls": "ssl"}, r"accounts\.main\.tls"),
        ({"host": "smtp://mx.example.org"}, r"accounts\.main\.host"),
        ({"host": "mx.example.org", "local_hostname": "a b"}, r"accounts\.main\.local_hostname"),
        ({"host": "mx.example.org", "hots": "x"}, r"accounts\.main\.hots"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(**values)


def test_credentials_may_travel_in_clear_to_this_machine() -> None:
    for host in ("localhost", "127.0.0.1", "::1", "127.3.2.1"):
        assert is_loopback(host)
        assert read(host=host, username="a", password="b", tls="none").username == "a"
    assert not is_loopback("mx.example.org")


def test_a_url_fills_the_settings() -> None:
    table = account_from_url("smtp://ann%40example.org:s%3Ap@mx.example.org:2587?tls=implicit&pool=2", source="URL")
    settings = account_settings("url", table, SmtpSettings)
    assert isinstance(settings, SmtpSettings)
    assert settings.password
    assert (settings.username, settings.password.get_secret_value()) == ("ann@example.org", "s:p")
    assert (settings.host, settings.port, settings.tls, settings.pool) == ("mx.example.org", 2587, "implicit", 2)


def test_the_name_for_ehlo_never_waits_for_dns() -> None:
    assert read(host="mx.example.org", local_hostname="client.example.org").ehlo_name == "client.example.org"
    own = read(host="mx.example.org").ehlo_name
    assert own in (socket.gethostname(), "[127.0.0.1]")
    assert "." in own


def test_a_json_schema_can_be_made() -> None:
    fields = SmtpSettings.model_json_schema()["properties"]
    assert {"host", "port", "tls", "username", "password", "oauth_token", "pool", "local_hostname", "from"} <= set(
        fields
    )


async def test_an_account_by_url_sends_through_the_core(server: SmtpRecorder) -> None:
    url = f"smtp://127.0.0.1:{server.port}?tls=none&from=post@example.org"
    async with Postroom.from_urls(url) as post:
        from postroom import Email

        receipt = await post.send(Email(to="ann@example.org", subject="Hi", text="x"))
    assert receipt.status == "sent"
    assert receipt.provider == "smtp"
    assert server.messages[0].sender == "post@example.org"
