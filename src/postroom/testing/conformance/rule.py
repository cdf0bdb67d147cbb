"""One rule of the kit: what a test asserts, and what its failure asks the author to do."""

from __future__ import annotations

import asyncio
import functools
import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from postroom.plugin import Transport

P = ParamSpec("P")

MARK = "__conformance__"
"""Set on every test of the kit; the pytest plugin knows them by it."""


class ConformanceError(AssertionError):
    """A transport does not keep the contract: what was seen; `advice` where there is a better one than the rule's."""

    def __init__(self, seen: str, advice: str = "") -> None:
        super().__init__(seen)
        self.advice = advice


class Tested(Protocol):
    """A test class of the kit, as far as its rules look at it."""

    @property
    def transport(self) -> type[Transport[Any, Any]]:
        """The transport class that is held to them."""


class Rule:
    """What a kit test carries: its advice, and whether it applies to a transport."""

    def __init__(self, advice: str, applies: Callable[[Tested], bool] | None, otherwise: str) -> None:
        self.advice = advice
        self.applies = applies or (lambda _: True)
        self.otherwise = otherwise


def rule(
    advice: str, *, applies: Callable[[Tested], bool] | None = None, otherwise: str = ""
) -> Callable[[Callable[P, Coroutine[Any, Any, None]]], Callable[P, None]]:
    """Make an async test run on a loop of its own, whatever pytest's asyncio plugin, and fail with `advice`.

    `applies` says of the test class whether its transport promises what is tested; `otherwise` says why not.
    """

    def decorate(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
        @functools.wraps(test)
        def run(*arguments: P.args, **named: P.kwargs) -> None:
            __tracebackhide__ = True
            kit: Any = arguments[0]
            with _past_proxies(), asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                try:
                    runner.run(test(*arguments, **named))
                except ConformanceError as failed:
                    raise ConformanceError(_describe(kit, str(failed), failed.advice or advice)) from failed.__cause__
                except Exception as error:
                    raise ConformanceError(_describe(kit, f"{type(error).__name__}: {error}", advice)) from error

        setattr(run, MARK, Rule(advice, applies, otherwise))
        return run

    return decorate


def rule_of(member: object) -> Rule | None:
    """The rule a function is, if it is one."""
    function = inspect.unwrap(member, stop=lambda f: hasattr(f, MARK)) if callable(member) else member
    return getattr(function, MARK, None)


@contextmanager
def _past_proxies() -> Iterator[None]:
    """The fake provider is on this machine, whatever proxy the author's environment names."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("NO_PROXY", "no_proxy"):
            environment.setenv(name, "*")
        yield


def _describe(kit: Any, seen: str, advice: str) -> str:
    return f"{kit.transport.__name__}: {seen}\nWhat to do: {advice}"
