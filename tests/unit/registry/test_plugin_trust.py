"""Which plugins load, and why: visible, and in the hands of whoever configures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from postroom.config.model import Plugins, parse_config
from postroom.errors import InvalidOption, ProviderNotFound
from postroom.receipts import Channel
from postroom.registry.registry import Registry

if TYPE_CHECKING:
    from tests.conftest import Site


GOOD = """
    from postroom.plugin import AccountSettings, SmsTransport, hookimpl
    from postroom.receipts import Accepted

    class GoodSms(SmsTransport[AccountSettings]):
        settings_model = AccountSettings
        async def send(self, sms, /):
            return Accepted(provider_message_id="good")

    @hookimpl
    def postroom_sms_transport():
        return GoodSms
"""

TELL = """
    import json, sys
    from postroom.config import load_config
    from postroom.registry.registry import Registry
    registry = Registry(load_config().plugins)
    told = {i.name: [i.status, i.why, i.file, str(i.error) if i.error else None] for i in registry.describe()}
    print(json.dumps([told.get("good"), "good_sms" in sys.modules, sorted(registry.names())]))
"""


def tell(site: Site, configuration: str = "", **env: Any) -> list[Any]:
    (site.folder / "postroom.toml").write_text(configuration)
    return site.python(TELL, env=env)  # type: ignore[no-any-return]


@pytest.fixture
def good(site: Site) -> Site:
    return site.add("good-sms", providers={"good": "good_sms"}, modules={"good_sms": GOOD})


def test_without_a_word_every_installed_provider_may_load_and_says_from_where(good: Site) -> None:
    (status, why, file, error), loaded, _ = tell(good)
    assert (status, error, loaded) == ("loaded", None, True)
    assert why == "installed, and nothing restricts which providers load"
    assert Path(file) == good.folder / "good_sms.py"


@pytest.mark.parametrize(
    ("allow", "variable", "why"),
    [
        (None, "good,memory", "named in POSTROOM_PLUGINS"),
        ('["good"]', None, "named in [plugins] allow"),
        ('"good"', "good", "named in POSTROOM_PLUGINS; named in [plugins] allow"),
    ],
)
def test_a_provider_that_is_allowed_says_by_whom(good: Site, allow: str | None, variable: str | None, why: str) -> None:
    configuration = f"[plugins]\nallow = {allow}\n" if allow else ""
    told, loaded, _ = tell(good, configuration, **({"POSTROOM_PLUGINS": variable} if variable else {}))
    assert (told[0], told[1], loaded) == ("loaded", why, True)


@pytest.mark.parametrize(
    ("allow", "variable", "names", "why"),
    [
        (None, "memory", ["memory"], "not among POSTROOM_PLUGINS=memory"),
        (None, "", [], "not among POSTROOM_PLUGINS="),
        ('["smtp", "memory"]', None, ["memory", "smtp"], "not among [plugins] allow = [memory, smtp]"),
        ("[]", None, [], "not among [plugins] allow = [none]"),
        ('["good"]', "memory", [], "not among POSTROOM_PLUGINS=memory"),
        ('["memory"]', "good,memory", ["memory"], "not among [plugins] allow = [memory]"),
    ],
)
def test_a_provider_that_is_not_allowed_is_shown_with_the_reason_and_never_imported(
    good: Site, allow: str | None, variable: str | None, names: list[str], why: str
) -> None:
    configuration = f"[plugins]\nallow = {allow}\n" if allow else ""
    told, loaded, allowed = tell(
        good, configuration, **({"POSTROOM_PLUGINS": variable} if variable is not None else {})
    )
    assert told == ["not allowed", why, told[2], f"provider 'good' is installed but {why}; add it there"]
    assert Path(told[2]) == good.folder / "good_sms.py"
    assert not loaded
    assert allowed == names


def test_a_distribution_that_is_chosen_keeps_the_name_from_every_other(good: Site) -> None:
    told, loaded, _ = tell(good, '[plugins.use]\ngood = "acme-sms"\n')
    assert told[0] == "broken"
    assert "names 'acme-sms', but it is claimed by good-sms" in told[3]
    assert told[1] == "[plugins.use] asks for acme-sms"
    assert not loaded


def test_the_allow_list_holds_for_a_message_that_names_the_provider(good: Site) -> None:
    said = good.python(
        """
        import asyncio, json
        from postroom import Config, Postroom, ProviderNotFound, Sms
        async def main():
            config = Config.model_validate({"plugins": {"allow": ["memory"]}})
            async with Postroom(config) as room:
                try:
                    await room.send(Sms(to="+442079460958", body="hello", provider="good"))
                except ProviderNotFound as error:
                    print(json.dumps(str(error)))
        asyncio.run(main())
        """
    )
    assert "good" in said


def test_commands_that_look_at_every_provider_import_none_that_is_not_allowed(good: Site) -> None:
    (good.folder / "postroom.toml").write_text('[plugins]\nallow = ["memory"]\n')
    codes, loaded = good.python(
        """
        import json, sys
        from typer.testing import CliRunner
        from postroom.cli.app import build
        commands = (["providers"], ["config", "schema"], ["config", "show"], ["check"])
        codes = [CliRunner().invoke(build(), command).exit_code for command in commands]
        print(json.dumps([codes, "good_sms" in sys.modules]))
        """
    )
    assert codes == [0, 0, 0, 0]
    assert not loaded


def test_an_empty_allow_list_forbids_even_what_we_ship() -> None:
    registry = Registry(Plugins(allow=()))
    assert registry.names() == []
    with pytest.raises(ProviderNotFound, match=r"'memory' is installed but not among \[plugins\] allow"):
        registry.transport("memory", Channel.SMS)


def test_an_allow_list_that_is_no_list_of_names_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidOption, match=r"plugins\.allow"):
        parse_config({"plugins": {"allow": 7}})


def test_the_variable_of_the_allow_list_works_like_any_other(good: Site) -> None:
    told, loaded, allowed = tell(good, POSTROOM_PLUGINS__ALLOW='["memory"]')
    assert (told[0], loaded, allowed) == ("not allowed", False, ["memory"])


@pytest.mark.parametrize("where", ["on import", "in the hook"])
def test_a_plugin_that_is_slow_to_load_is_named_and_every_other_works_meanwhile(site: Site, where: str) -> None:
    sleep = "\n    import time; time.sleep(1.1)\n"
    slow = (
        sleep + GOOD
        if where == "on import"
        else GOOD.replace("    return GoodSms", f"    {sleep.strip()}\n        return GoodSms")
    )
    site.add("good-sms", providers={"good": "good_sms"}, modules={"good_sms": GOOD})
    site.add("slow-sms", providers={"slow": "slow_sms"}, modules={"slow_sms": slow})
    warned, seconds, early = site.python(
        """
        import json, logging
        from postroom.receipts import Channel
        from postroom.registry.registry import Registry
        said = []
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())
        logging.getLogger("postroom.plugins").addHandler(handler)
        registry = Registry()
        registry.transport("good", Channel.SMS)
        early = list(said)
        seconds = {i.name: i.load_seconds for i in registry.describe()}
        print(json.dumps([said, seconds, early]))
        """
    )
    assert not [text for text in early if "'slow'" in text]
    (warning,) = [text for text in warned if "'slow' (slow-sms, slow_sms) took " in text]
    assert "import what is heavy only where it is used" in warning
    assert seconds["slow"] > 1
    # A machine may be busy enough to make any other slow too, and only then is that one named.
    assert any("'good'" in text for text in warned) == (seconds["good"] > 1)


def test_a_broken_plugin_shows_its_file_and_no_time(site: Site) -> None:
    site.add("bad-sms", providers={"bad": "bad_sms"}, modules={"bad_sms": "1 / 0"})
    told = site.python(
        """
        import json, logging
        logging.disable()
        from postroom.registry.registry import Registry
        print(json.dumps([[i.status, i.file, i.load_seconds] for i in Registry().describe() if i.name == "bad"]))
        """
    )
    assert told == [["broken", str(site.folder / "bad_sms.py"), None]]


def test_a_plugin_whose_module_is_not_there_has_no_file(site: Site) -> None:
    site.add("bad-sms", providers={"bad": "not_there.at_all", "worse": "not a module!"})
    told = site.python(
        """
        import json, logging
        logging.disable()
        from postroom.registry.registry import Registry
        print(json.dumps([[i.status, i.file] for i in Registry().describe() if i.name in ("bad", "worse")]))
        """
    )
    assert told == [["broken", None], ["broken", None]]


def test_looking_for_the_file_of_a_provider_runs_none_of_it(site: Site) -> None:
    package = site.folder / "loud"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('ran')")
    site.add("loud-sms", providers={"loud": "loud.inner"})
    told = site.python(
        """
        import json, sys
        from postroom.config.model import Plugins
        from postroom.registry.registry import Registry
        found = [[i.status, i.file] for i in Registry(Plugins(allow=["memory"])).describe() if i.name == "loud"]
        print(json.dumps([found, "loud" in sys.modules]))
        """
    )
    assert told == [[["not allowed", str(package / "__init__.py")]], False]
