"""Which access storage an outbox has."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from postroom.config.outbox import OutboxSettings
from postroom.errors import ConfigError
from postroom.gateway.access.factory import access_storage_of, open_access_storage


def test_an_outbox_of_an_engine_without_one_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^outbox\.url: "):
        access_storage_of(cast("Any", object()))


async def test_a_command_opens_it_alone_and_closes_it(tmp_path: Path) -> None:
    settings = OutboxSettings.model_validate({"url": f"sqlite:///{tmp_path}/postroom.db"})
    for _ in range(2):
        async with open_access_storage(settings) as storage:
            assert await storage.list_keys() == []
    assert (tmp_path / "postroom.db").exists()
