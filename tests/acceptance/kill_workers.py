"""Kill a worker at random points while it drains an outbox, and count what was lost or sent twice.

`python tests/acceptance/kill_workers.py --kills 100 --messages 20000`

A third of the messages goes to an SMTP account that says `on_unknown = "retry"`, a third to one that says `hold`, a
third to a Twilio account that says `hold`; the servers run here and outlive every worker. Prints one JSON object and
ends with 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from ordeal.configuration import smtp, twilio, written
from ordeal.processes import Crew
from ordeal.servers import MailServer, PhoneServer

from postroom import Email, Postroom, Sms
from postroom.delivery.bulk import receipt_or_raise
from postroom.outbox.views import MessageFilter
from postroom.receipts import Status

BATCH = 1000
NEVER_BEGUN = 0.15
"""Part of the messages in doubt that may never have arrived."""

A_FEW = 10
"""Of so few messages no part is worth a word."""

GIVES_UP = 10.0
"""Seconds after which a worker that sends nothing is killed all the same."""


async def trial(folder: Path, *, kills: int, messages: int, seed: int, lease: str = "1s") -> dict[str, Any]:
    """Return what was seen, as a flat record."""
    generator = random.Random(seed)
    async with MailServer() as mail, MailServer() as careful, PhoneServer() as phones:
        accounts = {
            "mail": smtp(mail, on_unknown="retry"),
            "careful": smtp(careful, on_unknown="hold"),
            "texts": twilio(phones, on_unknown="hold"),
        }
        again: dict[str, Any] = {
            "retry_first": "200ms",
            "repeat_after": "1ms",
            "crashes": 1000,
            "repeats": 1000,
            "attempts": 1000,
        }
        config = written(folder, accounts, lease=lease, **again)
        expected = await _enqueue(config, messages)
        begun = time.monotonic()
        async with Crew(config) as crew:
            killed = await _kill(crew, (mail, careful, phones), kills, messages, generator)
            await (await crew.worker("until-settled")).ended(300)
        report = {"seed": seed, "kills": killed, "messages": messages, "seconds": round(time.monotonic() - begun, 1)}
        return report | await _found(config, expected, {"mail": mail, "careful": careful, "texts": phones})


async def _enqueue(config: Path, messages: int) -> dict[str, dict[str, str]]:
    """Fill the outbox; returns for each account the name a message has at the server -> its id."""
    names: dict[str, dict[str, str]] = {"mail": {}, "careful": {}, "texts": {}}
    async with Postroom.from_config(config) as room:
        for first in range(0, messages, BATCH):
            batch = [_message(number) for number in range(first, min(first + BATCH, messages))]
            for message, result in zip(batch, await room.enqueue_many(batch), strict=True):
                receipt = receipt_or_raise(result)
                name = message.recipients[0] if isinstance(message, Sms) else receipt.message_id
                assert message.provider
                assert name
                names[message.provider][name] = receipt.id
    return names


def _message(number: int) -> Email | Sms:
    if number % 3 == 2:
        return Sms(to=f"+1212{2_000_000 + number:07d}", body=f"text {number}", provider="texts")
    account = ("mail", "careful")[number % 3]
    return Email(to=f"n{number}@example.org", subject=f"{number}", text="x" * 500, provider=account)


async def _kill(
    crew: Crew, servers: tuple[MailServer, MailServer, PhoneServer], kills: int, messages: int, generator: Random
) -> int:
    """Start a worker and kill it after a random number of messages and some more milliseconds, again and again."""
    for killed in range(kills):
        arrived = sum(len(server.arrivals) for server in servers)
        quota = arrived + generator.uniform(0, 2 * max(0, messages - arrived) / (kills - killed))
        worker = await crew.worker()
        deadline = time.monotonic() + GIVES_UP
        while sum(len(server.arrivals) for server in servers) < quota and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        await asyncio.sleep(generator.uniform(0, 0.03))
        await worker.kill()
    return kills


async def _found(config: Path, expected: dict[str, dict[str, str]], servers: dict[str, Any]) -> dict[str, Any]:
    async with Postroom.from_config(config) as room:
        lines = await room.outbox.list(MessageFilter(limit=10_000_000))
        listed = {
            line.id for line in await room.outbox.list(MessageFilter(status=(Status.IN_DOUBT,), limit=10_000_000))
        }
    statuses = {line.id: line.status for line in lines}
    report: dict[str, Any] = {
        "statuses": dict(Counter(map(str, statuses.values()))),
        "missing": 0,
        "lost": 0,
        "unlisted": 0,
    }
    for account, names in expected.items():
        counts = servers[account].counts
        ids = names.values()
        report["missing"] += sum(id_ not in statuses for id_ in ids)
        report["lost"] += sum(
            not counts[name] and statuses.get(id_) is not Status.IN_DOUBT for name, id_ in names.items()
        )
        report["unlisted"] += sum(statuses.get(id_) is Status.IN_DOUBT and id_ not in listed for id_ in ids)
        report[account] = {
            "messages": len(names),
            "arrived": len(counts),
            "repeated": len(servers[account].repeated),
            "foreign": len(counts.keys() - names.keys()),
            "in_doubt": sum(statuses.get(id_) is Status.IN_DOUBT for id_ in ids),
            "never_arrived": sum(
                not counts[name] and statuses.get(id_) is Status.IN_DOUBT for name, id_ in names.items()
            ),
            "unsettled": sum(statuses.get(id_) not in {Status.SENT, Status.IN_DOUBT} for id_ in ids),
        }
    return report


def broken(report: dict[str, Any], *, never_begun: float = NEVER_BEGUN) -> list[Any]:
    """Name the promises that the report shows broken."""
    accounts = {name: report[name] for name in ("mail", "careful", "texts")}
    found = [name for name in ("missing", "lost", "unlisted") if report[name]]
    found += [f"{name} {what}" for name, seen in accounts.items() for what in ("foreign", "unsettled") if seen[what]]
    found += [f"{name} repeated" for name in ("careful", "texts") if accounts[name]["repeated"]]
    doubted = sum(seen["in_doubt"] for seen in accounts.values())
    if sum(seen["never_arrived"] for seen in accounts.values()) > max(never_begun * doubted, A_FEW):
        found.append("in doubt, though never begun")
    return found + (["mail in_doubt"] if accounts["mail"]["in_doubt"] else [])


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--lease", default="1s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = await trial(
            Path(folder), kills=given.kills, messages=given.messages, seed=given.seed, lease=given.lease
        )
    print(json.dumps(report, indent=1))
    return 1 if broken(report) else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
