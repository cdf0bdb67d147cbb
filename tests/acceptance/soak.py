"""Steady load with faults for minutes: memory and file handles of workers stay flat, and the WAL is bounded.

`python -m tests.acceptance.soak --minutes 15 --rate 40`

Two workers run from the first minute to the last; a third is killed, replaced and rolled, and all are frozen, locked
out, and served by providers in trouble. Bodies are pruned after two minutes. Every five seconds the two are measured.

Flat means: of all samples but the first fifth, which is warming up, the median of the last fifth is at most a tenth
(memory) or two (file handles) above that of the first fifth. Bounded means: the WAL never grew beyond 128 MiB, and no
worker had more sockets than its accounts may have connections, which come and go with the load. Prints the figures, and
ends with 1 where something is not flat or not bounded, was lost or was taken twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from ordeal.trial import CONNECTIONS, Trial

MEASURED = 2
SAMPLE_SECONDS = 5.0
GROWTH = 1.1
MORE_HANDLES = 2
MOST_WAL = 128 * 2**20
MOST_SOCKETS = CONNECTIONS + 4
"""Two wake the event loop, and two more may be closing while others are opened."""

FAULT_SECONDS = 20.0
FAULTS = {"kill": 4, "freeze": 2, "lock": 2, "damage": 2, "roll": 1}


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one moment: bytes and counts."""

    memory: int
    handles: int
    sockets: int
    wal: int
    file: int


def sample(trial: Trial) -> Sample:
    measured = trial.workers[:MEASURED]
    handles = [worker.handles() for worker in measured]
    wal = trial.outbox.with_name(f"{trial.outbox.name}-wal")
    return Sample(
        memory=max(worker.memory() for worker in measured),
        handles=max(files for files, _ in handles),
        sockets=max(sockets for _, sockets in handles),
        wal=wal.stat().st_size if wal.exists() else 0,
        file=trial.outbox.stat().st_size,
    )


async def soak(folder: Path, *, minutes: float, rate: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Return the figures, and what does not hold."""
    chance = random.Random(seed)
    samples: list[Sample] = []
    async with Trial(
        folder, chance, workers_wanted=MEASURED + 1, spared=MEASURED, settings={"retention": "2m"}
    ) as trial:
        await trial.start_workers()
        stop = asyncio.Event()
        trouble = asyncio.create_task(trial.trouble())
        async with asyncio.TaskGroup() as group:
            group.create_task(_load(trial, rate, stop))
            group.create_task(_faults(trial, chance, stop))
            until = time.monotonic() + minutes * 60
            while time.monotonic() < until:
                await asyncio.sleep(SAMPLE_SECONDS)
                samples.append(sample(trial))
            stop.set()
        trouble.cancel()
        await asyncio.wait([trouble])
        await trial.settle()
        judgement = await trial.judged()
        (folder / "samples.json").write_text(
            json.dumps([[s.memory, s.handles, s.sockets, s.wal, s.file] for s in samples])
        )
        figures = _figures(samples)
        report = {"seed": seed, "minutes": minutes, **judgement.report(), **figures}
        return report, judgement.violations + _not_flat(figures)


def _figures(samples: list[Sample]) -> dict[str, Any]:
    rest = samples[len(samples) // 5 :]
    fifth = max(1, len(rest) // 5)

    def first_and_last(what: Callable[[Sample], int]) -> list[float]:
        return [median(map(what, rest[:fifth])), median(map(what, rest[-fifth:]))]

    return {
        "memory, MiB": [round(bytes_ / 2**20, 1) for bytes_ in first_and_last(lambda s: s.memory)],
        "handles": first_and_last(lambda s: s.handles),
        "most sockets": max(s.sockets for s in samples),
        "largest WAL, MiB": round(max(s.wal for s in samples) / 2**20, 1),
        "file, MiB": [round(bytes_ / 2**20, 1) for bytes_ in first_and_last(lambda s: s.file)],
    }


def _not_flat(figures: dict[str, Any]) -> list[str]:
    found = []
    before, after = figures["memory, MiB"]
    if after > before * GROWTH:
        found.append(f"memory is not flat: {before} MiB, then {after}")
    before, after = figures["handles"]
    if after > before + MORE_HANDLES:
        found.append(f"file handles are not flat: {before}, then {after}")
    if figures["most sockets"] > MOST_SOCKETS:
        found.append(f"sockets are not bounded: {figures['most sockets']} of {MOST_SOCKETS}")
    if figures["largest WAL, MiB"] * 2**20 > MOST_WAL:
        found.append(f"the WAL is not bounded: {figures['largest WAL, MiB']} MiB")
    return found


async def _load(trial: Trial, rate: int, stop: asyncio.Event) -> None:
    due = time.monotonic()
    while not stop.is_set():
        due += 0.5
        await trial.accept(max(1, rate // 2))
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _faults(trial: Trial, chance: random.Random, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await asyncio.sleep(chance.uniform(0, FAULT_SECONDS))
        [fault] = chance.choices(list(FAULTS), weights=list(FAULTS.values()))
        await getattr(trial, fault)()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--rate", type=int, default=40, help="messages accepted a second")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--folder", type=Path, help="where to work; default: postroom-soak-SEED among temporary files")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.gettempdir()) / f"postroom-soak-{given.seed}"
    folder.mkdir(parents=True)
    logging.basicConfig(filename=folder / "accepting.log", level=logging.WARNING)
    report, violations = asyncio.run(soak(folder, minutes=given.minutes, rate=given.rate, seed=given.seed))
    print(json.dumps(report, indent=1))
    if violations:
        print(*violations[:50], f"{len(violations)} broken promises; see {folder}", sep="\n")
        return 1
    print("memory and file handles are flat, sockets and the WAL are bounded")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
