"""Here the engine is SQLite alone: files, locks, rows and what is in them."""

from __future__ import annotations

import pytest
from engines.process import SqliteEngine


@pytest.fixture
def engine() -> SqliteEngine:
    return SqliteEngine()
