"""The pytest plugin: the `inbox` fixture, and the conformance kit's deviations and report.

pytest loads it wherever postroom is installed, so it imports the rest only when it is used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from postroom.testing.inbox import Inbox

_MARK = "__conformance__"
_PROPERTY = "postroom_conformance"
_LEAVES_OUT = ("skip", "skipif", "xfail")

_left_out = pytest.StashKey[dict[str, dict[str, str]]]()
_deselected = pytest.StashKey[dict[str, int]]()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """A Postroom whose accounts keep every message, for tests of programs that send."""
    from postroom.testing.inbox import Inbox  # noqa: PLC0415 - postroom only where it is used

    with Inbox() as opened:
        yield opened


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A rule of the kit is not left out by a mark: that would be a deviation without a reason to be seen."""
    for item in filter(_of_kit, items):
        marks = [name for name in _LEAVES_OUT if item.get_closest_marker(name)]
        if marks:
            raise pytest.UsageError(
                f"{item.nodeid} is marked {marks[0]}; take the mark away, and if {_transport(item).__name__} must do "
                f"otherwise, state the reason on its class: deviations = {{{item.name!r}: 'why'}}"
            )


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Let a stated deviation fail, and fail it when it no longer deviates."""
    if not _of_kit(pyfuncitem):
        return (yield)
    reason = _deviation(pyfuncitem)
    said = {"class": _name(pyfuncitem), "deviation": f"{pyfuncitem.name}: {reason}" if reason else ""}
    pyfuncitem.user_properties.append((_PROPERTY, said))
    if reason is None:
        return (yield)
    try:
        yield
    except AssertionError:
        pytest.xfail(reason)
    pytest.fail(
        f"{pyfuncitem.name} passes now; take it out of {_transport(pyfuncitem).__name__}.deviations", pytrace=False
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    kits = {_name(item): dict(_kit(item).not_applicable) for item in session.items if _of_kit(item)}
    session.config.stash[_left_out] = kits


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        if _of_kit(item):
            counts = item.config.stash.setdefault(_deselected, defaultdict(int))
            counts[_name(item)] += 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report for every transport what the kit found, and what was not run."""
    counts, deviations = _counted(terminalreporter.stats)
    if not counts:
        return
    config = terminalreporter.config
    terminalreporter.section("postroom conformance")
    for name, outcomes in counts.items():
        figures = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        terminalreporter.write_line(f"{name}: {figures}")
        for deviation in deviations[name]:
            terminalreporter.write_line(f"    deviation {deviation}")
        for reason, tests in Counter(config.stash.get(_left_out, {}).get(name, {}).values()).items():
            terminalreporter.write_line(f"    {tests} tests do not apply: {reason}")
        if missing := config.stash.get(_deselected, {}).get(name):
            terminalreporter.write_line(f"    not run: {missing} deselected")


def _counted(stats: Mapping[str, list[Any]]) -> tuple[dict[str, dict[str, int]], dict[str, list[str]]]:
    words = {"passed": "passed", "failed": "failed", "xfailed": "deviating"}
    counts: dict[str, dict[str, int]] = {}
    deviations: dict[str, list[str]] = defaultdict(list)
    for outcome, word in words.items():
        for report in stats.get(outcome, ()):
            said = dict(getattr(report, "user_properties", ())).get(_PROPERTY)
            if said and report.when == "call":
                of_class = counts.setdefault(said["class"], {})
                of_class[word] = of_class.get(word, 0) + 1
                deviations[said["class"]] += [said["deviation"]] if said["deviation"] else []
    return counts, deviations


def _of_kit(item: pytest.Item) -> bool:
    return hasattr(getattr(item, "function", None), _MARK)


def _kit(item: Any) -> Any:
    return item.cls


def _transport(item: Any) -> Any:
    return _kit(item).transport


def _name(item: pytest.Item) -> str:
    return f"{_transport(item).__name__} ({item.nodeid.split('::')[-2]})"


def _deviation(item: pytest.Function) -> str | None:
    stated: Mapping[str, str] = _transport(item).deviations
    return stated.get(f"{_kit(item).__name__}::{item.name}") or stated.get(item.name)
