"""What nobody changes after it was made: dicts and lists, and what is computed from a frozen object."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

K = TypeVar("K")
V = TypeVar("V")


def _refuse(*_: object, **__: object) -> NoReturn:
    raise TypeError("messages are frozen; make a new one, for example with model_copy(update=...)")


if TYPE_CHECKING:
    computed_once = cached_property
else:

    class computed_once(cached_property):  # noqa: N801 - used as the decorator whose kind it is
        """A `cached_property` without the lock that Python 3.11 takes: two threads at once compute the same value."""

        def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self.attrname] = self.func(instance)
            return value


class FrozenDict(dict[K, V]):
    """A dict that cannot be changed; in everything else it is one, JSON, comparison and pickle among it."""

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class FrozenList(list[V]):
    """A list that cannot be changed."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def frozen(value: Any) -> Any:
    """Return `value` with every dict and list in it frozen, itself too; all else as it is."""
    if isinstance(value, dict):
        return FrozenDict({name: frozen(each) for name, each in value.items()})
    if isinstance(value, list):
        return FrozenList([frozen(each) for each in value])
    return value


NOTHING: FrozenDict[Any, Any] = FrozenDict()
"""A dict that is empty and stays so; pydantic gives it to every message as it is, since it can be hashed."""
