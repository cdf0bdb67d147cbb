"""An outbox over scripted accounts, on every engine."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "stand_ins"))

from engines.memory import MemoryEngine
from engines.postgres import PostgresEngine
from engines.process import Clock, Engine, MakeOutbox, Process, SqliteEngine


@pytest.fixture(params=[SqliteEngine, MemoryEngine, PostgresEngine], ids=["sqlite", "memory", "postgres"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Each engine in turn; the tests in `sqlite/` and `postgres/` have one of their own."""
    if request.param is PostgresEngine:  # machines that share a database share no file with a key
        monkeypatch.setenv("POSTROOM_SECRET_KEY", "the same for all machines, and long enough")
    made: Engine = request.param()
    return made


@pytest.fixture
def make_outbox(stage: ModuleType, tmp_path: Path, engine: Engine) -> MakeOutbox:
    """Makes processes on one engine; see `MakeOutbox`."""

    def make(
        *scripts: Any,
        accounts: dict[str, Any] | None = None,
        rules: list[dict[str, str]] | None = None,
        outbox: dict[str, Any] | None = None,
        clock: Clock | None = None,
        **settings: Any,
    ) -> Process:
        settings.setdefault("from_", "post@example.org")
        named = {
            f"a{number}": stage.StageSettings(script=script, **settings)
            for number, script in enumerate(scripts or [stage.Script()])
        }
        everything = named | (accounts or {})
        config = {
            "accounts": everything,
            "routes": {"r": {"via": list(everything)}},
            "defaults": {"email": "r", "sms": "r"},
            "rules": rules or [],
            "outbox": {"url": f"sqlite:///{tmp_path}/outbox.db", "retry_first": 10, **(outbox or {})},
        }
        return Process(config, engine, clock or Clock())

    return make
