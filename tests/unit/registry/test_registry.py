"""Provider name -> transport: lazily, one at a time, and a broken plugin harms nobody else."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from postroom.errors import ContractViolation, ExtensionNotFound, PluginConflict, PluginLoadError, ProviderNotFound
from postroom.receipts import Channel
from postroom.registry.registry import OURS, Registry

if TYPE_CHECKING:
    from tests.conftest import Site


GOOD = """
    from postroom.plugin import AccountSettings, Capabilities, SmsTransport, hookimpl
    from postroom.receipts import Accepted

    class Settings(AccountSettings):
        provider: str = "good"

    class GoodSms(SmsTransport[Settings]):
        settings_model = Settings
        capabilities = Capabilities(max_recipients=1)
        async def send(self, sms):
            return Accepted(provider_message_id="good")

    @hookimpl
    def postroom_sms_transport():
        return GoodSms
"""

USES = """
    from postroom.plugin import *
    from postroom.receipts import Accepted

    class Settings(AccountSettings):
        provider: str = "bad"

    class Sms(SmsTransport[Settings]):
        settings_model = Settings
        async def send(self, sms):
            return Accepted()
"""

HOOK = """
    @hookimpl
    def postroom_sms_transport():
        return Sms
"""

BROKEN = {
    "an import that is missing": ("import a_module_that_is_not_there", PluginLoadError, "a_module_that_is_not_there"),
    "aiohttp missing": ("raise ModuleNotFoundError('no aiohttp', name='aiohttp')", PluginLoadError, "postroom[http]"),
    "a syntax error": ("def broken(:", PluginLoadError, "SyntaxError"),
    "an exit at import": ("raise SystemExit(3)", PluginLoadError, "SystemExit"),
    "an exception at import": ("1 / 0", PluginLoadError, "ZeroDivisionError"),
    "endless recursion at import": ("def f(): f()\nf()", PluginLoadError, "RecursionError"),
    "an exception in the hook": (
        USES + "\n    @hookimpl\n    def postroom_sms_transport():\n        raise KeyError('x')",
        PluginLoadError,
        "KeyError",
    ),
    "an exit in the hook": (
        USES + "\n    @hookimpl\n    def postroom_sms_transport():\n        raise SystemExit",
        PluginLoadError,
        "SystemExit",
    ),
    "a hook that wants arguments": (
        USES + "\n    @hookimpl\n    def postroom_sms_transport(account):\n        return Sms",
        PluginLoadError,
        "account",
    ),
    "an unknown hook": (
        USES + HOOK + "\n    @hookimpl\n    def postroom_fax_transport():\n        return Sms",
        ContractViolation,
        "postroom_fax_transport",
    ),
    "no hook at all": ("x = 1", ContractViolation, "hookimpl"),
    "hooks without the marker": (
        USES + "\n    def postroom_sms_transport():\n        return Sms",
        ContractViolation,
        "hookimpl",
    ),
    "an older interface": (USES + HOOK + "\n    postroom_interface = 0", ContractViolation, "update the plugin"),
    "a newer interface": (USES + HOOK + "\n    postroom_interface = 2", ContractViolation, "update postroom"),
    "an interface in words": (USES + HOOK + "\n    postroom_interface = '1'", ContractViolation, "whole number"),
    "an interface of None": (USES + HOOK + "\n    postroom_interface = None", ContractViolation, "whole number"),
    "an object for a class": (
        USES + "\n    @hookimpl\n    def postroom_sms_transport():\n        return object()",
        ContractViolation,
        "SmsTransport",
    ),
    "a class of its own kind": (
        USES + "\n    @hookimpl\n    def postroom_sms_transport():\n        return dict",
        ContractViolation,
        "SmsTransport",
    ),
    "a transport without send": (
        USES
        + "\n    class Half(SmsTransport[Settings]):\n        settings_model = Settings\n"
        + "\n    @hookimpl\n    def postroom_sms_transport():\n        return Half",
        ContractViolation,
        "must implement send",
    ),
    "the other channel's class": (
        USES + "\n    @hookimpl\n    def postroom_email_transport():\n        return Sms",
        ContractViolation,
        "EmailTransport",
    ),
    "a settings model of its own kind": (
        USES + HOOK + "\n    Sms.settings_model = dict",
        ContractViolation,
        "settings",
    ),
    "no settings model": (USES + HOOK + "\n    del Sms.settings_model", ContractViolation, "settings_model"),
    "capabilities of its own kind": (USES + HOOK + "\n    Sms.capabilities = {}", ContractViolation, "capabilities"),
    "words that are no features": (
        USES + HOOK + "\n    Sms.capabilities = Capabilities(features=frozenset({'fax', 'media'}))",
        ContractViolation,
        "fax",
    ),
    "features in a list": (
        USES + HOOK + "\n    Sms.capabilities = Capabilities(features=['media'])",
        ContractViolation,
        "features",
    ),
    "a batch of none": (
        USES + HOOK + "\n    Sms.capabilities = Capabilities(max_batch=0)",
        ContractViolation,
        "max_batch",
    ),
    "fewer than no recipients": (
        USES + HOOK + "\n    Sms.capabilities = Capabilities(max_recipients=-1)",
        ContractViolation,
        "max_recipients",
    ),
}

TELL = """
    import json, logging
    logging.disable()
    from postroom.registry.registry import Registry
    infos = {i.name: i for i in Registry().describe()}
    print(json.dumps({n: [type(i.error).__name__, str(i.error), i.distribution] if i.error else None
                      for n, i in infos.items()}))
"""

SEND_GOOD = """
    import asyncio, json, logging, sys
    logging.disable()
    from postroom import Postroom, Sms
    async def main():
        async with Postroom(accounts={"g": {"provider": "good"}, "b": {"provider": "bad"}}) as room:
            receipt = await room.send(Sms(to="+442079460958", body="hello", provider="g"))
            try:
                await room.send(Sms(to="+442079460958", body="hello", provider="b"))
            except Exception as error:
                print(json.dumps([receipt.status, type(error).__name__, str(error)]))
    asyncio.run(main())
"""


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_explained_and_harms_no_other(site: Site, case: str) -> None:
    text, kind, word = BROKEN[case]
    site.add("good-sms", providers={"good": "good_sms"}, modules={"good_sms": GOOD})
    site.add("bad-sms", providers={"bad": "bad_sms"}, modules={"bad_sms": text})
    told = site.python(TELL, warnings="default")
    assert told["good"] is None
    assert told["memory"] is None
    name, message, distribution = told["bad"]
    assert (name, distribution) == (kind.__name__, "bad-sms")
    assert word in message
    assert "bad" in message
    status, raised, said = site.python(SEND_GOOD, warnings="default")
    assert status == "sent"
    assert raised == kind.__name__
    assert word in said


def test_a_distribution_without_metadata_is_listed(site: Site) -> None:
    site.add("good-sms", providers={"good": "good_sms"}, modules={"good_sms": GOOD}, metadata=False)
    told = site.python(
        """
        import json
        from postroom.registry.registry import Registry
        print(json.dumps([[i.name, i.distribution, i.version] for i in Registry().describe() if i.name == "good"]))
        """
    )
    assert told == [["good", "unknown", "unknown"]]


def test_an_entry_point_that_is_no_reference_is_a_load_error(site: Site) -> None:
    site.add("bad-sms", providers={"bad": "not a module!"})
    assert site.python(TELL)["bad"][0] == "PluginLoadError"


def test_a_broken_plugin_is_tried_once(site: Site) -> None:
    module = "import pathlib\nwith open('tries', 'a') as f: f.write('x')\nraise RuntimeError('no')"
    site.add("bad-sms", providers={"bad": "bad_sms"}, modules={"bad_sms": module})
    tries = site.python(
        """
        import json, logging
        logging.disable()
        from postroom.registry.registry import Registry
        from postroom.errors import PluginError
        from postroom.receipts import Channel
        registry = Registry()
        for channel in [*Channel, *Channel]:
            try:
                registry.transport("bad", channel)
            except PluginError:
                pass
        registry.describe()
        print(json.dumps(open("tries").read()))
        """
    )
    assert tries == "x"


def test_two_claimants_are_named_and_neither_loads(site: Site) -> None:
    boom = "raise RuntimeError('must not load')"
    site.add("first-sms", providers={"bad": "first"}, modules={"first": boom})
    site.add("second-sms", providers={"bad": "second"}, modules={"second": boom})
    name, message, _ = site.python(TELL)["bad"]
    assert name == "PluginConflict"
    assert "first-sms" in message
    assert "second-sms" in message
    assert "[plugins.use]" in message


CHOOSE = """
    import asyncio, json, logging
    logging.disable()
    from postroom import Config, Postroom, Sms, PostroomError
    async def main():
        config = Config.model_validate({"accounts": {"g": {"provider": "good"}}, "plugins": {"use": {"good": CHOICE}}})
        async with Postroom(config) as room:
            try:
                print(json.dumps((await room.send(Sms(to="+442079460958", body="hello"))).status))
            except PostroomError as error:
                print(json.dumps([type(error).__name__, str(error)]))
    asyncio.run(main())
"""


@pytest.mark.parametrize("spelling", ["good-sms", "Good_SMS", "good.sms"])
def test_the_configuration_chooses_between_two_claimants(site: Site, spelling: str) -> None:
    site.add("good-sms", providers={"good": "good_sms"}, modules={"good_sms": GOOD})
    site.add("other-sms", providers={"good": "other"}, modules={"other": "raise RuntimeError('must not load')"})
    assert site.python(CHOOSE.replace("CHOICE", repr(spelling))) == "sent"


@pytest.mark.parametrize("chosen", [False, True])
def test_the_name_of_a_provider_of_ours_is_nobody_elses_unless_the_configuration_says_so(
    site: Site, *, chosen: bool
) -> None:
    site.add("fast-smtp", providers={"smtp": "fast_smtp"}, modules={"fast_smtp": GOOD})
    told = site.python(
        f"""
        import importlib.metadata, json
        found = importlib.metadata.entry_points
        def others(**given):
            return [entry for entry in found(**given) if entry.dist is None or entry.dist.name != "postroom-smtp"]
        importlib.metadata.entry_points = others  # as where ours is not installed
        from postroom.config.model import Plugins
        from postroom.errors import PluginConflict
        from postroom.receipts import Channel
        from postroom.registry.registry import Registry
        try:
            use = {{"smtp": "fast-smtp"}} if {chosen} else {{}}
            print(json.dumps(Registry(Plugins(use=use)).transport("smtp", Channel.SMS).__module__))
        except PluginConflict as error:
            print(json.dumps(str(error)))
        """
    )
    assert told == "fast_smtp" if chosen else "that of postroom-smtp, and fast-smtp claims its name" in told


def test_choosing_a_distribution_that_claims_nothing_names_those_that_do(site: Site) -> None:
    site.add("good-sms", providers={"good": "good_sms"}, modules={"good_sms": GOOD})
    told = site.python(
        """
        import json
        from postroom.registry.registry import Registry
        from postroom.config.model import Plugins
        from postroom.receipts import Channel
        from postroom.errors import PluginConflict
        try:
            Registry(Plugins(use={"good": "elsewhere"})).transport("good", Channel.SMS)
        except PluginConflict as error:
            print(json.dumps(str(error)))
        """
    )
    assert "'elsewhere'" in told
    assert "good-sms" in told


def test_one_distribution_seen_twice_is_no_conflict(site: Site, tmp_path: Path) -> None:
    site.add("good-sms", providers={"good": "good_sms"}, modules={"good_sms": GOOD})
    again = type(site)(tmp_path / "again")
    again.add("good-sms", providers={"good": "good_sms"})
    assert site.python(TELL, paths=[again.folder])["good"] is None


def test_one_module_may_carry_two_provider_names(site: Site) -> None:
    site.add("good-sms", providers={"good": "good_sms", "good-eu": "good_sms"}, modules={"good_sms": GOOD})
    told = site.python(TELL)
    assert told["good"] is None
    assert told["good-eu"] is None


def test_a_provider_and_an_extension_may_share_a_name_and_a_module(site: Site) -> None:
    both = GOOD + "\n    @hookimpl\n    def postroom_on_event(event, receipt):\n        print('told')\n"
    site.add("good-sms", providers={"good": "good_sms"}, extensions={"good": "good_sms"}, modules={"good_sms": both})
    told = site.python(
        """
        import asyncio, json
        from postroom import Config, Postroom, Sms
        async def main():
            config = Config.model_validate({"accounts": {"g": {"provider": "good"}}, "plugins": {"extensions": "good"}})
            async with Postroom(config) as room:
                print(json.dumps((await room.send(Sms(to="+442079460958", body="hello"))).status))
        asyncio.run(main())
        """
    )
    assert told == "sent"


def test_sending_through_memory_loads_no_other_plugin(site: Site) -> None:
    boom = "raise RuntimeError('must not load')"
    site.add("bad-sms", providers={"bad": "bad_sms"}, extensions={"bad": "bad_sms"}, modules={"bad_sms": boom})
    loaded = site.python(
        """
        import asyncio, json, sys
        from postroom import Email, Postroom
        async def main():
            async with Postroom(accounts={"m": {"provider": "memory", "from": "a@example.org"}}) as room:
                await room.send(Email(to="b@example.org", text="hello", provider="m"))
                await room.send(Email(to="b@example.org", text="hello", provider="memory"))
                await room.send(Email(to="b@example.org", text="hello"))
        asyncio.run(main())
        names = [n for n in sys.modules if n.startswith(("postroom_", "postroom.builtin.")) or n == "bad_sms"]
        print(json.dumps(names))
        """
    )
    assert loaded == ["postroom.builtin.memory"]


HEAVY = (
    "aiohttp",
    "aiosmtplib",
    "twilio",
    "vonage",
    "sendgrid",
    "fastapi",
    "starlette",
    "uvicorn",
    "sqlalchemy",
    "phonenumbers",
    "email_validator",
    "pydantic_settings",
    "typer",
    "rich",
    "requests",
    "postroom_smtp",
    "postroom_sendgrid",
    "postroom_twilio",
    "postroom_vonage",
)


def test_importing_postroom_brings_in_nothing_heavy(site: Site) -> None:
    loaded = site.python("import json, sys, postroom; print(json.dumps(sorted(sys.modules)))", warnings="default")
    assert [name for name in loaded if name.split(".")[0].lower().startswith(HEAVY)] == []


@pytest.mark.parametrize("name", ["smtp", "sendgrid", "twilio", "vonage"])
def test_loading_a_provider_brings_in_no_sdk(site: Site, name: str) -> None:
    pytest.importorskip(f"postroom_{name}.transport")
    loaded = site.python(
        f"""
        import json, sys
        from postroom.registry.registry import Registry
        Registry().channels("{name}")
        print(json.dumps(sorted(sys.modules)))
        """,
        warnings="default",
    )
    sdks = ("aiosmtplib", "twilio", "vonage", "sendgrid")
    assert [module for module in loaded if module.split(".")[0].startswith(sdks)] == []


@pytest.mark.parametrize(
    ("value", "names"),
    [("", []), (" ", []), ("memory", ["memory"]), (" memory , console,", ["console", "memory"]), ("nothing", [])],
)
def test_the_variable_restricts_which_providers_may_load(
    monkeypatch: pytest.MonkeyPatch, value: str, names: list[str]
) -> None:
    monkeypatch.setenv("POSTROOM_PLUGINS", value)
    registry = Registry()
    assert registry.names() == names
    told = {info.name: info for info in registry.describe()}
    assert [name for name, info in told.items() if info.status == "loaded"] == names
    for provider in ("memory", "console", "file"):
        assert (told[provider].status == "not allowed") is (provider not in names)
        assert "POSTROOM_PLUGINS" in told[provider].why
        assert registry.knows(provider) is (provider in names)
    with pytest.raises(ProviderNotFound, match="POSTROOM_PLUGINS"):
        registry.transport("file", Channel.EMAIL)


def test_a_miss_names_what_is_installed_and_the_nearest() -> None:
    with pytest.raises(ProviderNotFound, match=r"no provider 'memroy'; installed: .*memory.*did you mean 'memory'"):
        Registry().transport("memroy", Channel.EMAIL)


def test_a_plugin_that_states_no_interface_is_listed_as_one(site: Site) -> None:
    site.add("good-sms", providers={"good": "good_sms"}, modules={"good_sms": GOOD})
    site.add("new-sms", providers={"new": "new_sms"}, modules={"new_sms": GOOD + "\n    postroom_interface = 1\n"})
    told = site.python(
        """
        import json
        from postroom.registry.registry import Registry
        print(json.dumps({info.name: info.interface for info in Registry().describe() if info.name in ("good", "new")}))
        """,
    )
    assert told == {"good": None, "new": 1}
    listed = site.python(
        """
        import contextlib, io, json
        from postroom.cli.app import build
        with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
            build()(["providers"])
        print(json.dumps([line for line in said.getvalue().splitlines() if "postroom_interface" in line]))
        """,
    )
    assert listed == ["good states no postroom_interface: it is taken for one of this release's, 1"]


@pytest.mark.parametrize("provider", ["postmark", "mailgun", "Amazon_SES", "brevo", "plivo"])
def test_a_provider_of_somebody_elses_is_no_slip_and_its_package_is_named(provider: str) -> None:
    with pytest.raises(ProviderNotFound) as caught:
        Registry().transport(provider, Channel.EMAIL)
    assert "did you mean" not in str(caught.value)
    assert f"a package postroom-{provider.lower().replace('_', '-')}," in str(caught.value)
    assert "docs/providers/catalogue.md" in str(caught.value)


@pytest.mark.parametrize("provider", ["a\nforged line", "\x1b[31mred", "x; rm -rf .", "-", "a" * 60, "ä", ""])
def test_what_can_be_no_package_is_not_said_as_the_name_of_one(provider: str) -> None:
    with pytest.raises(ProviderNotFound) as caught:
        Registry().transport(provider, Channel.EMAIL)
    assert "docs/providers/catalogue.md" in str(caught.value)
    assert "a package" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("slip", ["smpt", "smtps", "twillio", "sengrid", "vonnage", "memroy"])
def test_a_slip_is_answered_with_the_name_that_was_meant(slip: str) -> None:
    with pytest.raises(ProviderNotFound, match="did you mean"):
        Registry().transport(slip, Channel.EMAIL)


@pytest.mark.parametrize(("provider", "distribution"), OURS.items())
def test_a_miss_of_a_known_provider_says_what_to_install(site: Site, provider: str, distribution: str) -> None:
    told = site.python(
        f"""
        import importlib.metadata, json
        importlib.metadata.entry_points = lambda **_: ()  # as where nothing is installed
        from postroom.errors import ProviderNotFound
        from postroom.registry.registry import Registry
        try:
            Registry().transport("{provider}", "email")
        except ProviderNotFound as error:
            print(json.dumps(str(error)))
        """,
    )
    assert told == f"no provider '{provider}'; installed: none. pip install {distribution}"


def test_a_provider_without_the_channel_says_which_it_has(site: Site) -> None:
    site.add("good-sms", providers={"good": "good_sms"}, modules={"good_sms": GOOD})
    told = site.python(
        """
        import json
        from postroom.registry.registry import Registry
        from postroom.receipts import Channel
        from postroom.errors import ProviderNotFound
        registry = Registry()
        try:
            registry.transport("good", Channel.EMAIL)
        except ProviderNotFound as error:
            print(json.dumps([str(error), registry.channels("good"), registry.settings_model("good").__name__]))
        """
    )
    assert told == ["provider 'good' carries sms, not email; choose another for it", ["sms"], "Settings"]


def test_two_rooms_share_no_plugin_state(stage: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Registry(), Registry()
    assert one.transport("stage", Channel.SMS) is two.transport("stage", Channel.SMS)
    monkeypatch.setenv("POSTROOM_PLUGINS", "")
    assert Registry().names() == []
    assert one.knows("stage")


def test_extensions_load_by_name_in_the_order_asked(stage: ModuleType) -> None:
    registry = Registry()
    loaded = registry.load_extensions(["stage-second-gate", "stage-observer", "stage-gate"])
    assert [name for name, _ in loaded] == ["stage-second-gate", "stage-observer", "stage-gate"]
    gates = registry.hooks.around_send(loaded)
    assert [name for name, _ in gates] == ["stage-second-gate", "stage-gate"]


def test_an_unknown_extension_names_the_installed_ones(stage: ModuleType) -> None:
    with pytest.raises(ExtensionNotFound, match=r"'stage-obsrever' is not installed; installed: .*stage-observer"):
        Registry().load_extensions(["stage-obsrever"])


def test_the_shipped_providers_describe_themselves() -> None:
    infos = {info.name: info for info in Registry().describe()}
    for name in ("console", "memory", "file"):
        assert infos[name].error is None
        assert infos[name].distribution == "postroom"
        assert set(infos[name].capabilities) == set(Channel)


def test_a_conflict_is_an_error_of_both_descriptions(site: Site) -> None:
    site.add("first-sms", providers={"bad": "first"})
    site.add("second-sms", providers={"bad": "second"})
    told = site.python(
        """
        import json, logging
        logging.disable()
        from postroom.registry.registry import Registry
        print(json.dumps([[i.distribution, type(i.error).__name__] for i in Registry().describe() if i.name == "bad"]))
        """
    )
    assert sorted(told) == [["first-sms", PluginConflict.__name__], ["second-sms", PluginConflict.__name__]]
