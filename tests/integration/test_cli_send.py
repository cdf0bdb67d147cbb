"""`postroom send` as a process of its own: signals, pipes, encodings."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import sys
from typing import TYPE_CHECKING

from postroom.testing.http import Answer, Hang, HttpRecorder
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from tests.conftest import CommandLine

SMS = ("send", "sms", "--to", "+15005550009", "--body", "x")
EMAIL = ("send", "email", "--to", "a@example.org")


async def test_an_sms_is_sent_and_answered_in_json(command: CommandLine, twilio: HttpRecorder) -> None:
    done = await asyncio.to_thread(command.process, *SMS, "--json")
    assert done.code == 0, done.err
    assert (done.json["status"], done.json["provider_message_id"]) == ("sent", "SM1")
    assert dict(twilio.requests[0].form()) == {"To": "+15005550009", "From": "+15005550006", "Body": "x"}


async def test_a_refused_message_exits_with_one_and_a_mistake_with_two(
    command: CommandLine, twilio: HttpRecorder
) -> None:
    twilio.answer(Answer(401, {"code": 20003, "message": "Authenticate"}))
    assert (await asyncio.to_thread(command.process, *SMS)).code == 1
    assert (await asyncio.to_thread(command.process, *SMS, "--send-at", "tomorrow")).code == 2
    assert len(twilio.requests) == 1


async def test_interrupting_after_the_hand_over_says_that_it_may_have_been_sent(
    command: CommandLine, twilio: HttpRecorder
) -> None:
    twilio.answer(Hang("request"))
    async with command.running(*SMS) as process:
        await twilio.received(1)
        done = await command.interrupted(process)
    assert done.code == 3
    assert "may have been sent" in done.err
    assert "Traceback" not in done.err


async def test_interrupting_after_the_hand_over_answers_in_json_too(command: CommandLine, twilio: HttpRecorder) -> None:
    twilio.answer(Hang("request"))
    async with command.running(*SMS, "--json") as process:
        await twilio.received(1)
        done = await command.interrupted(process)
    assert done.code == 3, done.err
    assert (done.json["error"], done.json["outcome"]) == ("outcome_unknown", "unknown")
    assert "Traceback" not in done.err


async def test_interrupting_before_the_hand_over_says_that_nothing_was_sent(
    command: CommandLine, smtp: SmtpRecorder
) -> None:
    smtp.delay("connect", 30)
    async with command.running(*EMAIL, "--text", "x") as process:
        await smtp.until("connect")
        done = await command.interrupted(process)
    assert done.code == 130, done.err
    assert "nothing was sent" in done.err
    assert "Traceback" not in done.err


async def test_interrupting_between_two_recipients_says_that_one_may_have_it(
    command: CommandLine, twilio: HttpRecorder
) -> None:
    twilio.answer_with(lambda r: Hang("request") if b"0009" in r.body else Answer(201, {"sid": "SM1"}))
    async with command.running(*SMS, "--to", "+15005550008") as process:
        await twilio.received(2)
        done = await command.interrupted(process)
    assert done.code == 3, done.err
    assert "may have been s" in done.err


async def test_an_interrupted_required_message_is_named(command: CommandLine, twilio: HttpRecorder) -> None:
    twilio.answer(Hang("request"))
    command.configure_more("[outbox]\ngrace = 1")
    async with command.running(*SMS, "--required") as process:
        await twilio.received(1)
        done = await command.interrupted(process)
    [line] = (await command.beside("outbox", "list", "--json")).json
    assert done.code == 3, done.err
    assert f"postroom outbox show {line['id']}" in done.err
    assert "Traceback" not in done.err
    assert line["status"] == "in_doubt"


async def test_an_empty_text_that_is_given_does_not_wait_for_standard_input(
    command: CommandLine, smtp: SmtpRecorder
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "postroom", *EMAIL, "--subject", "s", "--text", ""),
        cwd=command.folder,
        env=command.environment,
        stdin=asyncio.subprocess.PIPE,  # which stays open
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0
    assert len(smtp.messages) == 1


async def with_bytes(command: CommandLine, content: bytes, environment: dict[str, str]) -> tuple[int | None, str, str]:
    """Send an e-mail with exact bytes on standard input."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "postroom", *EMAIL, "--json"),
        cwd=command.folder,
        env={**command.environment, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(content)
    return process.returncode, out.decode(), err.decode()


async def test_standard_input_is_utf_8_in_every_locale(command: CommandLine, smtp: SmtpRecorder) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, _, _ = await with_bytes(command, "Grüße".encode(), plain)
    assert code == 0
    found = email.message_from_bytes(smtp.messages[0].data, policy=email.policy.default)
    assert found.get_content().strip() == "Grüße"

    code, out, err = await with_bytes(command, b"caf\xe9", plain)
    assert code == 2, err
    assert "not UTF-8" in json.loads(out)["message"]
    assert len(smtp.messages) == 1


async def test_json_survives_an_output_that_knows_no_unicode(command: CommandLine, smtp: SmtpRecorder) -> None:
    words = ("send", "email", "--to", "Ünï <a@example.org>", "--subject", "Ω", "--text", "Ω", "--dry-run", "--json")
    done = await asyncio.to_thread(command.process, *words, env={"PYTHONIOENCODING": "ascii"})
    assert done.code == 0, done.err
    assert done.json["recipients"] == ["a@example.org"]
