"""Who may import whom, read from the source itself: no circle, no arrow upward, public names for plugins.

Every import counts, also one inside a function and one for type checkers only: a reader follows those too.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Arrow = tuple[str, str]

FLOORS: dict[str, list[str]] = {
    "postroom": [
        "_lazy frozen large_work outcomes segments notation terminal",
        "receipts errors events validation",
        "addresses field_types attachments messages mime",
        "plugin",
        "builtin",
        "config",
        "registry",
        "delivery",
        "outbox",
        "client",
        "sync_client",
        "gateway scaffold testing",
        "cli",
        "__main__",
    ],
    "postroom.plugin": [
        "demonstration cancellation confirmation exchange files redaction settings time_limit",
        "token encoding",
        "resources",
        "transport",
        "http_session http",
        "hookspecs",
    ],
    "postroom.config": ["section fields masking", "validation", "gateway outbox", "model", "urls accounts load parts"],
    "postroom.registry": ["entry_points interface hooks", "registry"],
    "postroom.delivery": [
        "rate_limiter middleware observers receipt_errors transforms",
        "dispatcher",
        "accounts",
        "routing progress",
        "attempt checks reports bulk",
        "failover preview",
    ],
    "postroom.outbox": [
        "private_files statements",
        "insertion states records views retry_policy gcra encryption serialization account_health tables copy_mark",
        "transitions next_hop outcome_policy",
        "reports",
        "storage",
        "suppression stop_words deadline copying",
        "sqlite postgres",
        "in_flight executor lease",
        "maintenance",
        "worker",
        "outbox",
        "factory",
    ],
    "postroom.outbox.postgres": [
        "clock gathering reports schema suppressions",
        "query",
        "claim insert stored",
        "database settle",
        "callers space update",
        "store",
        "copying",
    ],
    "postroom.outbox.sqlite": [
        "migrations damage database begun inotify",
        "space",
        "changes",
        "schema",
        "reports suppressions",
        "claim query",
        "stored",
        "settle",
        "insert update",
        "callers early",
        "store",
        "copying",
    ],
    "postroom.gateway": ["metrics worker", "http", "parsing", "access", "api", "app", "serving"],
    "postroom.gateway.http": ["errors requests", "responses json_body form_body", "body routing", "middleware"],
    "postroom.gateway.parsing": ["attachments fields recipients", "email sms", "bodies pieces", "process"],
    "postroom.gateway.access": [
        "sliding_window keys",
        "storage",
        "authentication rate_limits quotas postgres sqlite",
        "factory",
    ],
    "postroom.gateway.api": [
        "samples docs_page sender_names",
        "schemas",
        "communicate messages unsubscribe webhooks health",
        "suppressions openapi",
        "routes",
    ],
    "postroom.gateway.serving": ["protocol signals", "supervisor", "server"],
    "postroom.cli": [
        "output arguments tables config_schema",
        (
            "check config demo dry_run extensions init keys new_provider outbox providers send send_many serve suppressions "
            "worker"
        ),
        "app",
    ],
    "postroom.cli.outbox": [
        "confirmation filters opening text",
        "changes compact copy list migrate purge reopen resume show stats watch",
        "resolve",
        "app",
    ],
    "postroom.cli.demo": ["samples results postgres_server fleet", "providers failover postgres", "command"],
    "postroom.cli.send_many": ["rows", "results_file", "run", "command"],
    "postroom.testing": [
        "smtp_script listening inbox",
        "http",
        "smtp_connection",
        "smtp",
        "demonstration conformance pytest_plugin",
    ],
    "postroom.testing.conformance": [
        "rule samples scenarios text_extraction",
        "fake_provider",
        "base http_provider smtp_provider",
        "batches event_loop fields import_cost outcomes reconciliation secrets settings webhooks",
        "suites",
    ],
}
"""What each package is built of, the lowest floor first. A module imports from its own floor and those below it."""

ENGINES = ("postroom.outbox.postgres", "postroom.outbox.sqlite")
NAME_AN_ENGINE = {
    "postroom.outbox.factory",
    "postroom.gateway.access.factory",
    "postroom.gateway.access.postgres",
    "postroom.gateway.access.sqlite",
}
"""Everything else sees the outbox's storage through its protocols, so that another engine fits."""

PUBLIC_TO_PLUGINS = {
    "postroom.plugin",
    "postroom.plugin.demonstration",
    "postroom.plugin.http",
    "postroom.testing.demonstration",
    "postroom.testing.http",
    "postroom.testing.smtp",
    "postroom.errors",
    "postroom.messages",
    "postroom.receipts",
    "postroom.events",
    "postroom.addresses",
    "postroom.segments",
    "postroom.mime",
}


def sources() -> dict[str, Path]:
    found = {}
    for folder in [ROOT / "src", *ROOT.glob("plugins/*/src")]:
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = sources()


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Every import of a source, as module and name; the name is empty for `import module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            assert node.module
            yield from ((node.module, alias.name) for alias in node.names)


@cache
def arrows() -> set[Arrow]:
    """Which of our modules imports which."""
    drawn = set()
    for module, path in MODULES.items():
        for source, name in imported(path):
            target = f"{source}.{name}" if f"{source}.{name}" in MODULES else source
            if target in MODULES and target != module:
                drawn.add((module, target))
    return drawn


def circle(drawn: Iterable[Arrow]) -> list[str]:
    """A circle in the arrows, or nothing."""
    below: defaultdict[str, set[str]] = defaultdict(set)
    for start, end in drawn:
        below[start].add(end)
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def inside(package: str, drawn: Iterable[Arrow]) -> Iterator[Arrow]:
    """The arrows between modules of `package`."""
    return ((start, end) for start, end in drawn if start.startswith(f"{package}.") and end.startswith(f"{package}."))


def room_in(package: str, module: str) -> str:
    """The module or package directly in `package` that `module` belongs to."""
    return module.removeprefix(f"{package}.").partition(".")[0]


def between_rooms(package: str, drawn: Iterable[Arrow]) -> set[Arrow]:
    rooms = {(room_in(package, start), room_in(package, end)) for start, end in inside(package, drawn)}
    return {(start, end) for start, end in rooms if start != end}


def upward(drawn: Iterable[Arrow]) -> set[Arrow]:
    """The imports that break a rule of FLOORS, or name the engine where they must not."""
    found = {
        (start, end)
        for start, end in drawn
        for engine in ENGINES
        if end.startswith(engine) and not start.startswith(engine) and start not in NAME_AN_ENGINE
    }
    for package, floors in FLOORS.items():
        level = {room: number for number, floor in enumerate(floors) for room in floor.split()}
        for start, end in inside(package, drawn):
            if level.get(room_in(package, end), 0) > level.get(room_in(package, start), len(floors)):
                found.add((start, end))
    return found


def test_no_module_imports_in_a_circle() -> None:
    assert circle(arrows()) == []


@pytest.mark.parametrize("package", sorted({name.rpartition(".")[0] for name in MODULES if "." in name}))
def test_the_rooms_of_a_package_do_not_import_in_a_circle(package: str) -> None:
    assert circle(between_rooms(package, arrows())) == []


def test_no_module_imports_from_a_floor_above_it_nor_an_engine() -> None:
    assert upward(arrows()) == set()


@pytest.mark.parametrize("package", FLOORS)
def test_every_module_has_its_floor(package: str) -> None:
    listed = " ".join(FLOORS[package]).split()
    assert len(set(listed)) == len(listed)
    there = {room_in(package, module) for module in MODULES if module.startswith(f"{package}.")}
    assert there - set(listed) == set(), "give it a floor in FLOORS"


PLUGIN_MODULES = sorted(name for name in MODULES if name.startswith(("postroom_", "postroom.builtin.")))


@pytest.mark.parametrize("module", PLUGIN_MODULES)
def test_a_plugin_imports_public_names_of_postroom_only(module: str) -> None:
    for source, name in imported(MODULES[module]):
        if source.partition(".")[0] == "postroom":
            assert source in PUBLIC_TO_PLUGINS, f"imports {source}"
            assert not name.startswith("_"), f"imports {source}.{name}"
        elif source.startswith("postroom_"):
            assert source.partition(".")[0] == module.partition(".")[0], f"imports another plugin: {source}"
