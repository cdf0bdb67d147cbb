"""Tokens are those the SDK makes, from a key that is parsed once; signatures are those it checks."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st
from vonage_http_client.auth import Auth
from vonage_jwt import JwtClient

from postroom import MissingCredential
from postroom.testing.http import HttpRecorder
from postroom_vonage.auth import LIFETIME, RENEWED_AFTER, Tokens, basic, signed
from postroom_vonage.private_keys import check_key_text, parse_private_key

from .conftest import YES


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_token_serves_until_it_is_due_for_renewal(pem: str) -> None:
    clock = Clock()
    tokens = Tokens("app-1", pem, clock=clock)
    await tokens.open()
    first = tokens.authorization()
    clock.now += RENEWED_AFTER - 1
    assert tokens.authorization() == first
    clock.now += 1
    assert tokens.authorization() != first


async def test_a_clock_that_steps_back_makes_a_new_token(pem: str) -> None:
    clock = Clock()
    tokens = Tokens("app-1", pem, clock=clock)
    await tokens.open()
    first = tokens.authorization()
    clock.now -= 1
    assert tokens.authorization() != first


async def test_the_key_is_read_once_for_all_tokens(pem: str, tmp_path: Path) -> None:
    path, clock = tmp_path / "private.key", Clock()
    path.write_text(pem)
    tokens = Tokens("app-1", str(path), clock=clock)
    await tokens.open()
    path.unlink()
    seen = set()
    for _ in range(3):
        clock.now += LIFETIME
        seen.add(tokens.authorization())
    assert len(seen) == 3


async def test_the_token_is_the_one_the_sdk_makes(pem: str) -> None:
    tokens = Tokens("app-1", pem, clock=lambda: int(time.time()) - 0.5)
    await tokens.open()
    mine = tokens.authorization().removeprefix("Bearer ")
    theirs = JwtClient("app-1", pem).generate_application_jwt().decode()
    public = load_pem_private_key(pem.encode(), None).public_key()
    ours, sdks = (jwt.decode(token, public, algorithms=["RS256"]) for token in (mine, theirs))  # type: ignore[arg-type]
    assert jwt.get_unverified_header(mine) == jwt.get_unverified_header(theirs)
    assert ours.keys() == sdks.keys()
    assert ours["exp"] - ours["iat"] == sdks["exp"] - sdks["iat"] == LIFETIME
    assert abs(ours["iat"] - sdks["iat"]) <= 2
    assert ours["application_id"] == sdks["application_id"]
    assert len(ours["jti"]) == len(sdks["jti"])


async def test_a_key_may_be_pkcs1_or_pkcs8_text_or_a_path(pem: str, pkcs1: str, tmp_path: Path) -> None:
    numbers = load_pem_private_key(pem.encode(), None).private_numbers()  # type: ignore[union-attr]
    for number, text in enumerate((pem, pkcs1)):
        path = tmp_path / f"{number}.key"
        path.write_text(text)
        for key in (text, f"\n{text}\n", text.replace("\n", "\\n"), str(path)):
            assert parse_private_key(key).private_numbers() == numbers


def test_the_text_of_a_key_is_told_from_anything_else(pem: str, pkcs1: str, tmp_path: Path) -> None:
    (tmp_path / "good.key").write_text(pem)
    for text in (pem, pkcs1, pem.replace("\n", "\\n")):
        check_key_text(text)
    for kind, text in {**bad_keys(), "path": str(tmp_path / "good.key")}.items():
        with pytest.raises(ValueError, match="names no file"):
            check_key_text(text)
            pytest.fail(kind)


def bad_keys() -> dict[str, str]:
    good = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    locked = good.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hush"))
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    broken = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"
    other = {"nothing": "not a key", "no file": "/no/such/file.key", "folder": "/", "nul": "x\0y", "long": "x" * 5000}
    return {"encrypted": locked.decode(), "not RSA": curve.decode(), "broken": broken, **other}


@pytest.mark.parametrize("kind", ["encrypted", "not RSA", "broken", "nothing", "no file", "folder", "nul", "long"])
async def test_a_key_that_cannot_be_used_is_an_error_without_the_key(kind: str) -> None:
    key = bad_keys()[kind]
    with pytest.raises(MissingCredential, match="private_key") as caught:
        await Tokens("app-1", key).open()
    assert key not in str(caught.value) or kind == "folder"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_all_messages_of_an_account_go_with_one_token(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any], by_token: dict[str, Any]
) -> None:
    server.answer(YES["messages"])
    async with open_vonage(server.url, **by_token) as vonage:
        await asyncio.gather(*(vonage.send(sms()) for _ in range(5)))
    seen = {request.headers["authorization"] for request in server.requests}
    assert len(server.requests) == 5
    assert len(seen) == 1
    assert seen.pop().startswith("Bearer eyJ")


async def test_an_account_with_both_prefers_the_token(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any], pem: str
) -> None:
    server.answer(YES["messages"])
    async with open_vonage(server.url, application_id="app-1", private_key=pem) as vonage:
        await vonage.send(sms())
    assert server.requests[0].headers["authorization"].startswith("Bearer ")


@pytest.mark.parametrize("api", ["messages", "sms"])
async def test_basic_is_the_sdks(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any], api: str
) -> None:
    server.answer(YES[api])
    async with open_vonage(server.url, api=api, api_secret="gehéim:x") as vonage:
        await vonage.send(sms())
    theirs = Auth(api_key="abcd1234", api_secret="gehéim:x").create_basic_auth_string()
    assert server.requests[0].headers["authorization"] == theirs == basic("abcd1234", "gehéim:x")


VALUES = st.dictionaries(st.from_regex(r"[a-z][a-z\-]{0,9}", fullmatch=True), st.text(max_size=40), max_size=6)


@given(fields=VALUES, method=st.sampled_from(["md5", "sha1", "sha256", "sha512"]))
def test_the_sdk_accepts_our_signature(fields: dict[str, str], method: str) -> None:
    form = signed({**fields, "api_key": "abcd1234"}, "signature-secret", method, timestamp=1_700_000_000)  # type: ignore[arg-type]
    auth = Auth(api_key="abcd1234", signature_secret="signature-secret", signature_method=method)
    assert auth.check_signature(form)


def test_the_plain_md5_signature_is_the_digest_of_fields_and_secret() -> None:
    form = signed({"to": "44", "text": "a=b&c"}, "secret", "md5hash", timestamp=1_700_000_000)
    assert form["sig"] == hashlib.md5(b"&text=a_b_c&timestamp=1700000000&to=44secret").hexdigest()
    assert form["text"] == "a=b&c"


@pytest.mark.parametrize("method", ["md5", "sha1", "sha256", "sha512"])
async def test_what_a_signing_account_sends_passes_the_sdks_check(
    open_vonage: Callable[..., Any], server: HttpRecorder, sms: Callable[..., Any], method: str
) -> None:
    server.answer(YES["sms"])
    settings = {"signature_secret": "s3cret", "signature_method": method}
    async with open_vonage(server.url, api="sms", **settings) as vonage:
        await vonage.send(sms(body="Grüße & 1=1\n👍"))
    [request] = server.requests
    form = dict(request.form())
    assert "authorization" not in request.headers
    assert abs(int(form["timestamp"]) - time.time()) < 10
    assert form["text"] == "Grüße & 1=1\n👍"
    auth = Auth(api_key="abcd1234", **settings)
    assert auth.check_signature({**form})
    assert not auth.check_signature({**form, "to": "447700900999"})
