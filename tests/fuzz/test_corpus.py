"""What fell before does not fall again, and neither does a short run of the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from tests.fuzz.__main__ import CORPUS, cases
from tests.fuzz.targets import Target, gateway, in_process

HERE = {target.name: target for target in in_process()}
FELL = sorted(path for folder in CORPUS.iterdir() for path in folder.iterdir())
SEED = 20_261_127


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Target]]:
    with gateway() as (over_http, _):
        yield {**HERE, over_http.name: over_http}


@pytest.mark.parametrize("path", FELL, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_fell_before_does_not_fall_again(targets: dict[str, Target], path: Path) -> None:
    targets[path.parent.name].attempt(path.read_bytes())


@pytest.mark.parametrize("name", [*HERE, "gateway"])
def test_nothing_falls_in_a_short_run(targets: dict[str, Target], name: str) -> None:
    for case in islice(cases(targets[name], SEED), 60):
        targets[name].attempt(case)


def test_a_seed_tries_the_same_cases_again() -> None:
    first, again, other = ([*islice(cases(HERE["csv"], seed), 20)] for seed in (1, 1, 2))
    assert first == again != other
