"""The tests of a module are where its reader looks: `tests/unit` has the folders and names of `src/postroom`."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT, SOURCE = ROOT / "tests" / "unit", ROOT / "src" / "postroom"
TESTS = sorted(path.relative_to(UNIT) for path in UNIT.rglob("test_*.py"))

OF_SEVERAL_MODULES = {
    "cli/test_send_enqueue.py",
    "delivery/test_cancelled_sends.py",
    "gateway/parsing/test_messages.py",
    "outbox/test_clock.py",
    "outbox/test_closing.py",
    "outbox/test_holds.py",
    "outbox/test_machine.py",
    "outbox/test_reconciling.py",
    "outbox/test_reports_in_any_order.py",
    "outbox/test_store.py",
    "registry/test_extension_loading.py",
    "registry/test_plugin_trust.py",
    "test_send_many.py",
}
"""What is promised by several modules of a room together: each stands in the folder of that room."""


def is_source(path: Path) -> bool:
    return (SOURCE / path).is_dir() or (SOURCE / path).with_suffix(".py").is_file()


@pytest.mark.parametrize("test", TESTS, ids=str)
def test_a_test_is_named_for_a_module_or_its_package(test: Path) -> None:
    assert is_source(test.parent)
    name = test.stem.removeprefix("test_")
    if str(test) not in OF_SEVERAL_MODULES:
        assert is_source(test.parent / name) or name == test.parent.name


@pytest.mark.parametrize("test", sorted(OF_SEVERAL_MODULES))
def test_what_is_excused_is_there(test: str) -> None:
    assert (UNIT / test).is_file()
