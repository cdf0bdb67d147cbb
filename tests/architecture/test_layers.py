"""The layer rule: who may import whom, read from the source itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"

VOCABULARY = {
    "outcomes",
    "messages",
    "attachments",
    "field_types",
    "validation",
    "addresses",
    "segments",
    "receipts",
    "events",
    "errors",
    "mime",
}
LAYERS = [
    VOCABULARY,
    {"plugin"},
    {"config"},
    {"registry"},
    {"delivery"},
    {"outbox"},
    {"client", "sync_client"},
    {"gateway", "cli", "scaffold"},
]
PUBLIC_TO_PLUGINS = {
    "postroom.plugin",
    "postroom.plugin.http",
    "postroom.errors",
    "postroom.messages",
    "postroom.receipts",
    "postroom.events",
    "postroom.addresses",
    "postroom.segments",
    "postroom.mime",
}
PLUGIN_FILES = sorted(ROOT.glob("plugins/*/src/**/*.py"))
BUILTIN_FILES = sorted((SOURCE / "postroom" / "builtin").glob("*.py"))


def imported(path):
    """Every module `path` imports, those for type checkers included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            assert node.module
            yield node.module


def part_of(module):
    """`postroom.config.model` belongs to `config`."""
    return module.split(".")[1] if module.startswith("postroom.") else None


def level_of(part):
    return next(number for number, layer in enumerate(LAYERS) if part in layer)


CORE = {
    path: ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for layer in LAYERS
    for part in sorted(layer)
    for path in [*(SOURCE / "postroom" / part).rglob("*.py"), *(SOURCE / "postroom").glob(f"{part}.py")]
}


@pytest.mark.parametrize("path", CORE, ids=CORE.values())
def test_no_module_imports_from_a_layer_above_it(path) -> None:
    own = level_of(part_of(CORE[path]))
    for module in imported(path):
        part = part_of(module)
        if part in {"builtin", "testing"}:
            assert own == len(LAYERS) - 1, f"{path} imports {module}"
        elif part:
            assert level_of(part) <= own, f"{path} imports {module}"


def test_every_module_of_the_core_belongs_to_a_layer() -> None:
    parts = {
        path.stem for path in (SOURCE / "postroom").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert parts - {"__init__", "__main__"} - set().union(*LAYERS) <= {"builtin", "testing"}


@pytest.mark.parametrize("path", [*BUILTIN_FILES, *PLUGIN_FILES], ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_a_plugin_imports_public_modules_of_postroom_only(path) -> None:
    own = path.parent.name
    for module in imported(path):
        if module.split(".")[0] == "postroom":
            assert module in PUBLIC_TO_PLUGINS, f"{path} imports {module}"
        elif module.startswith("postroom_"):
            assert module.split(".")[0] == own, f"{path} imports another plugin: {module}"


@pytest.mark.parametrize("path", PLUGIN_FILES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_a_plugin_imports_public_names_of_postroom_only(path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("postroom."):
            for alias in node.names:
                assert not alias.name.startswith("_"), f"{path} imports {node.module}.{alias.name}"
