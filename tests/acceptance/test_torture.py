"""The torture and the soak, small: `torture.py` and `soak.py` are the whole of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import soak
import torture


@pytest.mark.timeout(400)
async def test_tortured_workers_lose_nothing_and_send_nothing_twice(tmp_path: Path) -> None:
    report, violations = await torture.torture(tmp_path, messages=300, seed=random.randrange(2**32))
    assert violations == [], report
    assert report["accepted"] == 300
    assert report["faults"].keys() >= torture.MIXTURE.keys()


@pytest.mark.timeout(400)
async def test_tortured_nodes_at_one_database_lose_nothing_and_send_nothing_twice(tmp_path: Path) -> None:
    report, violations = await torture.torture(tmp_path, messages=200, seed=random.randrange(2**32), postgres=True)
    assert violations == [], report
    assert report["accepted"] == 200
    assert report["faults"].keys() >= torture.MIXTURE_OF_NODES.keys()


@pytest.mark.timeout(400)
async def test_a_soak_measures_the_workers_that_it_spares(tmp_path: Path) -> None:
    report, violations = await soak.soak(tmp_path, minutes=0.2, rate=20, seed=random.randrange(2**32))
    assert [line for line in violations if "not flat" not in line] == [], report  # that soon they still warm up
    assert report["lost"] == report["second copies"] == 0
    assert min(report["handles"]) > 0
