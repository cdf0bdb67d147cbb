"""Configuration: where it comes from, and that every mistake is told with its place and never with a secret."""

from __future__ import annotations

import contextlib
import math
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from postroom import Config, ConfigError, InvalidOption, MissingCredential, Postroom, Sms
from postroom.config.load import config_file, load_config
from postroom.config.masking import unmasked
from postroom.config.model import parse_config

SAMPLE = """
[defaults]
email = "careful"
sms = "texts"

[accounts.main]
provider = "smtp"
host = "smtp.example.org"
port = 587
username = "post"
password = { env = "SMTP_PASSWORD" }
from = "Post Room <post@example.org>"
rate = "50/s"
concurrency = 5

[accounts.sg]
provider = "sendgrid"
api_key = { env = "SENDGRID_API_KEY" }

[accounts.texts]
provider = "twilio"
account_sid = "AC00000000000000000000000000000000"
auth_token = { env = "TWILIO_AUTH_TOKEN" }
from = "+15005550006"

[accounts.vonage-uk]
provider = "vonage"
api_key = "k"
api_secret = { file = "vonage.secret" }

[routes.careful]
strategy = "failover"
via = ["main", "sg"]

[[rules]]
channel = "sms"
country = ["GB", "IE"]
use = "vonage-uk"

[outbox]
url = "sqlite:///postroom.db"

[gateway]
rate_limit = "20/30s"
"""

MEMORY = '[accounts.{0}]\nprovider = "memory"\n'


@pytest.fixture
def here(bare_surroundings: Path) -> Path:
    return bare_surroundings


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refused(values: dict[str, Any], kind: type[ConfigError] = InvalidOption) -> tuple[str, str | None]:
    with pytest.raises(kind) as caught:
        parse_config(values)
    return str(caught.value), caught.value.path


def account_error(stage: ModuleType, table: dict[str, Any], kind: type[Any] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        Postroom(accounts={"a": {"provider": "stage", **table}}).validate()
    return str(caught.value)


def test_the_sample_of_the_design_loads(here: Path) -> None:
    write(here / "postroom.toml", SAMPLE)
    config = load_config()
    assert list(config.accounts) == ["main", "sg", "texts", "vonage-uk"]
    assert config.routes["careful"].via == ("main", "sg")
    assert (config.defaults.email, config.defaults.sms) == ("careful", "texts")
    assert config.rules[0].country == ("GB", "IE")
    assert config.outbox.url == "sqlite:///postroom.db"
    assert str(config.gateway.rate_limit[0]) == "20/30s"
    assert Postroom(config).config is config


def test_the_named_file_goes_before_the_variable_and_that_before_the_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = write(here / "named.toml", MEMORY.format("named"))
    variable = write(here / "variable.toml", MEMORY.format("variable"))
    assert config_file() is None
    assert load_config() == Config()
    write(here / "postroom.toml", MEMORY.format("folder"))
    assert list(load_config().accounts) == ["folder"]
    monkeypatch.setenv("POSTROOM_CONFIG", str(variable))
    assert list(load_config().accounts) == ["variable"]
    assert list(load_config(named).accounts) == ["named"]
    assert list(load_config(str(named)).accounts) == ["named"]
    monkeypatch.setenv("POSTROOM_CONFIG", "")
    assert list(load_config().accounts) == ["folder"]


@pytest.mark.parametrize("name", ["missing.toml", "folder"])
def test_a_file_that_cannot_be_read_is_named_with_the_next_step(here: Path, name: str) -> None:
    (here / "folder").mkdir()
    with pytest.raises(ConfigError, match=rf"cannot read .*{name}.*postroom init"):
        load_config(here / name)


@pytest.mark.parametrize("content", [b"accounts = [", b"\xff\xfe", b"a = 1\na = 2", b"a = \x00"])
def test_a_file_that_is_no_toml_is_named(here: Path, content: bytes) -> None:
    (here / "postroom.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"postroom\.toml is not valid TOML"):
        load_config()


class TestEnvironment:
    @pytest.mark.parametrize("name", ["main", "Main", "MAIN"])
    def test_overlays_a_value_of_the_file_whatever_the_case_of_its_name(
        self, stage: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        write(here / "postroom.toml", f'[accounts.{name}]\nprovider = "stage"\ntoken = "file"\nuser = "ann"\n')
        monkeypatch.setenv("POSTROOM_ACCOUNTS__MAIN__TOKEN", "from outside")
        assert unmasked(load_config().accounts) == {name: {"provider": "stage", "token": "from outside", "user": "ann"}}

    @pytest.mark.parametrize("name", ["vonage-uk", "vonage_uk"])
    def test_reaches_names_with_a_dash(
        self, stage: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        write(here / "postroom.toml", f'[accounts.{name}]\nprovider = "stage"\n')
        monkeypatch.setenv("POSTROOM_ACCOUNTS__VONAGE_UK__TOKEN", "x")
        assert unmasked(load_config().accounts) == {name: {"provider": "stage", "token": "x"}}

    def test_is_enough_for_a_whole_account(
        self, stage: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("POSTROOM_ACCOUNTS__MAIN__PROVIDER", "stage")
        monkeypatch.setenv("POSTROOM_ACCOUNTS__MAIN__TOKEN", "x")
        monkeypatch.setenv("POSTROOM_ACCOUNTS__MAIN__TIMEOUT", "2.5")
        monkeypatch.setenv("POSTROOM_ACCOUNTS__MAIN__FROM", "+15005550006")
        monkeypatch.setenv("POSTROOM_DEFAULTS__SMS", "main")
        room = Postroom(load_config())
        room.validate()
        (target,) = room.targets(Sms(to="+442079460958", body="x"))
        assert target.name == "main"
        assert room.config.accounts["main"]["from"] == "+15005550006"

    @pytest.mark.parametrize(
        "secret", ["12345", "true", "null", "1e5", '{"env": "HOME"}', "[1]", '"quoted"', "", " x ", "ä"]
    )
    async def test_takes_a_secret_as_it_is_written(
        self, stage: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch, secret: str
    ) -> None:
        stage.STAGE.__init__()
        write(here / "postroom.toml", '[accounts.main]\nprovider = "stage"\n')
        monkeypatch.setenv("POSTROOM_ACCOUNTS__MAIN__TOKEN", secret)
        async with Postroom.from_config() as room:
            await room.send(Sms(to="+442079460958", body="x"))
        assert stage.STAGE.settings_seen[0].token.get_secret_value() == secret

    def test_may_replace_a_secret_that_the_file_takes_from_elsewhere(
        self, stage: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(here / "postroom.toml", '[accounts.main]\nprovider = "stage"\ntoken = { env = "NOT_SET_AT_ALL" }\n')
        monkeypatch.setenv("POSTROOM_ACCOUNTS__MAIN__TOKEN", "x")
        Postroom(load_config()).validate()

    def test_gives_lists_as_json(self, stage: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(here / "postroom.toml", MEMORY.format("a") + MEMORY.format("b"))
        monkeypatch.setenv("POSTROOM_ROUTES__R__VIA", '["b", "a"]')
        assert load_config().routes["r"].via == ("b", "a")
        monkeypatch.setenv("POSTROOM_ROUTES__R__VIA", "b")
        assert load_config().routes["r"].via == ("b",)

    @pytest.mark.parametrize(
        ("variable", "said"),
        [
            ("POSTROOM_ACCOUTNS__MAIN__TOKEN", "did you mean 'accounts'"),
            ("POSTROOM_DEFAULT__EMAIL", "did you mean 'defaults'"),
            ("POSTROOM_DEFAULTS__EMIAL", "did you mean 'email'"),
        ],
    )
    def test_with_a_typo_is_an_error_that_names_it(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, variable: str, said: str
    ) -> None:
        monkeypatch.setenv(variable, "s3cret")
        with pytest.raises(InvalidOption, match=said) as caught:
            load_config()
        assert "s3cret" not in str(caught.value)

    def test_that_restricts_plugins_is_no_section(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POSTROOM_PLUGINS", "memory,console")
        assert load_config() == Config()
        monkeypatch.setenv("POSTROOM_PLUGINS", "")
        assert load_config() == Config()

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("POSTROOM_ACCOUNTS", "s3cret"),
            ("POSTROOM_RULES", "s3cret"),
            ("POSTROOM_OUTBOX", "s3cret"),
            ("POSTROOM_ROUTES__R__VIA", "[s3cret"),
            ("POSTROOM_ACCOUNTS__A", "s3cret"),
        ],
    )
    def test_that_cannot_be_read_is_an_error_without_its_value(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
    ) -> None:
        monkeypatch.setenv(variable, value)
        with pytest.raises(ConfigError) as caught:
            load_config()
        assert "s3cret" not in str(caught.value)
        assert variable.removeprefix("POSTROOM_").lower().replace("__", ".") in str(caught.value).lower().replace(
            "__", "."
        )


class TestUrls:
    def settings(self, *urls: str, **named: Any) -> Postroom:
        room = Postroom.from_urls(*urls, **named)
        room.validate()
        return room

    def account(self, url: str) -> dict[str, str]:
        (found,) = Postroom.from_urls(url).config.accounts.values()
        found = unmasked(found)
        return {key: value for key, value in found.items() if key != "url-parts"} | dict(found["url-parts"])

    def test_percent_encoding_is_undone_in_every_part(self) -> None:
        found = self.account(
            "smtp://us%40er:p%3Aa%2Fs%23s%3F@mail.example.org:2525?tls=none&from=Ann%20%3Ca%40b.org%3E"
        )
        assert found == {
            "provider": "smtp",
            "username": "us@er",
            "password": "p:a/s#s?",
            "host": "mail.example.org",
            "port": "2525",
            "tls": "none",
            "from": "Ann <a@b.org>",
        }

    def test_smtps_is_smtp_with_implicit_tls(self) -> None:
        assert self.account("smtps://h:465") == {"provider": "smtp", "tls": "implicit", "host": "h", "port": "465"}

    @pytest.mark.parametrize("sender", ["%2B15005550006", "+15005550006"])
    def test_a_plus_in_a_number_stays_one(self, sender: str) -> None:
        found = self.account(f"twilio://AC1:t0ken@?from={sender}")
        assert found == {"provider": "twilio", "username": "AC1", "password": "t0ken", "from": "+15005550006"}

    def test_a_scheme_is_read_whatever_its_case(self) -> None:
        assert self.account("SMTP://Mail.example.org")["provider"] == "smtp"

    def test_each_url_makes_an_account_and_the_named_ones_are_defaults(self) -> None:
        config = Postroom.from_urls("memory://", "memory://", email="memory://?from=a%40b.org", sms="memory://").config
        assert list(config.accounts) == ["email-url", "sms-url", "memory", "memory-2"]
        assert (config.defaults.email, config.defaults.sms) == ("email-url", "sms-url")

    async def test_a_room_made_of_urls_sends(self) -> None:
        async with Postroom.from_urls(sms="memory://?from=%2B15005550006") as room:
            await room.send(Sms(to="+442079460958", body="hello"))
            assert room.memory[0].from_ == "+15005550006"  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        "url",
        [
            "smtp://user:s3cret#x@host",
            "smtp://user:s3cret/x@host",
            "smtp://user:s3cret@host:port",
            "smtp://user:s3cret@[::1",
            "user:s3cret@host",
            "smtp:user:s3cret@host",
            "//user:s3cret@host",
            "s3cret",
            "",
            " smtp://user:s3cret@host",
            "smtp://user:s3cret@host:99999",
            "my smtp://user:s3cret@host",
            "nobody_at_all://user:s3cret@host",
        ],
    )
    def test_a_url_that_is_none_is_an_error_without_the_url(self, url: str) -> None:
        with pytest.raises(Exception) as caught:
            Postroom.from_urls(url).targets(Sms(to="+442079460958", body="x", provider="s3cret-not"))
        assert "user:" not in str(caught.value).replace("smtp://user:password@host", "")
        assert "s3cret@" not in str(caught.value)
        assert "s3cret#" not in str(caught.value)

    def test_a_part_the_provider_has_no_field_for_is_an_error(self) -> None:
        with pytest.raises(InvalidOption, match="takes no password") as caught:
            self.settings("memory://:s3cret@")
        assert "s3cret" not in str(caught.value)

    def test_the_variables_give_default_accounts_beside_the_file(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(here / "postroom.toml", MEMORY.format("m") + '[defaults]\nsms = "m"\n')
        monkeypatch.setenv("POSTROOM_EMAIL_URL", "smtp://user:pass@host:587")
        monkeypatch.setenv("POSTROOM_SMS_URL", "twilio://SID:TOKEN@?from=%2B15005550006")
        config = load_config()
        assert set(config.accounts) == {"sms-url", "email-url", "m"}
        assert (config.defaults.email, config.defaults.sms) == ("email-url", "m")

    def test_a_wrong_variable_is_named(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POSTROOM_EMAIL_URL", "user:s3cret@host")
        with pytest.raises(ConfigError, match="POSTROOM_EMAIL_URL must begin with a provider") as caught:
            load_config()
        assert "s3cret" not in str(caught.value)

    def test_the_variable_beside_a_file_with_ill_accounts_is_still_a_configuration_error(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(here / "postroom.toml", "accounts = 5\ndefaults = 6\n")
        monkeypatch.setenv("POSTROOM_EMAIL_URL", "memory://")
        with pytest.raises(ConfigError, match="accounts|defaults"):
            load_config()


class TestSecrets:
    @pytest.mark.parametrize("text", ["t0ken", "t0ken\n", "t0ken\r\n"])
    async def test_come_from_a_file_without_its_last_line_end(self, stage: ModuleType, here: Path, text: str) -> None:
        stage.STAGE.__init__()
        path = here / "secret"
        path.write_bytes(text.encode())
        account = {"provider": "stage", "token": {"file": str(path)}}
        async with Postroom(accounts={"a": account}) as room:
            await room.send(Sms(to="+442079460958", body="x"))
        assert stage.STAGE.settings_seen[0].token.get_secret_value() == "t0ken"

    def test_missing_in_the_environment_name_the_setting_and_the_variable(self, stage: ModuleType) -> None:
        said = account_error(stage, {"token": {"env": "NOT_SET_AT_ALL"}}, MissingCredential)
        assert said == "accounts.a.token: environment variable NOT_SET_AT_ALL is not set"

    @pytest.mark.parametrize("where", ["/not/there/at/all", ".", "a\0b"])
    def test_missing_in_a_file_name_the_setting(self, stage: ModuleType, where: str) -> None:
        said = account_error(stage, {"token": {"file": where}}, MissingCredential)
        assert said.startswith("accounts.a.token: cannot read")

    @pytest.mark.parametrize("ill", [{"env": 5}, {"env": "A", "file": "b"}, {"vault": "x"}, {}, ["x"], 5, True])
    def test_of_another_form_are_refused_without_their_value(self, stage: ModuleType, ill: Any) -> None:
        assert account_error(stage, {"token": ill}).startswith("accounts.a.token: ")


class TestMistakes:
    """Each names its full dotted path, and the nearest known name."""

    @pytest.mark.parametrize(
        ("values", "path", "near"),
        [
            ({"acounts": {}}, "acounts", "accounts"),
            ({"defaults": {"emial": "a"}}, "defaults.emial", "email"),
            ({"routes": {"r": {"via": ["m"], "stratgy": "failover"}}}, "routes.r.stratgy", "strategy"),
            ({"rules": [{"use": "m"}, {"use": "m", "contry": "GB"}]}, "rules.1.contry", "country"),
            ({"plugins": {"extension": []}}, "plugins.extension", "extensions"),
        ],
    )
    def test_an_unknown_key(self, values: dict[str, Any], path: str, near: str) -> None:
        said, where = refused({"accounts": {"m": {"provider": "memory"}}, **values})
        assert where == path
        assert said == f"{path}: unknown key; did you mean {near!r}?"

    @pytest.mark.parametrize(("key", "near"), [("tokne", "token"), ("form", "from"), ("concurency", "concurrency")])
    def test_an_unknown_key_of_an_account(self, stage: ModuleType, key: str, near: str) -> None:
        assert account_error(stage, {key: "x"}) == f"accounts.a.{key}: unknown key; did you mean {near!r}?"

    @pytest.mark.parametrize(
        ("values", "path"),
        [
            ({"accounts": {"a": 5}}, "accounts.a"),
            ({"accounts": {"a": {}}}, "accounts.a.provider"),
            ({"accounts": {"a": {"provider": 5}}}, "accounts.a.provider"),
            ({"accounts": 5}, "accounts"),
            ({"routes": {"r": {"via": []}}}, "routes.r.via"),
            ({"routes": {"r": {"via": ["nobody"]}}}, "routes.r.via"),
            ({"routes": {"r": {"via": ["m", "m"]}}}, "routes.r"),
            ({"routes": {"m": {"via": ["m"]}}}, "routes.m"),
            ({"routes": {"r": {"via": ["m"], "strategy": "random"}}}, "routes.r.strategy"),
            ({"routes": {"r": {"via": ["m"], "weights": {"m": 1}}}}, "routes.r"),
            ({"routes": {"r": {"via": ["m"], "strategy": "weighted", "weights": {"x": 1}}}}, "routes.r"),
            ({"routes": {"r": {"via": ["m"], "strategy": "weighted", "weights": {"m": 0}}}}, "routes.r.weights.m"),
            (
                {"routes": {"r": {"via": ["m"], "strategy": "weighted", "weights": {"m": math.inf}}}},
                "routes.r.weights.m",
            ),
            (
                {"routes": {"r": {"via": ["m"], "strategy": "weighted", "weights": {"m": math.nan}}}},
                "routes.r.weights.m",
            ),
            ({"rules": [{}]}, "rules.0.use"),
            ({"rules": [{"use": "m", "country": "gb"}]}, "rules.0.country.0"),
            ({"rules": [{"use": "m", "channel": "fax"}]}, "rules.0.channel"),
            ({"rules": {}}, "rules"),
            ({"plugins": {"use": []}}, "plugins.use"),
        ],
    )
    def test_a_wrong_value(self, values: dict[str, Any], path: str) -> None:
        said, where = refused({"accounts": {"m": {"provider": "memory"}}, **values})
        assert where == path
        assert said.startswith(f"{path}: ")

    @pytest.mark.parametrize(
        ("table", "path"),
        [
            ({"timeout": 0}, "timeout"),
            ({"timeout": math.inf}, "timeout"),
            ({"timeout": math.nan}, "timeout"),
            ({"timeout": "soon"}, "timeout"),
            ({"concurrency": 0}, "concurrency"),
            ({"concurrency": 1.5}, "concurrency"),
            ({"rate": "fast"}, "rate"),
            ({"rate": "0/s"}, "rate"),
            ({"rate": "5/0s"}, "rate"),
            ({"rate": "1/" + "9" * 400 + "d"}, "rate"),
            ({"rate": "9" * 400 + "/s"}, "rate"),
            ({"rate": 5}, "rate"),
            ({"on_unknown": "guess"}, "on_unknown"),
            ({"unsupported": "ignore"}, "unsupported"),
            ({"from": "a\r\nb"}, "from"),
            ({"url-parts": "x"}, "url-parts"),
        ],
    )
    def test_a_wrong_setting_of_an_account(self, stage: ModuleType, table: dict[str, Any], path: str) -> None:
        assert account_error(stage, table).startswith(f"accounts.a.{path}: ")

    def test_of_one_file_are_all_told_at_once(self) -> None:
        said, where = refused({"acounts": {}, "defalts": {}, "rules": [{}]})
        assert where in ("acounts", "defalts", "rules.0.use")
        assert all(path in said for path in ("acounts: ", "defalts: ", "rules.0.use: "))

    @pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "ä", "x" * 65, "a\n"])
    def test_a_name_that_is_none(self, name: str) -> None:
        said, _ = refused({"accounts": {name: {"provider": "memory"}}})
        assert "accounts." in said

    def test_never_show_a_secret(self, stage: ModuleType) -> None:
        said = account_error(stage, {"token": {"s3cret": "s3cret"}, "timeout": "s3cret", "s3cret?": 1})
        assert said.count("s3cret") == said.count("s3cret?")


toml_values = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.sampled_from(["memory", "stage", "failover", "weighted", "5/s", "GB", "sms", "a", "m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["a", "m", "r", "via", "env", "file", "url-parts"]) | st.text(max_size=5)


def mostly(known: list[str]) -> SearchStrategy[Any]:
    """A table whose keys are known ones, strange ones, or missing, and whose values may be anything."""
    return st.dictionaries(st.sampled_from(known) | st.text(max_size=4), toml_values, max_size=4)


account = mostly(["provider", "from", "timeout", "rate", "token", "user", "url-parts", "script", "concurrency"])
sections = st.fixed_dictionaries(
    {},
    optional={
        "accounts": st.dictionaries(names, account | toml_values, max_size=3) | toml_values,
        "routes": st.dictionaries(names, mostly(["via", "strategy", "weights"]) | toml_values, max_size=2)
        | toml_values,
        "rules": st.lists(mostly(["use", "channel", "country", "domain", "category"]), max_size=2) | toml_values,
        "defaults": mostly(["email", "sms"]) | toml_values,
        "plugins": mostly(["use", "extensions"]) | toml_values,
        "outbox": toml_values,
        "gateway": toml_values,
        "strange": toml_values,
    },
)


@pytest.mark.slow
@given(values=sections)
@example(values={"accounts": {"a": {"provider": "stage", "url-parts": 5}}})
@example(values={"accounts": {"a": {"provider": "stage", "rate": "1/0s"}}})
@settings(
    deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_configuration_loads_or_is_refused_with_a_place(stage: ModuleType, values: dict[str, Any]) -> None:
    try:
        config = parse_config(values)
    except ConfigError as error:
        assert error.path
        assert str(error).startswith(f"{error.path}: ")
        return
    for name, table in config.accounts.items():
        if table["provider"] in ("stage", "memory"):
            room = Postroom(accounts={name: table})
            try:
                room.validate()
            except ConfigError as error:
                assert error.path.startswith(f"accounts.{name}")  # type: ignore[union-attr]


@given(st.binary(max_size=60))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_loads_or_is_refused(bare_surroundings: Path, content: bytes) -> None:
    path = bare_surroundings / "x.toml"
    path.write_bytes(content)
    try:
        load_config(path)
    except ConfigError:
        return
    assert isinstance(tomllib.loads(content.decode()), dict)


@given(
    st.text(max_size=40)
    | st.builds("smtp://{}:{}@{}".format, st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
)
@settings(deadline=None, max_examples=300)
def test_any_text_is_a_url_or_a_configuration_error(url: str) -> None:
    with contextlib.suppress(ConfigError):
        Postroom.from_urls(url)


@pytest.mark.parametrize("url", ["postgresql://ann:hidden@db/mail", "postgres://db/mail?user=ann&password=hidden"])
def test_a_database_url_with_a_password_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="outbox.url: must hold no password; give it in PGPASSWORD") as raised:
        parse_config({"outbox": {"url": url}})
    assert "hidden" not in str(raised.value)


def test_a_database_url_names_hosts_and_what_libpq_knows() -> None:
    url = "postgresql://ann@a:5432,b:5433/mail?sslmode=verify-full&schema=post"
    assert parse_config({"outbox": {"url": url}}).outbox.url == url
