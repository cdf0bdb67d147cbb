"""One word, one meaning: what a newcomer would have to learn before reading is kept out.

Two lists. COINED are pictures of our own for which the field has a word (a queue, an attempt, an executor): they stand
nowhere, neither in code nor in what people read. NAMES are plain English, free in a sentence, but as a name they hid
what they named. A name is what the source defines (modules, classes, functions, arguments, variables, attributes), a
string that is one word, as keys of JSON and names of metrics are, what an SQL statement names, and code in the docs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COINED = frozenset("lane journey courier verdict mishap workshop ledger booking dice headway hopeless unwell".split())
NAMES = COINED | frozenset(
    "turn told tell telling front refusal aim handles lesson facts choice strike glance nap patience caution theirs "
    "allowance guard lot admission forgive well".split()
)
EARLIER = ROOT / "src/postroom/outbox/sqlite/migrations.py"
"""What brings files of earlier versions forward, and so has to name what is in them."""

REFUSING = ("plugins/", "src/postroom/builtin/", "src/postroom/testing/")
"""Where providers are spoken to or stood in for: there `refusal` has its one meaning, the provider's no."""

SOURCES = sorted({*ROOT.glob("src/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")} - {EARLIER})
PAGES = sorted([ROOT / "README.md", *ROOT.glob("plugins/*/README.md"), *ROOT.glob("docs/**/*.md")])
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
SQL = re.compile(
    r"\s*;?\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|WITH|FROM)\b|.*\b(?:WHERE|INDEXED BY|GROUP BY)\b", re.DOTALL
)
ONE_NAME = re.compile(r"[A-Za-z_][\w.\-/]*")
CODE_SPAN = re.compile(r"`([^`\n]+)`")


def words_of(text: str) -> Iterator[str]:
    """The words of a text or a name, in lower case and in the singular where a plural is meant."""
    for word in WORD.findall(text):
        lower = word.lower()
        yield lower
        yield lower.removesuffix("s")


def banned(text: str, words: frozenset[str]) -> set[str]:
    return set(words_of(text)) & words


def defined_in(tree: ast.AST) -> Iterator[str]:
    """Every name that a source gives; those it only uses, such as `random.choice`, are others' words."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.alias(asname=str(name)):
                yield name


def strings_that_name(tree: ast.AST) -> Iterator[str]:
    """Keys, names of metrics, and SQL."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if ONE_NAME.fullmatch(text) or SQL.match(text):
                yield text


def found_in_source(path: Path) -> set[str]:
    name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    words = NAMES - {"refusal"} if name.startswith(REFUSING) else NAMES
    named = [path.stem, path.parent.name, *defined_in(tree)]
    if not name.startswith("plugins/"):  # whose strings are the vendors' words
        named += strings_that_name(tree)
    return banned(text, COINED).union(*(banned(each, words) for each in named))


def found_in_page(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    return banned(text, COINED).union(*(banned(span, NAMES) for span in CODE_SPAN.findall(text)))


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_fields_words_are_used(path: Path) -> None:
    assert (found_in_source(path) if path.suffix == ".py" else found_in_page(path)) == set()
