"""Extensions that cannot be used: explained, and in nobody else's way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from postroom.errors import ContractViolation, PluginConflict, PluginLoadError

if TYPE_CHECKING:
    from tests.conftest import Site


USES = "from postroom.plugin import hookimpl\n"
OBSERVER = USES + "@hookimpl\ndef postroom_on_event(event, receipt):\n    pass\n"
BROKEN = {
    "an import that is missing": ("import a_module_that_is_not_there", PluginLoadError, "a_module_that_is_not_there"),
    "an exception at import": ("1 / 0", PluginLoadError, "ZeroDivisionError"),
    "an argument that the hook does not have": (
        USES + "@hookimpl\ndef postroom_on_event(event, receipt, weather):\n    pass\n",
        PluginLoadError,
        "weather",
    ),
    "an unknown hook": (USES + "@hookimpl\ndef postroom_on_rain():\n    pass\n", ContractViolation, "postroom_on_rain"),
    "an older interface": (OBSERVER + "postroom_interface = 0\n", ContractViolation, "update the plugin"),
    "a newer interface": (OBSERVER + "postroom_interface = 99\n", ContractViolation, "update postroom"),
    "a foreign interface": (OBSERVER + "postroom_interface = {}\n", ContractViolation, "whole number"),
}

LOAD = """
    import json
    from postroom.errors import PluginError
    from postroom.registry.registry import Registry
    registry = Registry()
    try:
        registry.load_extensions(["bad"])
    except PluginError as error:
        told = [type(error).__name__, str(error)]
    print(json.dumps([told, [name for name, _ in registry.load_extensions(["good"])]]))
"""


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_extension_is_explained_and_harms_no_other(site: Site, case: str) -> None:
    text, kind, word = BROKEN[case]
    site.add("bad-watch", extensions={"bad": "bad_watch"}, modules={"bad_watch": text})
    site.add("good-watch", extensions={"good": "good_watch"}, modules={"good_watch": OBSERVER})
    (name, message), others = site.python(LOAD, warnings="default")
    assert name == kind.__name__
    assert message.startswith("extension 'bad'")
    assert word in message
    assert others == ["good"]


def test_two_claimants_of_one_extension_are_named_and_neither_loads(site: Site) -> None:
    boom = "raise RuntimeError('must not load')"
    site.add("one-watch", extensions={"bad": "one_watch"}, modules={"one_watch": boom})
    site.add("two-watch", extensions={"bad": "two_watch"}, modules={"two_watch": boom})
    site.add("good-watch", extensions={"good": "good_watch"}, modules={"good_watch": OBSERVER})
    (name, message), _ = site.python(LOAD)
    assert name == PluginConflict.__name__
    assert message == "extension 'bad' is claimed by one-watch, two-watch; uninstall all but one"


def test_a_hook_gets_just_the_arguments_it_asks_for(site: Site) -> None:
    quiet = USES + "seen = []\n@hookimpl\ndef postroom_on_event(event):\n    seen.append(event)\n"
    site.add("good-watch", extensions={"good": "good_watch"}, modules={"good_watch": quiet})
    seen = site.python(
        """
        import json
        from postroom.registry.registry import Registry
        registry = Registry()
        loaded = registry.load_extensions(["good"])
        for _, observe in registry.hooks.on_event(loaded):
            observe(event="the event", receipt="the receipt")
        import good_watch
        print(json.dumps(good_watch.seen))
        """
    )
    assert seen == ["the event"]
