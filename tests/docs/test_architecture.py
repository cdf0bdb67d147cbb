"""The page about the house is held to the house: its files, its functions, its arrows and its states."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from postroom.outbox.states import Transition, allowed_from, apply
from postroom.receipts import Status

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "postroom"
PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
DRAWINGS = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
WALKS = sorted(set(re.findall(r"^\| `([\w/.]+\.py)` \| (`.+?`) \| ", PAGE.split("## The walks")[1], re.MULTILINE)))
ARROW = re.compile(r"^\s*(\w+)(?:\[.*?\])? --> (\w+)(?:: (\w+))?$", re.MULTILINE)


def drawn(kind: str) -> Iterator[tuple[str, str, str]]:
    """Every arrow of the drawings of a kind: from where, to where, and its label."""
    for drawing in DRAWINGS:
        if drawing.startswith(kind):
            yield from ARROW.findall(drawing)


@cache
def defined_in(path: Path) -> frozenset[str]:
    """The functions, the classes, and their methods as `Class.method`."""
    top = ast.parse(path.read_text()).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in top if isinstance(node, kinds)}
    for owner in (node for node in top if isinstance(node, ast.ClassDef)):
        names |= {f"{owner.name}.{node.name}" for node in owner.body if isinstance(node, kinds)}
    return frozenset(names)


def floors() -> dict[str, int]:
    """The rooms of the core by floor, as the test of the layers has them."""
    tree = ast.parse((ROOT / "tests" / "architecture" / "test_layers.py").read_text())
    (found,) = (node.value for node in tree.body if isinstance(node, ast.AnnAssign) and _is_name(node.target, "FLOORS"))
    assert found is not None
    named = ast.literal_eval(found)["postroom"]
    return {room: floor for floor, rooms in enumerate(named) for room in rooms.split()}


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def test_the_drawn_states_have_exactly_the_transitions_of_the_table() -> None:
    arrows = list(drawn("stateDiagram"))
    assert len(set(arrows)) == len(arrows)
    there = {(state, apply(state, move), move) for move in Transition for state in allowed_from(move)}
    assert set(arrows) == {tuple(map(str, arrow)) for arrow in there}
    assert {state for arrow in arrows for state in arrow[:2]} == {str(state) for state in Status}


@pytest.mark.parametrize(("file", "functions"), WALKS, ids=[f"{file}: {names}" for file, names in WALKS])
def test_a_stop_of_a_walk_is_where_the_page_says(file: str, functions: str) -> None:
    assert set(re.findall(r"`([^`]+)`", functions)) <= defined_in(SOURCE / file)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:[\w*]+/)*[\w*]+\.py)`", PAGE))))
def test_a_file_that_the_page_names_is_there(path: str) -> None:
    outside = path.startswith(("plugins/*/", "tests/"))
    assert any((ROOT if outside else SOURCE).glob(path)), path


def test_the_drawn_rooms_are_those_of_the_layers_and_no_arrow_goes_upward() -> None:
    floor = floors()
    (rooms,) = (drawing for drawing in DRAWINGS if drawing.startswith("flowchart BT"))
    for room in floor.keys() - {"__main__"}:
        assert re.search(rf"\b{room}\b", PAGE.split("## The walks")[0]), f"the page does not name {room}"
    for above, below, _ in ARROW.findall(rooms):
        if above in floor and below in floor:
            assert floor[above] > floor[below], f"{above} --> {below}"
