from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import json
import signal
import socket
import sys
from pathlib import Path

import pytest

from postroom.testing.http import Answer, Drop, Hang, HttpRecorder
from postroom.testing.smtp import SmtpRecorder

CANARY = "canary-secret-never-to-be-shown"


async def in_thread(call, *arguments, **keywords):
    """Run the blocking command line while the servers of this loop go on."""
    return await asyncio.to_thread(call, *arguments, **keywords)


def configure(folder: Path, text: str) -> None:
    (folder / "postroom.toml").write_text(text)


@pytest.fixture
async def twilio(tmp_path: Path):
    async with HttpRecorder() as server:
        server.answer_with(lambda _: Answer(201, {"sid": "SM1", "status": "queued", "num_segments": "1"}))
        configure(
            tmp_path,
            f"""
            [accounts.texts]
            provider = "twilio"
            account_sid = "AC00000000000000000000000000000001"
            auth_token = "{CANARY}"
            base_url = "{server.url}"
            from = "+15005550006"
            timeout = 1
            """,
        )
        yield server


@pytest.fixture
async def smtp(tmp_path: Path):
    async with SmtpRecorder() as server:
        configure(
            tmp_path,
            f"""
            [accounts.main]
            provider = "smtp"
            host = "127.0.0.1"
            port = {server.port}
            tls = "none"
            from = "Post Room <post@example.org>"
            """,
        )
        yield server


async def test_an_sms_is_sent_and_answered_in_json(cli, twilio) -> None:
    done = await in_thread(cli, "send", "sms", "--to", "+15005550009", "--body", "Hey!", "--json")

    assert done.code == 0
    assert {key: done.json[key] for key in ("status", "provider", "account", "provider_message_id")} == {
        "status": "sent",
        "provider": "twilio",
        "account": "texts",
        "provider_message_id": "SM1",
    }
    assert done.json["recipients"][0]["address"] == "+15005550009"
    assert dict(twilio.requests[0].form()) == {"To": "+15005550009", "From": "+15005550006", "Body": "Hey!"}


async def test_every_part_of_an_email_arrives(cli, smtp, tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    (tmp_path / "logo.png").write_bytes(b"png")
    done = await in_thread(
        cli,
        *("send", "email", "--to", "Ann Ünï <ann@example.org>", "--to", "bob@example.org"),
        *("--cc", "cy@example.org", "--bcc", "di@example.org", "--reply-to", "re@example.org"),
        *("--subject", "Grüße", "--text", "plain", "--html", '<img src="cid:logo.png">'),
        *("--attach", "report.pdf", "--inline", "logo.png", "--header", "X-Order: 7: a"),
    )

    assert done.code == 0, done.err
    (arrived,) = smtp.messages
    assert arrived.recipients == ("ann@example.org", "bob@example.org", "cy@example.org", "di@example.org")
    found = email.message_from_bytes(arrived.data, policy=email.policy.default)
    assert (found["Subject"], found["X-Order"], found["Bcc"]) == ("Grüße", "7: a", None)
    assert str(found["To"]) == "Ann Ünï <ann@example.org>, bob@example.org"
    names = [part.get_filename() for part in found.walk() if part.get_filename()]
    assert names == ["logo.png", "report.pdf"]


@pytest.mark.parametrize("arguments", [("--text", "-"), ()])
async def test_the_body_may_come_from_standard_input(cli, smtp, arguments) -> None:
    done = await in_thread(cli, "send", "email", "--to", "a@example.org", *arguments, stdin="from a pipe\n")
    assert done.code == 0, done.err
    assert b"from a pipe" in smtp.messages[0].data


async def test_credentials_of_the_message_are_used_and_never_shown(cli, twilio) -> None:
    done = await in_thread(
        cli,
        *("send", "sms", "--to", "+15005550009", "--body", "x", "--provider", "twilio", "--json"),
        *("--option", "twilio_sid=AC81caaa94b3b84bb7ba9c3cd96bcb152a", "--option", "twilio_auth_token=other-canary"),
    )

    assert done.code == 0, done.err
    assert "AC81caaa94b3b84bb7ba9c3cd96bcb152a" in twilio.requests[0].path
    sent = base64.b64decode(twilio.requests[0].headers["authorization"].removeprefix("Basic ")).decode()
    assert sent == "AC81caaa94b3b84bb7ba9c3cd96bcb152a:other-canary"
    assert "other-canary" not in done.everything


@pytest.mark.parametrize(
    ("step", "code", "outcome", "error"),
    [
        (Answer(401, {"code": 20003, "message": "Authenticate"}), 1, "permanent", "authentication_failed"),
        (Answer(429, {"code": 20429}, {"Retry-After": "3"}), 1, "transient", "rate_limited"),
        (Answer(503, {"code": 20503}), 1, "transient", "provider_unavailable"),
        (Drop("request"), 3, "unknown", "outcome_unknown"),
        (Hang("request"), 3, "unknown", "outcome_unknown"),
        (Answer(200, ""), 3, "unknown", "unexpected_response"),
    ],
)
async def test_a_failure_has_its_exit_code_and_its_json(cli, twilio, step, code, outcome, error) -> None:
    twilio.answer(step)
    done = await in_thread(cli, "send", "sms", "--to", "+15005550009", "--body", "x", "--json")

    assert (done.code, done.json["outcome"], done.json["error"]) == (code, outcome, error)
    assert done.json["account"] == "texts"
    assert len(twilio.requests) == 1
    assert CANARY not in done.everything


async def test_nobody_listening_is_transient_and_exits_with_one(cli, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    url = f"twilio://AC1:{CANARY}@?from=%2B15005550006&base_url=http://127.0.0.1:{port}"
    done = await in_thread(
        cli, "send", "sms", "--to", "+15005550009", "--body", "x", "--json", env={"POSTROOM_SMS_URL": url}
    )

    assert (done.code, done.json["outcome"], done.json["error"]) == (1, "transient", "provider_unreachable")
    assert CANARY not in done.everything


async def test_interrupting_after_the_hand_over_says_that_it_may_have_been_sent(
    tmp_path: Path, twilio, clean_environment
) -> None:
    twilio.answer(Hang("request"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "postroom", "send", "sms", "--to", "+15005550009", "--body", "x"),
        *("--provider", "texts"),
        cwd=tmp_path,
        env={**clean_environment, "POSTROOM_ACCOUNTS__TEXTS__TIMEOUT": "60"},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    await twilio.received(1)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert process.returncode == 3
    assert "may have been sent" in err.decode()


BAD = [
    (("send", "sms", "--to", "0123", "--body", "x"), "international form"),
    (("send", "sms", "--body", "x"), "to:"),
    (("send", "email", "--to", "nobody", "--text", "x"), "not an e-mail address"),
    (("send", "email", "--to", "a@example.org\nBcc: b@example.org", "--text", "x"), "line breaks"),
    (("send", "email", "--to", "a@example.org", "--subject", "x\r\nBcc: b@example.org", "--text", "x"), "line breaks"),
    (("send", "email", "--to", "a@example.org", "--text", "x", "--header", "nonsense"), "NAME:VALUE"),
    (("send", "email", "--to", "a@example.org", "--text", "x", "--attach", "missing.pdf"), "missing.pdf"),
    (("send", "email", "--to", "a@example.org", "--text", "x", "--template", "t"), "cannot send template"),
    (("send", "email", "--to", "a@example.org", "--text", "x", "--provider", "smtq"), "did you mean 'smtp'"),
    (("send", "email", "--to", "a@example.org", "--text", "x", "--send-at", "tomorrow"), "2030-01-31"),
    (("send", "email", "--to", "a@example.org", "--text", "x", "--option", "nope=1"), "no such option"),
    (("send", "email", "--to", "a@example.org", "--text", "x", "--config", "missing.toml"), "missing.toml"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=lambda value: value if isinstance(value, str) else None)
async def test_a_users_mistake_is_one_clear_line_and_exit_code_two(cli, smtp, arguments, said) -> None:
    done = await in_thread(cli, *arguments)

    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert smtp.connections == 0


async def test_an_attachment_of_fifty_megabytes_is_refused(cli, smtp, tmp_path: Path) -> None:
    with (tmp_path / "big.bin").open("wb") as file:
        file.truncate(50_000_000)
    done = await in_thread(cli, "send", "email", "--to", "a@example.org", "--text", "x", "--attach", "big.bin")

    assert done.code == 2
    assert "larger than" in done.err
    assert smtp.connections == 0


async def test_a_dry_run_shows_account_segments_and_mime_and_opens_nothing(cli, smtp, twilio, tmp_path: Path) -> None:
    both = (
        (tmp_path / "postroom.toml").read_text()
        + f"""
            [accounts.main]
            provider = "smtp"
            host = "127.0.0.1"
            port = {smtp.port}
            from = "Post Room <post@example.org>"
            """
    )
    configure(tmp_path, both)
    text = "a" * 152 + "€" + "a" * 152
    sms = await in_thread(cli, "send", "sms", "--to", "+15005550009", "--body", text, "--dry-run", "--json")
    mail = await in_thread(cli, "send", "email", "--to", "a@example.org", "--text", "x", "--dry-run", "--json")

    assert (sms.json["segments"], sms.json["encoding"], sms.json["accounts"][0]["account"]) == (3, "gsm7", "texts")
    assert mail.json["mime"].startswith("From: Post Room <post@example.org>\r\n")
    assert smtp.connections == twilio.connections == 0


async def test_the_configuration_may_be_named_before_or_after_the_command(cli, smtp, tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").rename(tmp_path / "other.toml")
    words = ("send", "email", "--to", "a@example.org", "--text", "x")
    assert (await in_thread(cli, "--config", "other.toml", *words)).code == 0
    assert (await in_thread(cli, *words, "--config", "other.toml")).code == 0


async def test_refused_recipients_of_an_accepted_message_are_named(cli, smtp) -> None:
    smtp.reply("rcpt", "550 5.1.1 no such user", match="bob@")
    done = await in_thread(cli, "send", "email", "--to", "ann@example.org", "--to", "bob@example.org", "--text", "x")

    assert done.code == 0
    assert "bob@example.org: permanent" in done.err


async def test_json_is_alone_on_standard_output(cli, smtp) -> None:
    done = await in_thread(cli, "send", "email", "--to", "a@example.org", "--text", "x", "--json")
    assert json.loads(done.out)["message_id"].startswith("<")


JSON_MISTAKES = [
    (("--header", "nonsense"), "--header: write it as NAME:VALUE", "usage_error"),
    (("--header", "X-A: 1", "--header", "X-A: 2"), "'X-A' is given twice", "usage_error"),
    (("--option", CANARY), "--option: write it as NAME=VALUE", "usage_error"),
    (("--metadata", "=x"), "--metadata", "usage_error"),
    (("--merge-data", "[1]"), "must be a JSON object", "usage_error"),
    (("--merge-data", "{"), "is not valid JSON", "usage_error"),
    (("--send-at", "0001-01-01T00:00:00"), "2030-01-31", "usage_error"),
    (("--calendar", "nowhere.ics"), "nowhere.ics", "usage_error"),
    (("--text", "-", "--html", "-"), "only one of them", "usage_error"),
    (("--attach", "."), "not a file", "message_error"),
    (("--priority", "loud"), "priority", "message_error"),
]


@pytest.mark.parametrize(
    ("arguments", "said", "error"), JSON_MISTAKES, ids=lambda value: None if value is CANARY else str(value)
)
async def test_a_mistake_answers_in_json_when_asked_to(cli, smtp, arguments, said, error) -> None:
    given = arguments if "--text" in arguments else ("--text", "x", *arguments)
    done = await in_thread(cli, "send", "email", "--to", "a@example.org", *given, "--json")

    assert (done.code, done.json["status"], done.json["error"]) == (2, "failed", error)
    assert said in done.json["message"]
    assert done.err == ""
    assert CANARY not in done.everything
    assert smtp.connections == 0


async def test_a_credential_is_taken_to_the_letter(cli, twilio) -> None:
    done = await in_thread(
        cli,
        *("send", "sms", "--to", "+15005550009", "--body", "x"),
        *("--option", "twilio_sid=AC2", "--option", "twilio_auth_token= a=b c "),
    )

    assert done.code == 0, done.err
    sent = base64.b64decode(twilio.requests[0].headers["authorization"].removeprefix("Basic ")).decode()
    assert sent == "AC2: a=b c "


async def test_an_empty_text_that_is_given_does_not_wait_for_standard_input(
    tmp_path: Path, smtp, clean_environment
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "postroom", "send", "email", "--to", "a@example.org", "--subject", "s", "--text", ""),
        cwd=tmp_path,
        env=clean_environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0
    assert len(smtp.messages) == 1


async def with_bytes(folder, environment, content: bytes, *arguments):
    """Run the command line with exact bytes on standard input."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "postroom", *arguments),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(content)
    return process.returncode, out.decode(), err.decode()


async def test_standard_input_is_utf_8_in_every_locale(tmp_path: Path, smtp, clean_environment) -> None:
    words = ("send", "email", "--to", "a@example.org", "--json")
    environment = {**clean_environment, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, _, _ = await with_bytes(tmp_path, environment, "Grüße".encode(), *words)
    assert code == 0
    assert email.message_from_bytes(smtp.messages[0].data, policy=email.policy.default).get_content().strip() == "Grüße"

    code, out, err = await with_bytes(tmp_path, environment, b"caf\xe9", *words)
    assert (code, err) == (2, "")
    assert "not UTF-8" in json.loads(out)["message"]
    assert len(smtp.messages) == 1


async def test_json_survives_an_output_that_knows_no_unicode(cli, smtp) -> None:
    done = await in_thread(
        cli,
        *("send", "email", "--to", "Ünï <a@example.org>", "--subject", "Ω", "--text", "Ω", "--dry-run", "--json"),
        env={"PYTHONIOENCODING": "ascii"},
    )
    assert done.code == 0, done.err
    assert done.json["recipients"] == ["a@example.org"]


async def test_refused_recipients_are_named_beside_the_json(cli, smtp) -> None:
    smtp.reply("rcpt", "550 5.1.1 no such user", match="bob@")
    done = await in_thread(
        cli, "send", "email", "--to", "ann@example.org", "--to", "bob@example.org", "--text", "x", "--json"
    )

    assert done.code == 0
    assert [r["outcome"] for r in done.json["recipients"]] == ["accepted", "permanent"]
    assert "bob@example.org: permanent" in done.err


async def test_an_address_with_a_comma_in_its_name_is_one_address(cli, smtp) -> None:
    done = await in_thread(cli, "send", "email", "--to", '"Doe, Jane" <jane@example.org>', "--text", "x")
    assert done.code == 0, done.err
    assert smtp.messages[0].recipients == ("jane@example.org",)


async def test_interrupting_after_the_hand_over_answers_in_json_too(tmp_path: Path, twilio, clean_environment) -> None:
    twilio.answer(Hang("request"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "postroom", "send", "sms", "--to", "+15005550009", "--body", "x", "--json"),
        cwd=tmp_path,
        env={**clean_environment, "POSTROOM_ACCOUNTS__TEXTS__TIMEOUT": "60"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await twilio.received(1)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()

    assert process.returncode == 3, err.decode()
    answer = json.loads(out)
    assert (answer["error"], answer["outcome"]) == ("outcome_unknown", "unknown")
    assert "Traceback" not in err.decode()


async def test_interrupting_before_the_hand_over_says_that_nothing_was_sent(
    tmp_path: Path, smtp, clean_environment
) -> None:
    smtp.delay("connect", 30)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "postroom", "send", "email", "--to", "a@example.org", "--text", "x"),
        cwd=tmp_path,
        env=clean_environment,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    await smtp.until("connect")
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert process.returncode == 130, err.decode()
    assert "nothing was sent" in err.decode()
    assert "Traceback" not in err.decode()


async def test_interrupting_between_two_recipients_says_that_one_may_have_it(
    tmp_path: Path, twilio, clean_environment
) -> None:
    twilio.answer_with(lambda r: Hang("request") if b"0009" in r.body else Answer(201, {"sid": "SM1"}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "postroom", "send", "sms", "--to", "+15005550008", "--to", "+15005550009"),
        *("--body", "x"),
        cwd=tmp_path,
        env={**clean_environment, "POSTROOM_ACCOUNTS__TEXTS__TIMEOUT": "60"},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    await twilio.received(2)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert process.returncode == 3, err.decode()
    assert "may have been s" in err.decode()


async def test_a_dry_run_tells_what_each_account_would_refuse(cli, twilio, tmp_path: Path) -> None:
    configured = (tmp_path / "postroom.toml").read_text()
    lenient = configured.replace("accounts.texts", "accounts.lenient") + '            unsupported = "warn"\n'
    route = '[routes.both]\nvia = ["texts", "lenient"]\n'
    configure(tmp_path, configured + lenient.replace('"twilio"', '"vonage"').split("account_sid")[0] + route)
    words = ("send", "sms", "--to", "+15005550009", "--body", "x", "--dry-run", "--json")

    option = await in_thread(cli, *words, "--provider", "texts", "--option", "nope=1")
    assert "no such option" in option.json["accounts"][0]["problem"]

    later = await in_thread(cli, *words, "--provider", "texts", "--send-at", "2031-01-01T00:00:00+00:00")
    assert later.json["accounts"][0]["problem"]

    both = await in_thread(cli, *words, "--provider", "both")
    assert [account["account"] for account in both.json["accounts"]] == ["texts", "lenient"]
    assert both.json["accounts"][1]["problem"]
    assert CANARY not in option.everything + later.everything + both.everything
    assert twilio.connections == 0


async def test_a_dry_run_tells_features_refused_from_features_left_out(cli, tmp_path: Path) -> None:
    smtp = 'provider = "smtp"\nhost = "127.0.0.1"\nfrom = "a@example.org"\n'
    configure(
        tmp_path,
        f'[accounts.strict]\n{smtp}[accounts.mild]\n{smtp}unsupported = "warn"\n[routes.r]\nvia = ["strict", "mild"]\n',
    )
    words = ("send", "email", "--to", "a@example.org", "--text", "x", "--template", "t", "--provider", "r", "--dry-run")
    told = (await in_thread(cli, *words, "--json")).json["accounts"]

    assert [(account["unsupported"], account["left_out"]) for account in told] == [
        (["template"], []),
        ([], ["template"]),
    ]
    shown = (await in_thread(cli, *words)).out
    assert "would refuse template" in shown
    assert "would leave out template" in shown


async def test_a_dry_run_without_a_sender_says_so(cli, tmp_path: Path) -> None:
    configure(tmp_path, '[accounts.m]\nprovider = "memory"\n')
    done = await in_thread(cli, "send", "email", "--to", "a@example.org", "--text", "x", "--dry-run", "--json")
    assert "no sender" in done.json["accounts"][0]["problem"]
    assert done.json["mime"] is None
