"""What tests send, through what, and how they see it under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any, Never

from postroom import Accepted, Config, Email, Postroom, Sms
from postroom.delivery.dispatcher import AccountDispatcher
from postroom.plugin import Resources

NUMBER = "+442079460958"

Act = Callable[[Any], Awaitable[Any]]
"""What a scripted transport does with a message, or with a batch."""


def sms(body: str = "hello", **more: Any) -> Sms:
    return Sms(**{"to": NUMBER, "body": body, **more})


def email(**more: Any) -> Email:
    return Email(**{"to": "b@example.org", "text": "hello", **more})


def room_of(stage: ModuleType, script: Any, provider: str = "stage", **settings: Any) -> Postroom:
    """Return a client with one account, `a`."""
    return Postroom(accounts={"a": stage.StageSettings(provider=provider, script=script, **settings)})


def route_of(stage: ModuleType, *scripts: Any, providers: list[str] | None = None, **settings: Any) -> Postroom:
    """Return a client whose default route goes through an account for each script: `a0`, `a1` and so on."""
    names = [f"a{number}" for number in range(len(scripts))]
    accounts = {
        name: stage.StageSettings(provider=provider, script=script, **settings)
        for name, provider, script in zip(names, providers or ["stage"] * len(scripts), scripts, strict=True)
    }
    return Postroom(accounts=accounts, routes={"r": {"via": names}}, defaults={"email": "r", "sms": "r"})


def room_with(stage: ModuleType, script: Any, *extensions: str, provider: str = "stage") -> Postroom:
    """Return a client with one account, `a`, and the stage's extensions of these names."""
    config = {
        "accounts": {"a": stage.StageSettings(provider=provider, script=script)},
        "plugins": {"extensions": [f"stage-{name}" for name in extensions]},
    }
    return Postroom(Config.model_validate(config))


def dispatcher_of(provider: Any, settings: Any) -> AccountDispatcher:
    """Return the dispatcher of an account `a` for SMS, of one of the stage's providers."""
    return AccountDispatcher(provider.postroom_sms_transport()("a", settings, Resources()))


def raising(error: BaseException) -> Act:
    async def act(_: object) -> Never:
        raise error

    return act


class Turnstile:
    """An act that counts who is inside, and lets nobody out before `exit` is set."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.exit = asyncio.Event()

    async def __call__(self, handed_over: object) -> Accepted:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.exit.wait()
        self.inside -= 1
        return Accepted()


async def settled() -> None:
    """Let everything that can run now, run."""
    for _ in range(20):
        await asyncio.sleep(0)
