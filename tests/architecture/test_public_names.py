"""The public names: sorted, importable, documented, and no others."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import pytest

import postroom
from postroom import errors

MODULES = ["postroom", "postroom.plugin", "postroom.config", "postroom.outbox"]


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_complete_and_importable(name: str) -> None:
    module = importlib.import_module(name)
    names = module.__all__
    assert len(set(names)) == len(names)
    assert names == sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    for public in names:
        assert getattr(module, public) is not None
    offered = {n for n in dir(module) if not n.startswith("_") and not inspect.ismodule(getattr(module, n))}
    assert offered - {"TYPE_CHECKING"} == set(names)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_class_and_function_has_a_docstring_of_its_own(name: str) -> None:
    module = importlib.import_module(name)
    for public in module.__all__:
        value = getattr(module, public)
        if inspect.isclass(value):
            assert "__doc__" in vars(value), f"{name}.{public}"
            assert value.__doc__, f"{name}.{public}"
        elif inspect.isroutine(value):
            assert inspect.getdoc(value), f"{name}.{public}"


def every_error(kind: type[errors.PostroomError] = errors.PostroomError) -> Iterator[type[errors.PostroomError]]:
    yield kind
    for derived in kind.__subclasses__():
        if derived.__module__ == "postroom.errors":
            yield from every_error(derived)


def test_every_error_is_public_has_a_code_of_its_own_and_stands_in_the_drawn_tree() -> None:
    kinds = list(every_error())
    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind.__name__ in postroom.__all__
        assert kind.__name__ in (errors.__doc__ or "")


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert version("postroom").count(".") == 2
