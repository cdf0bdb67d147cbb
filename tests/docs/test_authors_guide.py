"""The author's guide has everything there is: hooks, outcomes, files of the scaffold, and the promise."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from postroom import errors
from postroom.errors import DeliveryError
from postroom.plugin import INTERFACE_VERSION, Transport, hookspecs
from postroom.receipts import Channel
from postroom.scaffold import _FILES, MARK, _compatible

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "plugins"
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("postroom_")}
FAILURES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, DeliveryError)]


def page(name: str) -> str:
    return (GUIDE / f"{name}.md").read_text()


def section(hook: str) -> str:
    text = (ROOT / "docs" / "reference" / "plugin-hooks.md").read_text()
    assert f"### `{hook}`\n" in text, f"{hook} is not in the reference"
    return re.split(r"\n##", text.split(f"### `{hook}`\n")[1])[0]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_told_with_its_moment_its_arguments_and_an_example_that_defines_it(hook: str) -> None:
    text = section(hook)
    assert "**When:**" in text
    assert "**Arguments:**" in text
    prose, _, code = text.partition("```python\n")
    parameters = list(inspect.signature(HOOKS[hook]).parameters)
    for parameter in parameters:
        assert f"`{parameter}`" in prose, parameter
    defined = {
        node.name: node
        for node in ast.walk(ast.parse(code.partition("```")[0]))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert [argument.arg for argument in defined[hook].args.args] == parameters
    assert "hookimpl" in [ast.unparse(decorator) for decorator in defined[hook].decorator_list]


def test_no_section_is_about_a_hook_that_does_not_exist() -> None:
    text = (ROOT / "docs" / "reference" / "plugin-hooks.md").read_text()
    assert set(re.findall(r"^### `(\w+)`$", text, re.MULTILINE)) == set(HOOKS)


def test_every_failure_has_its_row_with_its_own_outcome_and_scope() -> None:
    rows = re.findall(r"^\| [^|]+ \| `(\w+)`[^|]* \| (\w+) \| (\w+) \|$", page("choosing-outcomes"), re.MULTILINE)
    by_name = {cls.__name__: cls for cls in FAILURES}
    for name, outcome, scope in rows:
        assert (outcome, scope) == (by_name[name].default_outcome, by_name[name].default_scope), name
    for cls in FAILURES:
        assert cls is DeliveryError or f"`{cls.__name__}`" in page("choosing-outcomes"), cls


def test_the_tutorial_names_every_file_that_the_scaffold_writes() -> None:
    told = set(re.findall(r"`([\w./-]+\.\w+)`", page("tutorial")))
    for target in _FILES:
        path = target.replace("$package", "postroom_acme")
        assert {path, Path(path).name} & told or path.startswith((".git", "README")), path
    assert MARK in page("tutorial")


def test_the_promise_names_this_interface_and_the_range_that_the_scaffold_writes() -> None:
    for name in ("compatibility", "writing-a-provider"):
        assert f"postroom_interface = {INTERFACE_VERSION}" in page(name)
    for name in ("compatibility", "tutorial"):
        assert f"postroom[http]{_compatible('0.1.0')}" in page(name)


def test_the_promise_lists_what_the_four_may_import() -> None:
    layers = (ROOT / "tests" / "architecture" / "test_layers.py").read_text()
    public = re.search(r"PUBLIC_TO_PLUGINS = (\{.*?\})", layers, re.DOTALL)
    assert public
    for module in ast.literal_eval(public[1]):
        assert f"`{module}`" in page("compatibility"), module


def test_every_optional_method_of_a_transport_is_spoken_of() -> None:
    optional = {name for name, member in vars(Transport).items() if inspect.isfunction(member) and name[0] != "_"}
    told = page("tutorial") + page("writing-a-provider") + page("conformance-kit")
    for name in optional - {"open", "close"}:
        assert f"`{name}" in told, name


def test_the_tutorial_is_about_a_channel_that_there_is_and_says_how_to_get_the_other() -> None:
    assert all(f"--channel {channel}" in page("tutorial") for channel in Channel)
