"""`python -m tests.fuzz --minutes 10`: random bytes at everything that strangers reach; what falls joins the corpus.

The same seed tries the same cases in the same order. A case falls when something comes of it that is not promised: a
5xx, an exception that is none of ours, more than a second of processor time, or more than a second that a well-behaved
client beside it waits for an answer. That one sends e-mails and asks for the health all the time; since a busy machine
may keep it waiting too, the case is tried again, and falls when it keeps it waiting each time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import Target, gateway, in_process

EMAIL = json.dumps({"to": [{"email": "a@b.example"}], "text": "x"})
CORPUS = Path(__file__).parent / "corpus"
SLOW = 1.0
"""Seconds, of an idle machine."""

TRIES = 3
"""How often a case is tried that kept the well-behaved client waiting."""


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


def fall(target: Target, case: bytes, client: WellBehaved) -> str | None:
    """Return why a case fell, or None."""
    why = _fall(target, case)
    for _ in range(TRIES):
        if why or (waited := client.waited()) <= SLOW:
            return why
        why = _fall(target, case)
    return why or f"kept a well-behaved client waiting for {waited:.1f} s"


def _fall(target: Target, case: bytes) -> str | None:
    before = time.process_time()
    try:
        target.attempt(case)
    except Exception as error:  # noqa: BLE001 - whatever comes of it is what is looked for
        return f"{type(error).__name__}: {error}"
    taken = time.process_time() - before
    return f"took {taken:.1f} s of processor time" if taken > SLOW else None


class WellBehaved:
    """A client beside the attack, that sends an e-mail and asks for the health all the time."""

    def __init__(self, port: int, key: str) -> None:
        self.slowest = 0.0
        self.refused = 0
        self._port = port
        self._headers = {"Auth-token": key, "Content-Type": "application/json"}
        self._lately = 0.0
        self._asked = math.inf
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

    def waited(self) -> float:
        """Return the longest that it waited for an answer since this was last asked, one that is not there included."""
        lately, self._lately = self._lately, 0.0
        return max(lately, time.monotonic() - self._asked)

    def _ask(self) -> None:
        requests = ("GET", "/healthz", None), ("POST", "/v1/communicate/email", EMAIL)
        for request in cycle(requests):
            if self._ended.wait(0.02):
                return
            self._asked = time.monotonic()
            with closing(HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
                connection.request(*request, self._headers)
                answer = connection.getresponse()
                answer.read()
            taken, self._asked = time.monotonic() - self._asked, math.inf
            self._lately, self.slowest = max(self._lately, taken), max(self.slowest, taken)
            self.refused += answer.status not in {200, 202}


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
        client = WellBehaved(service.port, service.key)
        with client.beside():
            end = time.monotonic() + asked.minutes * 60
            while time.monotonic() < end:
                for target, way in ways:
                    case = next(way)
                    tried[target.name] += 1
                    if why := fall(target, case, client):
                        fallen += 1
                        print(f"{target.name}: {keep(target, case)}: {why[:500]}", flush=True)
    print(", ".join(f"{name} {count:,}" for name, count in tried.items()))
    print(
        f"{fallen} fell; a well-behaved client waited {client.slowest:.2f} s at the most, and was refused {client.refused}"
    )
    return int(fallen + client.refused > 0)


if __name__ == "__main__":
    sys.exit(main())
