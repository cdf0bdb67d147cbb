"""Public names load when they are first used, and from then on like any other."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType

import pytest

from postroom import _lazy


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package two of whose names are at home in modules of the standard library."""
    made = ModuleType("a_lazy_package")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    names = _lazy.lazy_names(made.__name__, {"json": ("dumps", "loads"), "a_module_that_is_not_there": ("nothing",)})
    vars(made).update(zip(("__getattr__", "__dir__"), names, strict=True))
    return made


def test_a_name_is_the_one_of_its_module_and_stays(package: ModuleType) -> None:
    assert "dumps" not in vars(package)
    assert package.dumps is json.dumps
    assert vars(package)["dumps"] is json.dumps


def test_a_name_that_nobody_gives_is_an_attribute_error_of_the_package(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="module 'a_lazy_package' has no attribute 'dump'"):
        _ = package.dump


def test_names_are_listed_before_they_are_loaded(package: ModuleType) -> None:
    assert {"dumps", "loads", "nothing", "__name__"} <= set(dir(package))
    assert "dumps" not in vars(package)


def test_what_an_import_raises_is_not_hidden(package: ModuleType) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        _ = package.nothing


@pytest.mark.slow
def test_importing_postroom_imports_nothing_else_of_it() -> None:
    code = "import sys, postroom; print(sorted(name for name in sys.modules if name.startswith('postroom')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['postroom', 'postroom._lazy']"
