"""Kill, freeze, roll, lock out and damage workers at one outbox, over a failover route, and count every copy.

`python -m tests.acceptance.torture --messages 20000 --seed 1 [--postgres]`

Half of the messages are e-mails over two SMTP accounts, half texts over two Twilio accounts; the first of each is well
only half of the time. All say `on_unknown = "hold"`. Prints the figures, and ends with 1 unless none was lost and none
was taken twice; then the folder that it names keeps the outbox, the workers' log and what was done when.
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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from ordeal.nodes import TrialOfNodes
from ordeal.trial import Trial

MESSAGES_A_FAULT = 200
MIXTURE = {"kill": 10, "freeze": 3, "roll": 1, "lock": 2, "damage": 4}
"""How often each fault comes, against the others; each comes at least once."""

MIXTURE_OF_NODES = {**MIXTURE, "kill_gateway": 4, "cut": 3, "partition": 4, "restart": 2}
"""The same on PostgreSQL."""

LONGEST_PAUSE = 0.3
"""Seconds between two faults, at random."""


async def torture(
    folder: Path, *, messages: int, seed: int, postgres: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Return the figures, and the promises that were broken."""
    chance = random.Random(seed)
    began = time.monotonic()
    async with (TrialOfNodes if postgres else Trial)(folder, chance) as trial:
        faults = _faults(chance, messages, MIXTURE_OF_NODES if postgres else MIXTURE)
        await trial.accept(messages // 4)
        await trial.start_workers()
        trouble = asyncio.create_task(trial.trouble())
        for number, fault in enumerate(faults):
            more = trial.accept((messages - len(trial.accepted)) // (len(faults) - number))
            if fault == "damage":
                async with trial.workers_held_back():  # what just came still waits
                    await more
                    await trial.damage()
            elif chance.random() < 0.5:
                await more
                await getattr(trial, fault)()
            else:
                await asyncio.gather(more, getattr(trial, fault)())
            await asyncio.sleep(chance.uniform(0, LONGEST_PAUSE))
        trouble.cancel()
        await asyncio.wait([trouble])
        await trial.settle()
        judgement = await trial.judged()
        report = {"seed": seed, **judgement.report(), "seconds": round(time.monotonic() - began, 1)}
        return report, judgement.violations


def _faults(chance: random.Random, messages: int, mixture: dict[str, int]) -> list[str]:
    once = list(mixture)
    more = max(3, messages // MESSAGES_A_FAULT - len(once))
    faults = once + chance.choices(once, weights=list(mixture.values()), k=more)
    chance.shuffle(faults)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL, with gateways and a network to cut")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument(
        "--folder", type=Path, help="where to work; default: postroom-torture-SEED among temporary files"
    )
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.gettempdir()) / f"postroom-torture-{given.seed}"
    folder.mkdir(parents=True)
    logging.basicConfig(filename=folder / "accepting.log", level=logging.WARNING)
    report, violations = asyncio.run(torture(folder, messages=given.messages, seed=given.seed, postgres=given.postgres))
    print(json.dumps(report, indent=1))
    if violations:
        print(*violations[:50], f"{len(violations)} broken promises; see {folder}", sep="\n")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
