"""Messages a second over a pool of 5: postroom's SMTP plugin, aiosmtplib on kept connections, nodemailer.

Run `python tests/benchmarks/smtp_throughput.py [MESSAGES]`. Needs Postfix's `smtp-sink`; nodemailer joins when
NODE_PATH leads to it. All rounds are interleaved in one run against one sink, and the ratios count.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import aiosmtplib

from postroom import Email
from postroom.plugin import Resources
from postroom_smtp.envelope import PreparedMessage, prepare
from postroom_smtp.errors import SmtpErrors
from postroom_smtp.settings import SmtpSettings
from postroom_smtp.transport import SmtpEmail

POOL, ROUNDS, AT_ONCE = 5, 5, 500
HOST = "127.0.0.1"

NODEMAILER = """
const nodemailer = require('nodemailer');
const [port, count, pool] = process.argv.slice(1).map(Number);
const post = nodemailer.createTransport({host: '127.0.0.1', port, secure: false, ignoreTLS: true, pool: true,
  maxConnections: pool, maxMessages: Infinity});
const text = 'x'.repeat(70).concat('\\n').repeat(11);
const message = n => ({from: 'post@example.org', to: 'ann@example.org', subject: `Number ${n}`, text});
(async () => {
  await Promise.all(Array.from({length: 200}, (_, n) => post.sendMail(message(n))));
  const started = process.hrtime.bigint();
  await Promise.all(Array.from({length: count}, (_, n) => post.sendMail(message(n))));
  console.log(JSON.stringify(Number(process.hrtime.bigint() - started) / 1e9));
  post.close();
})();
"""


def email(number: int) -> Email:
    return Email(
        to="ann@example.org",
        **{"from": "post@example.org"},
        subject=f"Number {number}",
        text=("x" * 70 + "\n") * 11,
        id=f"{number:032x}",
        message_id=f"<{number}@example.org>",
    )


async def in_parallel(count: int, send: Callable[[int], Awaitable[object]]) -> float:
    """Seconds for `count` sends, AT_ONCE of them on their way at any time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await send(number)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return time.perf_counter() - started


async def postroom_send(port: int, emails: list[Email]) -> float:
    account = SmtpEmail("post", SmtpSettings(host=HOST, port=port, tls="none", pool=POOL), Resources())
    await account.open()
    await in_parallel(200, lambda n: account.send(emails[n]))
    taken = await in_parallel(len(emails), lambda n: account.send(emails[n]))
    await account.close()
    return taken


async def postroom_wire(port: int, messages: list[PreparedMessage]) -> float:
    """The same without making MIME, as aiosmtplib below."""
    from postroom_smtp.connector import Connector
    from postroom_smtp.pool import Pool
    from postroom_smtp.timeouts import Timeouts

    settings = SmtpSettings(host=HOST, port=port, tls="none", pool=POOL)
    errors = SmtpErrors("post", settings)
    pool = Pool(POOL, Connector(settings, errors, None).connect, errors, Timeouts(message=60))
    await in_parallel(200, lambda n: pool.deliver(messages[n]))
    taken = await in_parallel(len(messages), lambda n: pool.deliver(messages[n]))
    await pool.close()
    return taken


async def aiosmtplib_kept(port: int, messages: list[PreparedMessage]) -> float:
    clients = [aiosmtplib.SMTP(hostname=HOST, port=port, start_tls=False, local_hostname="bench") for _ in range(POOL)]
    for client in clients:
        await client.connect()
    numbers = iter(range(len(messages)))

    async def worker(client: aiosmtplib.SMTP) -> None:
        for number in numbers:
            await client.sendmail("post@example.org", ["ann@example.org"], messages[number].content[:-3])

    started = time.perf_counter()
    await asyncio.gather(*(worker(client) for client in clients))
    taken = time.perf_counter() - started
    for client in clients:
        await client.quit()
    return taken


def nodemailer(port: int, count: int) -> float | None:
    node = shutil.which("node")
    if node is None or not os.environ.get("NODE_PATH"):
        return None
    done = subprocess.run(
        [node, "-e", NODEMAILER, str(port), str(count), str(POOL)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def sink() -> tuple[subprocess.Popen[bytes], int]:
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    # As root smtp-sink wants to be told whom to become.
    process = subprocess.Popen(
        ["smtp-sink", *(["-u", "nobody"] if os.geteuid() == 0 else []), f"{HOST}:{port}", "1000"]
    )
    while True:
        try:
            socket.create_connection((HOST, port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return process, port


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    emails = [email(number) for number in range(count)]
    messages = [prepare(each, None) for each in emails]
    taken: dict[str, list[float]] = {}
    process, port = sink()
    try:
        for _ in range(ROUNDS):
            taken.setdefault("postroom, send", []).append(asyncio.run(postroom_send(port, emails)))
            taken.setdefault("postroom, prepared", []).append(asyncio.run(postroom_wire(port, messages)))
            taken.setdefault("aiosmtplib, kept, raw", []).append(asyncio.run(aiosmtplib_kept(port, messages)))
            seconds = nodemailer(port, count)
            if seconds is not None:
                taken.setdefault("nodemailer, pool", []).append(seconds)
    finally:
        process.terminate()
        process.wait()
    rates = {name: [count / seconds for seconds in found] for name, found in taken.items()}
    print(f"{count} messages of 1 KB, pool of {POOL}, smtp-sink, {ROUNDS} rounds; messages a second")
    print("| way | median | all | postroom send / it |")
    print("|---|---|---|---|")
    ours = statistics.median(rates["postroom, send"])
    for name, found in rates.items():
        median = statistics.median(found)
        print(f"| {name} | {median:,.0f} | {', '.join(f'{rate:,.0f}' for rate in found)} | {ours / median:.2f} |")


if __name__ == "__main__":
    main()
