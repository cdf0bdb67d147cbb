"""No secret of an account is in plain text anywhere that a repr, a debugger or an error tracker looks."""

from __future__ import annotations

import gc
import pprint
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType, TracebackType
from typing import Any

import pytest
from pydantic import SecretStr

from postroom import ConfigError, Postroom, SyncPostroom
from postroom.config.load import load_config

CANARY = "canary-s3cret"
URL = f"smtp://post:{CANARY}@mx.example.org:587"
TABLE = {"provider": "smtp", "host": "mx.example.org", "username": "post", "password": CANARY}
TOML = f'[accounts.main]\nprovider = "smtp"\nhost = "mx.example.org"\nusername = "post"\npassword = "{CANARY}"\n'

Make = Callable[[Path, pytest.MonkeyPatch], Postroom]


def _by_file(here: Path, _: pytest.MonkeyPatch) -> Postroom:
    (here / "postroom.toml").write_text(TOML)
    return Postroom.from_config(here / "postroom.toml")


def _by_secret_file(here: Path, _: pytest.MonkeyPatch) -> Postroom:
    (here / "secret").write_text(CANARY)
    return Postroom(accounts={"main": {**TABLE, "password": {"file": str(here / "secret")}}})


def _by_variable(here: Path, environment: pytest.MonkeyPatch) -> Postroom:
    (here / "postroom.toml").write_text(TOML.replace(f'password = "{CANARY}"', ""))
    environment.setenv("POSTROOM_ACCOUNTS__MAIN__PASSWORD", CANARY)
    return Postroom.from_config(here / "postroom.toml")


def _by_url_variable(_: Path, environment: pytest.MonkeyPatch) -> Postroom:
    environment.setenv("POSTROOM_EMAIL_URL", URL)
    return Postroom.from_config()


SOURCES: dict[str, Make] = {
    "file": _by_file,
    "a file of its own": _by_secret_file,
    "variable": _by_variable,
    "variable with a URL": _by_url_variable,
    "URL": lambda *_: Postroom.from_urls(URL),
    "URL of a channel": lambda *_: Postroom.from_urls(email=URL),
    "code": lambda *_: Postroom(accounts={"main": TABLE}),
}


def plain_texts(root: object) -> Iterator[str]:
    """Every text that can be reached from an object as a debugger shows it: what a SecretStr holds is not."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, (SecretStr, ModuleType, type, FrameType, TracebackType)) or callable(one):
            continue
        seen.add(id(one))
        if isinstance(one, str):
            yield one
        todo += gc.get_referents(one)


@pytest.mark.parametrize("source", SOURCES)
def test_a_room_holds_no_secret_in_plain_text_before_or_after_its_settings_are_validated(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    room = SOURCES[source](tmp_path, monkeypatch)
    for _ in range(2):
        shown = (repr(room.config), pprint.pformat(vars(room.config)), str(room.config.model_dump()))
        assert CANARY not in "".join(shown)
        assert not [text for text in plain_texts(room.config) if CANARY in text]
        assert not [text for text in plain_texts(room._accounts) if CANARY in text]
        room.validate()


def frames_of(error: BaseException) -> Iterator[str]:
    """What an error tracker sends of an error and those behind it: the variables of each frame of ours."""
    behind: BaseException | None = error
    while behind is not None:
        for frame, _ in traceback.walk_tb(behind.__traceback__):
            if "tests" not in frame.f_code.co_filename:
                yield from plain_texts(dict(frame.f_locals))
        behind = behind.__cause__ or behind.__context__


def _load(text: str) -> Callable[[Path], Any]:
    def load(here: Path) -> None:
        (here / "postroom.toml").write_text(text)
        Postroom.from_config(here / "postroom.toml").validate()

    return load


FAULTS: dict[str, Callable[[Path], Any]] = {
    "no TOML": _load(TOML + "x = \n"),
    "an unknown section": _load(TOML + "[nonsense]\nx = 1\n"),
    "an unknown setting": _load(TOML + "hots = 1\n"),
    "a wrong setting": _load(TOML + 'port = "many"\n'),
    "a wrong setting of all accounts": _load(TOML + "timeout = -1\n"),
    "no provider": _load(TOML.replace("provider", "porvider")),
    "an unknown provider": _load(TOML.replace('"smtp"', '"smpt"')),
    "a secret that is too short": _load(TOML + 'bounce_secret = "canary-s3cret"\n'),
    "a secret without its user": _load(TOML.replace('username = "post"', "")),
    "a port that is none": lambda _: Postroom.from_urls(f"smtp://post:{CANARY}@mx.example.org:port"),
    "no URL at all": lambda _: Postroom.from_urls(email=CANARY),
    "a wrong setting in a URL": lambda _: Postroom.from_urls(f"{URL}?hots=1").validate(),
    "a wrong setting in code": lambda _: Postroom(accounts={"main": {**TABLE, "hots": 1}}).validate(),
    "a wrong part in code, without asyncio": lambda _: SyncPostroom(accounts={"main": TABLE}, routes={"r": {}}),
    "a port that is none, without asyncio": lambda _: SyncPostroom.from_urls(f"smtp://p:{CANARY}@mx.example.org:port"),
    "a wrong part in code": lambda _: Postroom(accounts={"main": TABLE}, routes={"r": {}}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_frame_of_an_error_holds_a_secret_in_plain_text(fault: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=".") as caught:
        FAULTS[fault](tmp_path)
    assert not [text for text in frames_of(caught.value) if CANARY in text]
    assert CANARY not in str(caught.value)


def test_no_frame_of_an_error_holds_a_secret_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_ACCOUNTS__MAIN__PASSWORD", CANARY)
    monkeypatch.setenv("POSTROOM_ACCOUNTS__MAIN__PASSWORD__X", CANARY)
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert not [text for text in frames_of(caught.value) if CANARY in text]


def test_what_says_where_a_secret_is_and_what_every_account_has_is_shown(tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(
        TOML.replace(f'"{CANARY}"', '{ env = "SMTP_PASSWORD" }') + 'from = "a@example.org"\ntimeout = 5\n'
    )
    shown = repr(load_config(tmp_path / "postroom.toml"))
    for text in ("'provider': 'smtp'", "'env': 'SMTP_PASSWORD'", "'from': 'a@example.org'", "'timeout': 5"):
        assert text in shown
