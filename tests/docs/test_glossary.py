"""Each word of the glossary stands once and is where it says; no public name goes without an explanation."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
GLOSSARY = (REFERENCE / "glossary.md").read_text()
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in GLOSSARY.splitlines() if line.startswith("| ")]
ENTRIES = [row for row in ROWS if row[0] != "word"]
PUBLIC = [
    (module, name)
    for module in ("postroom", "postroom.plugin", "postroom.config", "postroom.outbox")
    for name in importlib.import_module(module).__all__
]


def explained() -> set[str]:
    """Every name in code quotes or blocks of the reference."""
    code = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
    spans = [span for page in REFERENCE.glob("*.md") for span in code.findall(page.read_text())]
    return set(re.findall(r"\w+", " ".join(spans)))


def found(path: str) -> object:
    """What a dotted path names: a module, or something in one."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            value = getattr(value, name)
        return value
    raise ModuleNotFoundError(path)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry[0])
def test_a_word_has_one_meaning_and_is_where_the_glossary_says(entry: list[str]) -> None:
    word, meaning, _, place = entry
    assert [other[0] for other in ENTRIES].count(word) == 1
    assert meaning
    assert found(place.strip("`")) is not None


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_a_public_name_is_in_the_reference(module: str, name: str) -> None:
    assert name in explained()
