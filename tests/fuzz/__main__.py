"""`python -m tests.fuzz --minutes 10`: random bytes at everything that strangers reach; what falls joins the corpus.

The same seed tries the same cases in the same order. A case falls when something comes of it that is not promised: a
5xx, an exception that is none of ours, or an answer to a well-behaved client beside it, or processor time of its own,
of more than a second.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import Target, exchange, gateway, in_process

CORPUS = Path(__file__).parent / "corpus"
SLOW = 1.0
"""Seconds, of an idle machine."""


def cases(target: Target, seed: int) -> Iterator[bytes]:
    """Mutations without end: of the samples, of what fell before, and of one another."""
    rng = random.Random(f"{seed} {target.name}")
    pool = [*target.samples, *(path.read_bytes() for path in sorted((CORPUS / target.name).glob("*")))]
    while True:
        case = mutated(rng.choice(pool), pool, rng)
        yield case
        if rng.random() < 0.05:
            pool.append(case)
            del pool[len(target.samples) + 200 :]


def fall(target: Target, case: bytes) -> str | None:
    """Return why a case fell, or None."""
    before = time.process_time()
    try:
        target.attempt(case)
    except Exception as error:  # noqa: BLE001 - whatever comes of it is what is looked for
        return f"{type(error).__name__}: {error}"
    taken = time.process_time() - before
    return f"took {taken:.1f} s of processor time" if taken > SLOW else None


class WellBehaved:
    """A client beside the attack, that asks for the health all the time."""

    def __init__(self, port: int) -> None:
        self.slowest = 0.0
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    @contextmanager
    def beside(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._thread.join()

    def _ask(self) -> None:
        while not self._ended.wait(0.05):
            before = time.monotonic()
            exchange(self._port, b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            self.slowest = max(self.slowest, time.monotonic() - before)


def keep(target: Target, case: bytes) -> Path:
    """Add a case to the corpus, which the suite replays."""
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(case).hexdigest()[:16]
    path.write_bytes(case)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None, help="a number; else one that is printed")
    parser.add_argument("--target", action="append", help="only this; may be given several times")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    logging.disable()  # every refusal is logged, and nothing else is asked of a case than what it came to
    print(f"seed {seed}", flush=True)
    tried: Counter[str] = Counter()
    fallen = 0
    with gateway() as (over_http, service):
        targets = [t for t in (over_http, *in_process()) if not asked.target or t.name in asked.target]
        ways = [(target, cases(target, seed)) for target in targets]
        client = WellBehaved(service.port)
        with client.beside():
            end = time.monotonic() + asked.minutes * 60
            while time.monotonic() < end:
                for target, way in ways:
                    case = next(way)
                    tried[target.name] += 1
                    if why := fall(target, case):
                        fallen += 1
                        print(f"{target.name}: {keep(target, case)}: {why[:500]}", flush=True)
    print(", ".join(f"{name} {count:,}" for name, count in tried.items()))
    print(f"{fallen} fell; the slowest answer to a well-behaved client took {client.slowest:.2f} s")
    return int(fallen > 0 or client.slowest > SLOW)


if __name__ == "__main__":
    sys.exit(main())
