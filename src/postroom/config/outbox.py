"""The `[outbox]` table of the configuration: where messages wait, and how long they are tried."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field

from postroom.config.section import Seconds, Section

POSTGRES = ("postgresql://", "postgres://")
_SQLITE = "sqlite:///"


def _engine_url(value: str) -> str:
    if value.startswith(_SQLITE) and len(value) > len(_SQLITE):
        return value
    if value.startswith(POSTGRES):
        return _without_password(value)
    raise ValueError(
        "must look like sqlite:///postroom.db, sqlite:////var/lib/postroom/postroom.db or postgresql://host/db"
    )


def _without_password(url: str) -> str:
    """Refuse a password: settings are shown, logged and sent to error trackers, and this is one of their texts."""
    try:
        parts = urlsplit(url)
        given = parts.password is not None or any(name == "password" for name, _ in parse_qsl(parts.query))
    except ValueError:
        raise ValueError("must look like postgresql://user@host:5432/db") from None
    if given:
        raise ValueError("must hold no password; give it in PGPASSWORD, in ~/.pgpass or in a service file")
    return url


Language = Literal["de", "en", "es", "fr", "it", "nl", "pt"]
"""A language whose stop words are known, by its ISO 639-1 code."""


class OutboxSettings(Section):
    """Where messages wait, and how they are tried again.

    `url` names the SQLite file; three slashes make a path relative to the working directory, four an absolute one. Or
    it names a PostgreSQL database as libpq does, without a password; `?schema=` names the schema, which else is
    `postroom`.
    A round of attempts that fails is followed by another after a random time of at most `retry_first`, doubled each
    time up to `retry_most`. A message is given up after `attempts` rounds, or when `expires_after` has passed since
    it was accepted (unless it says so itself); with these defaults that comes first. `repeats` is how often a
    message of unknown outcome is sent again where the account's `on_unknown` is `retry`; then it is in doubt, and
    waits for a person, since every repeat may be one more copy. It begins `repeat_after` the answer was missed, and
    that random time: ten minutes by default, which RFC 5321 section 4.5.3.2.6 gives a server for its last answer, so
    that no provider is still at work on the copy before. `crashes` is how many workers may die over one
    message before it is set aside. `lease` is how long a worker may be silent before its work is taken over;
    `grace` how long one that is asked to stop waits for answers. Bodies, attachments and idempotency keys are
    removed `retention` after the message was settled; the receipt stays until `postroom outbox purge`.
    `stop_languages` are the languages whose stop words end SMS to whoever sends one; English always counts.
    """

    url: Annotated[str, AfterValidator(_engine_url)] = "sqlite:///postroom.db"
    retry_first: Seconds = 5.0
    retry_most: Seconds = 3600.0
    attempts: int = Field(default=200, ge=1, le=1_000_000)
    repeats: int = Field(default=1, ge=0, le=1_000_000)
    repeat_after: Seconds = 600.0
    crashes: int = Field(default=10, ge=1, le=1_000_000)
    expires_after: Seconds = 259_200.0
    lease: Seconds = 10.0
    grace: Seconds = 30.0
    retention: Seconds = 604_800.0
    stop_languages: tuple[Language, ...] = ()
