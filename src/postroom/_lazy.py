"""Lazy loading of a package's public names (PEP 562): a module is imported when one of its names is first used."""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for true; the module `typing` would be most of `import postroom`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def lazy_names(
    package: str, names_of: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for `package`; `names_of` says which names each module holds."""
    module_of = {name: module for module, names in names_of.items() for name in names}
    namespace = vars(sys.modules[package])

    def load(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = namespace[name] = getattr(import_module(module_of[name]), name)
        return value

    def names() -> list[str]:
        return sorted({*namespace, *module_of})

    return load, names
