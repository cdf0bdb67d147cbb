"""`postroom send`: a message from its options, its result in text or JSON, its exit code."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from postroom.testing.http import Answer, Drop, Hang, HttpRecorder, Step
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from tests.conftest import CommandLine


CANARY = "canary-secret-never-to-be-shown"


async def test_an_sms_is_sent_and_answered_in_json(command: CommandLine, twilio: HttpRecorder) -> None:
    done = await command.beside("send", "sms", "--to", "+15005550009", "--body", "Hey!", "--json")

    assert done.code == 0
    assert {key: done.json[key] for key in ("status", "provider", "account", "provider_message_id")} == {
        "status": "sent",
        "provider": "twilio",
        "account": "texts",
        "provider_message_id": "SM1",
    }
    assert done.json["recipients"][0]["address"] == "+15005550009"
    assert dict(twilio.requests[0].form()) == {"To": "+15005550009", "From": "+15005550006", "Body": "Hey!"}


async def test_every_part_of_an_email_arrives(command: CommandLine, smtp: SmtpRecorder, tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    (tmp_path / "logo.png").write_bytes(b"png")
    done = await command.beside(
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
async def test_the_body_may_come_from_standard_input(
    command: CommandLine, smtp: SmtpRecorder, arguments: tuple[str, ...]
) -> None:
    done = await command.beside("send", "email", "--to", "a@example.org", *arguments, stdin="from a pipe\n")
    assert done.code == 0, done.err
    assert b"from a pipe" in smtp.messages[0].data


async def test_credentials_of_the_message_are_used_and_never_shown(command: CommandLine, twilio: HttpRecorder) -> None:
    done = await command.beside(
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
async def test_a_failure_has_its_exit_code_and_its_json(
    command: CommandLine, twilio: HttpRecorder, step: Step, code: int, outcome: str, error: str
) -> None:
    twilio.answer(step)
    command.configure_more("timeout = 1")
    done = await command.beside("send", "sms", "--to", "+15005550009", "--body", "x", "--json")

    assert (done.code, done.json["outcome"], done.json["error"]) == (code, outcome, error)
    assert done.json["account"] == "texts"
    assert len(twilio.requests) == 1
    assert CANARY not in done.everything


async def test_nobody_listening_is_transient_and_exits_with_one(command: CommandLine, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    url = f"twilio://AC1:{CANARY}@?from=%2B15005550006&base_url=http://127.0.0.1:{port}"
    done = await command.beside(
        "send", "sms", "--to", "+15005550009", "--body", "x", "--json", env={"POSTROOM_SMS_URL": url}
    )

    assert (done.code, done.json["outcome"], done.json["error"]) == (1, "transient", "provider_unreachable")
    assert CANARY not in done.everything


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
async def test_a_users_mistake_is_one_clear_line_and_exit_code_two(
    command: CommandLine, smtp: SmtpRecorder, arguments: tuple[str, ...], said: str
) -> None:
    done = await command.beside(*arguments)

    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert smtp.connections == 0


async def test_an_attachment_of_fifty_megabytes_is_refused(
    command: CommandLine, smtp: SmtpRecorder, tmp_path: Path
) -> None:
    with (tmp_path / "big.bin").open("wb") as file:
        file.truncate(50_000_000)
    done = await command.beside("send", "email", "--to", "a@example.org", "--text", "x", "--attach", "big.bin")

    assert done.code == 2
    assert "larger than" in done.err
    assert smtp.connections == 0


async def test_a_dry_run_shows_account_segments_and_mime_and_opens_nothing(
    command: CommandLine, smtp: SmtpRecorder, twilio: HttpRecorder, tmp_path: Path
) -> None:
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
    command.configure(both)
    text = "a" * 152 + "€" + "a" * 152
    sms = await command.beside("send", "sms", "--to", "+15005550009", "--body", text, "--dry-run", "--json")
    mail = await command.beside("send", "email", "--to", "a@example.org", "--text", "x", "--dry-run", "--json")

    assert (sms.json["segments"], sms.json["encoding"], sms.json["accounts"][0]["account"]) == (3, "gsm7", "texts")
    assert mail.json["mime"].startswith("From: Post Room <post@example.org>\r\n")
    assert smtp.connections == twilio.connections == 0


async def test_the_configuration_may_be_named_before_or_after_the_command(
    command: CommandLine, smtp: SmtpRecorder, tmp_path: Path
) -> None:
    (tmp_path / "postroom.toml").rename(tmp_path / "other.toml")
    words = ("send", "email", "--to", "a@example.org", "--text", "x")
    assert (await command.beside("--config", "other.toml", *words)).code == 0
    assert (await command.beside(*words, "--config", "other.toml")).code == 0


async def test_refused_recipients_of_an_accepted_message_are_named(command: CommandLine, smtp: SmtpRecorder) -> None:
    smtp.reply("rcpt", "550 5.1.1 no such user", match="bob@")
    done = await command.beside("send", "email", "--to", "ann@example.org", "--to", "bob@example.org", "--text", "x")

    assert done.code == 0
    assert "bob@example.org: permanent" in done.err


async def test_json_is_alone_on_standard_output(command: CommandLine, smtp: SmtpRecorder) -> None:
    done = await command.beside("send", "email", "--to", "a@example.org", "--text", "x", "--json")
    assert json.loads(done.out)["message_id"].startswith("<")


JSON_MISTAKES = [
    (("--header", "nonsense"), "--header: write it as NAME:VALUE", "usage_error"),
    (("--header", "X-A: 1", "--header", "X-A: 2"), "'X-A' is given twice", "usage_error"),
    (("--option", CANARY), "--option: write it as NAME=VALUE", "usage_error"),
    (("--metadata", "=x"), "--metadata", "usage_error"),
    (("--merge-data", "[1]"), "must be a JSON object", "usage_error"),
    (("--merge-data", "{"), "is not valid JSON", "usage_error"),
    (("--merge-data", "[" * 20_000), "is not valid JSON", "usage_error"),
    (("--merge-data", '{"a": ' + "1" * 5000 + "}"), "is not valid JSON", "usage_error"),
    (("--send-at", "0001-01-01T00:00:00"), "2030-01-31", "usage_error"),
    (("--calendar", "nowhere.ics"), "nowhere.ics", "usage_error"),
    (("--text", "-", "--html", "-"), "only one of them", "usage_error"),
    (("--attach", "."), "not a file", "message_error"),
    (("--priority", "loud"), "priority", "message_error"),
]


@pytest.mark.parametrize(
    ("arguments", "said", "error"), JSON_MISTAKES, ids=lambda value: None if value is CANARY else str(value)[:60]
)
async def test_a_mistake_answers_in_json_when_asked_to(
    command: CommandLine, smtp: SmtpRecorder, arguments: tuple[str, ...], said: str, error: str
) -> None:
    given = arguments if "--text" in arguments else ("--text", "x", *arguments)
    done = await command.beside("send", "email", "--to", "a@example.org", *given, "--json")

    assert (done.code, done.json["status"], done.json["error"]) == (2, "failed", error)
    assert said in done.json["message"]
    assert done.err == ""
    assert CANARY not in done.everything
    assert smtp.connections == 0


async def test_a_credential_is_taken_to_the_letter(command: CommandLine, twilio: HttpRecorder) -> None:
    done = await command.beside(
        *("send", "sms", "--to", "+15005550009", "--body", "x"),
        *("--option", "twilio_sid=AC2", "--option", "twilio_auth_token= a=b c "),
    )

    assert done.code == 0, done.err
    sent = base64.b64decode(twilio.requests[0].headers["authorization"].removeprefix("Basic ")).decode()
    assert sent == "AC2: a=b c "


async def test_refused_recipients_are_named_beside_the_json(command: CommandLine, smtp: SmtpRecorder) -> None:
    smtp.reply("rcpt", "550 5.1.1 no such user", match="bob@")
    done = await command.beside(
        "send", "email", "--to", "ann@example.org", "--to", "bob@example.org", "--text", "x", "--json"
    )

    assert done.code == 0
    assert [r["outcome"] for r in done.json["recipients"]] == ["accepted", "permanent"]
    assert "bob@example.org: permanent" in done.err


async def test_an_address_with_a_comma_in_its_name_is_one_address(command: CommandLine, smtp: SmtpRecorder) -> None:
    done = await command.beside("send", "email", "--to", '"Doe, Jane" <jane@example.org>', "--text", "x")
    assert done.code == 0, done.err
    assert smtp.messages[0].recipients == ("jane@example.org",)


async def test_a_dry_run_shows_what_each_account_would_refuse(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    configured = (tmp_path / "postroom.toml").read_text()
    lenient = configured.replace("accounts.texts", "accounts.lenient") + '            unsupported = "warn"\n'
    route = '[routes.both]\nvia = ["texts", "lenient"]\n'
    command.configure(configured + lenient.replace('"twilio"', '"vonage"').split("account_sid")[0] + route)
    words = ("send", "sms", "--to", "+15005550009", "--body", "x", "--dry-run", "--json")

    option = await command.beside(*words, "--provider", "texts", "--option", "nope=1")
    assert "no such option" in option.json["accounts"][0]["problem"]

    later = await command.beside(*words, "--provider", "texts", "--send-at", "2031-01-01T00:00:00+00:00")
    assert later.json["accounts"][0]["problem"]

    both = await command.beside(*words, "--provider", "both")
    assert [account["account"] for account in both.json["accounts"]] == ["texts", "lenient"]
    assert both.json["accounts"][1]["problem"]
    assert CANARY not in option.everything + later.everything + both.everything
    assert twilio.connections == 0


async def test_a_dry_run_separates_features_refused_from_features_left_out(
    command: CommandLine, tmp_path: Path
) -> None:
    smtp = 'provider = "smtp"\nhost = "127.0.0.1"\nfrom = "a@example.org"\n'
    command.configure(
        f'[accounts.strict]\n{smtp}[accounts.mild]\n{smtp}unsupported = "warn"\n[routes.r]\nvia = ["strict", "mild"]\n',
    )
    words = ("send", "email", "--to", "a@example.org", "--text", "x", "--template", "t", "--provider", "r", "--dry-run")
    previews = (await command.beside(*words, "--json")).json["accounts"]

    assert [(account["unsupported"], account["left_out"]) for account in previews] == [
        (["template"], []),
        ([], ["template"]),
    ]
    shown = (await command.beside(*words)).out
    assert "would refuse template" in shown
    assert "would leave out template" in shown


async def test_a_dry_run_without_a_sender_says_so(command: CommandLine, tmp_path: Path) -> None:
    command.configure('[accounts.m]\nprovider = "memory"\n')
    done = await command.beside("send", "email", "--to", "a@example.org", "--text", "x", "--dry-run", "--json")
    assert "no sender" in done.json["accounts"][0]["problem"]
    assert done.json["mime"] is None
