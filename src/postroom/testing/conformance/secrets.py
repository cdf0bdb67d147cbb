"""Secrets: none in anything that is shown."""

from __future__ import annotations

import logging
import traceback
from base64 import b64encode
from typing import TYPE_CHECKING, Self

import pytest
from pydantic import SecretStr, ValidationError

from postroom.errors import DeliveryError, PostroomError
from postroom.plugin import Resources
from postroom.testing.conformance.base import ACCOUNT, Conformance, FakeT, SettingsT, expect
from postroom.testing.conformance.rule import rule
from postroom.testing.conformance.scenarios import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from postroom.plugin import AccountSettings

_SHORTEST = 4
"""Characters below which a secret would be found in any text."""

SHOWN_IN = (
    Scenario.ACCEPTED,
    Scenario.REFUSED_CONNECTION,
    Scenario.CLOSED_AFTER_READ,
    Scenario.UNAUTHORISED,
    Scenario.REJECTED_WITH_ECHO,
    Scenario.GATEWAY_PAGE,
    Scenario.EMPTY_SUCCESS,
)


class Secrets(Conformance[FakeT, SettingsT]):
    """Credentials are for the provider alone."""

    @rule("declare every credential as pydantic.SecretStr: it hides in text and can be taken out of errors")
    async def test_credentials_are_declared_as_secrets(self) -> None:
        with self.fake_provider() as fake:
            account = self.account(fake)
        expect(
            any(account.secret_texts()) or self.no_secret,
            "these settings hold no secret; return a complete account from `settings`, every secret set",
            "where an account proves itself without one, say on the test class by what: no_secret = 'a local socket'",
        )
        for name, value in account:
            named = any(word in name for word in ("secret", "token", "password"))
            expect(not named or value is None or not isinstance(value, str), f"{name} is plain text")

    @rule("show no credential: leave __repr__ and __str__ as they are, or print account and class only")
    async def test_no_secret_is_in_a_representation(self) -> None:
        with self.fake_provider() as fake:
            async with self.opened(fake) as transport:
                shown = {
                    "repr(transport)": repr(transport),
                    "str(transport)": str(transport),
                    "repr(settings)": repr(transport.settings),
                    "str(settings)": str(transport.settings),
                }
                _free_of(_secrets(transport.settings), shown)

    @pytest.mark.parametrize("scenario", SHOWN_IN, ids=lambda scenario: scenario.replace(" ", "-"))
    @rule(
        "take credentials out of every text: pass a provider's words through HttpTransport.redact, list derived "
        "credentials in `secrets`, and keep headers, URLs and bodies out of logs and exceptions"
    )
    async def test_no_secret_is_in_an_answer_an_error_a_traceback_or_the_log(self, scenario: Scenario) -> None:
        with _EveryRecord() as log:
            shown, secrets = await self._played(scenario)
        _free_of(secrets, {**shown, "the log": "\n".join(log.texts)})

    @rule("keep credentials, and what is made of them, on the transport: never on the class, the module or the session")
    async def test_two_accounts_at_once_each_use_their_own_credentials(self) -> None:
        with self.fake_provider() as fake:
            given = self.account(fake)
            other = {
                name: f"{value.get_secret_value()}x"
                for name, value in given
                if isinstance(value, SecretStr) and "\n" not in value.get_secret_value()
            }
            resources = Resources()
            try:
                second = self.account(fake, **other)
            except (ValidationError, PostroomError):
                return
            async with self.opened(fake, resources) as one:
                two = self.transport(ACCOUNT, second, resources)
                await two.open()
                try:
                    for number, transport in enumerate((one, two, one)):
                        await self.attempt(transport, self.message(number))
                finally:
                    await two.close()
            proofs = [fake.credentials(sent) for sent in fake.sent]
        if len(proofs) > 1 and all(proofs):
            shown = {proof for each in proofs for proof in each}
            expect(len(shown) > 1, "a second account sent with the credentials of the first")
            expect(proofs[0] == proofs[-1], "the first account sent with the credentials of the second")

    @rule("log ids and outcomes, never what a message says, at any level")
    async def test_no_message_is_in_the_log(self) -> None:
        sample = self.sample()
        with self.fake_provider() as fake, _EveryRecord() as log:
            async with self.opened(fake) as transport:
                await self.accepted(transport, self.build(sample.fields))
                fake.play(Scenario.CLOSED_AFTER_READ)
                await self.attempt(transport, self.build(sample.fields))
        for field in {"subject", "text", "body"} & sample.fields.keys():
            held = [text for text in log.texts if sample.fields[field] in text]
            expect(not held, f"the log holds the message's {field}: {held}")

    async def _played(self, scenario: Scenario) -> tuple[dict[str, str], set[str]]:
        with self.fake_provider() as fake:
            fake.play(scenario)
            if scenario is not Scenario.REFUSED_CONNECTION:
                return await self._shown(fake)
        return await self._shown(fake)

    async def _shown(self, fake: FakeT) -> tuple[dict[str, str], set[str]]:
        async with self.opened(fake) as transport:
            answer = await self.attempt(transport, self.message())
            secrets = _secrets(transport.settings)
        for sent in fake.sent:
            secrets |= {text for text in fake.credentials(sent) if len(text) >= _SHORTEST}
        if not isinstance(answer, DeliveryError):
            return {"repr(Accepted)": repr(answer)}, secrets
        return {
            "str(error)": str(answer),
            "repr(error)": repr(answer),
            "the error's attributes": repr(vars(answer)),
            "the traceback": "".join(traceback.format_exception(answer)),
        }, secrets


def _secrets(settings: AccountSettings) -> set[str]:
    """The secrets as they are and as base64 carries them."""
    found = {text for text in settings.secret_texts() if len(text) >= _SHORTEST}
    return found | {b64encode(text.encode()).decode() for text in found}


def _free_of(secrets: set[str], shown: Mapping[str, str]) -> None:
    for where, text in shown.items():
        for secret in secrets:
            expect(secret not in text, f"{where} shows a secret: {text.replace(secret, '<<the secret>>')[:500]}")


class _EveryRecord(logging.Handler):
    """Keeps every record of every logger, at any level."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.texts: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    def __enter__(self) -> Self:
        self._levels = {logger: logger.level for logger in _loggers()}
        for logger in self._levels:
            logger.setLevel(logging.DEBUG)
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *failure: object) -> None:
        logging.getLogger().removeHandler(self)
        for logger, level in self._levels.items():
            logger.setLevel(level)


def _loggers() -> Iterator[logging.Logger]:
    yield logging.getLogger()
    for known in list(logging.root.manager.loggerDict.values()):
        if isinstance(known, logging.Logger):
            yield known
