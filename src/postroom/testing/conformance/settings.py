"""Settings: wrong ones are refused when configuration loads, in words that help and without what was given."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pydantic import SecretStr, ValidationError

from postroom.errors import ConfigError, PostroomError
from postroom.plugin import AccountSettings
from postroom.testing.conformance.base import Conformance, FakeT, SettingsT, expect
from postroom.testing.conformance.rule import ConformanceError, rule
from postroom.testing.conformance.scenarios import Scenario

INJECTED = "X-Kit-Injected"


class Settings(Conformance[FakeT, SettingsT]):
    """The settings model, as the configuration uses it."""

    @rule("derive settings_model from AccountSettings or HttpAccountSettings, and give `provider` the provider's name")
    async def test_the_settings_model_belongs_to_the_provider(self) -> None:
        model = self.transport.settings_model
        expect(issubclass(model, AccountSettings), f"settings_model is {model!r}")
        default = model.model_fields["provider"].default
        expect(default == self.provider, f"settings_model.provider is {default!r}, the provider {self.provider!r}")
        model.model_json_schema()

    @rule("keep the model's extra = forbid: a misspelt setting must not be ignored")
    async def test_an_unknown_setting_is_refused_by_name(self) -> None:
        error = self._refused_settings(no_such_setting="x")
        expect("no_such_setting" in str(error), f"the error does not name the setting: {error}")

    @rule("name what is missing: make it a required field, or raise MissingCredential that says which to set")
    async def test_an_account_without_credentials_says_which_are_missing(self) -> None:
        with self.fake_provider() as fake:
            given = self.settings(fake)
        names = {name for name, value in self._account_of(given) if isinstance(value, SecretStr)} & given.keys()
        bare = {name: value for name, value in given.items() if name not in names}
        try:
            self._account_of(bare)
        except (ValidationError, ConfigError) as error:
            text = str(error)
            expect(any(name in text for name in names), f"the error names none of {sorted(names)}: {text}")

    @rule("keep hide_input_in_errors, and quote no value in errors that your validators raise")
    async def test_an_error_in_the_settings_shows_no_secret(self) -> None:
        with self.fake_provider() as fake:
            secrets = [text for text in self.account(fake).secret_texts() if text]
        for changed in ({"timeout": "soon"}, {"no_such_setting": secrets}, {"concurrency": secrets}):
            text = str(self._refused_settings(**changed))
            expect(not any(secret in text for secret in secrets), f"the error shows a secret: {text}")

    @rule("refuse line breaks in credentials when the settings load, or encode them; never paste them into a header")
    async def test_a_line_break_in_a_credential_adds_no_header(self) -> None:
        with self.fake_provider() as fake:
            given = self.settings(fake)
            secret = [name for name, value in self._account_of(given) if isinstance(value, SecretStr) and name in given]
            for name in secret:
                await self._inject(fake, {**given, name: f"{_text(given[name])}\r\n{INJECTED}: yes"})

    async def _inject(self, fake: FakeT, given: dict[str, Any]) -> None:
        with suppress(ValidationError, PostroomError, ConformanceError):
            async with self.opened(fake, **given) as transport:
                await self.attempt(transport, self.message())
        for sent in fake.sent:
            names = {name.lower() for name in getattr(sent, "headers", {})}
            expect(INJECTED.lower() not in names, "a line break in a credential became a header of the request")

    def _account_of(self, given: dict[str, Any]) -> AccountSettings:
        return self.transport.settings_model.model_validate({"provider": self.provider, **given})

    def _refused_settings(self, **changed: Any) -> ValidationError | ConfigError:
        with self.fake_provider() as fake:
            fake.play(Scenario.ACCEPTED)
            try:
                self.account(fake, **changed)
            except (ValidationError, ConfigError) as error:
                return error
        raise ConformanceError(f"settings with {', '.join(changed)} wrong were taken")


def _text(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
