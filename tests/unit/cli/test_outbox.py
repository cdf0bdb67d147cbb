"""`postroom outbox …`: what is on its way, and what a person decides about it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.postgres_server import fresh_schema

from postroom.testing.http import Answer, Drop, HttpRecorder

if TYPE_CHECKING:
    from tests.conftest import CommandLine


CANARY = "canary-secret-never-to-be-shown"

MEMORY = """
[defaults]
email = "box"
sms = "box"
[accounts.box]
provider = "memory"
from = "post@example.org"
"""

ID = re.compile(r"[0-9a-f]{32}")


@pytest.fixture(params=["sqlite", "postgres"])
def command(command: CommandLine, request: pytest.FixtureRequest) -> CommandLine:
    """The command line over an outbox of each engine."""
    if request.param == "postgres":
        command.environment["POSTROOM_OUTBOX__URL"] = fresh_schema()
        command.environment["POSTROOM_SECRET_KEY"] = "the same for all machines, and long enough"
    return command


on_a_file = pytest.mark.parametrize("command", ["sqlite"], indirect=True)


@pytest.fixture
def box(command: CommandLine) -> CommandLine:
    """The command line over an account that takes everything."""
    command.configure(MEMORY)
    return command


def enqueue(command: CommandLine, to: str = "ann@example.org", *more: str) -> str:
    """Enqueue one message, and return its id."""
    words = ("--subject", "Order 7", "--text", CANARY) if "@" in to else ("--body", CANARY)
    done = command("send", "email" if "@" in to else "sms", "--to", to, *words, "--enqueue", "--json", *more)
    assert done.code == 0, done.err
    assert done.json["status"] in {"queued", "scheduled"}
    return str(done.json["id"])


def ids(command: CommandLine, *filters: str) -> list[str]:
    return [line["id"] for line in command("outbox", "list", "--json", *filters).json]


def status(command: CommandLine, message_id: str) -> str:
    return str(command("outbox", "show", message_id, "--json").json["receipt"]["status"])


@pytest.fixture
async def sendgrid(command: CommandLine) -> AsyncIterator[HttpRecorder]:
    """A provider that refuses, or hangs up, as the test says."""
    async with HttpRecorder() as server:
        command.configure(f"""
            [accounts.mail]
            provider = "sendgrid"
            api_key = "{CANARY}"
            base_url = "{server.url}"
            from = "post@example.org"
            """)
        yield server


async def delivered(command: CommandLine) -> str:
    """Enqueue one e-mail, have it tried, and return its id."""
    message_id = await asyncio.to_thread(enqueue, command)
    await command.deliver()
    return message_id


@on_a_file
def test_listing_an_outbox_that_is_not_there_makes_none(box: CommandLine, tmp_path: Path) -> None:
    for command in (("list",), ("stats",), ("show", "x"), ("watch",), ("purge", "--yes"), ("compact",)):
        done = box("outbox", *command)
        assert done.code == 1
        assert "there is no outbox at postroom.db" in done.err
        assert "--config" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["postroom.toml"]


def test_a_listing_shows_the_newest_first_and_neither_text_nor_credential(box: CommandLine) -> None:
    box.configure(
        MEMORY.replace('sms = "box"', 'sms = "texts"')
        + '[accounts.texts]\nprovider = "twilio"\nfrom = "+15005550006"\n'
    )
    credentials = ("--option", f"account_sid=AC{'0' * 32}", "--option", f"auth_token={CANARY}")
    first = enqueue(box)
    second = enqueue(box, "+442079460958", *credentials)
    done = box("outbox", "list")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert rows[0][:6] == ["id", "status", "channel", "account", "to", "subject"]
    assert rows[1][:6] == [second, "queued", "sms", "texts", "+442079460958", ""]
    assert rows[2][:6] == [first, "queued", "email", "box", "ann@example.org", "Order 7"]
    for shown in (
        done,
        box("outbox", "list", "--json"),
        box("outbox", "show", second),
        box("outbox", "stats"),
    ):
        assert CANARY not in shown.everything


def test_every_filter_narrows_the_listing(box: CommandLine) -> None:
    old = enqueue(box)
    text = enqueue(box, "+442079460958")
    later = enqueue(box, "bob@example.org", "--send-at", "2100-01-01T00:00:00+00:00")
    assert ids(box, "--status", "scheduled") == [later]
    assert ids(box, "--status", "queued", "--status", "scheduled") == [later, text, old]
    assert ids(box, "--channel", "sms") == [text]
    assert ids(box, "--to", "bob@") == [later]
    assert ids(box, "--account", "box") == [later, text, old]
    assert ids(box, "--account", "bo") == []
    assert ids(box, "--since", "2100-01-01") == ids(box, "--until", "2020-01-01") == []
    assert ids(box, "--since", "2020-01-01", "--until", "2100-01-01") == [later, text, old]
    assert ids(box, "--limit", "2") == [later, text]


WRONG = {
    ("list", "--status", "lost"): (2, "--status: must be one of queued, scheduled"),
    ("list", "--channel", "fax"): (2, "--channel: must be email or sms"),
    ("list", "--since", "yesterday"): (2, "--since: write a time like"),
    ("show", "nothing"): (1, "no message nothing in this outbox; `postroom outbox list`"),
    ("resolve", "nothing", "sent"): (1, "no message nothing in this outbox"),
    ("resume", "nobody"): (2, "no account 'nobody'; accounts: box"),
    ("retry",): (2, "name messages by id, or choose them"),
    ("cancel", "x", "--status", "queued"): (2, "but not both"),
    ("retry", "--status", "sent"): (2, "--status: cannot retry what is sent"),
    ("purge", "--status", "in_doubt"): (2, "in_doubt messages are not settled"),
    ("hold", "--status", "queued"): (2, "--yes: is needed to hold 1 message"),
}


def test_every_mistake_says_what_to_do(box: CommandLine) -> None:
    message_id = enqueue(box)
    for arguments, (code, said) in WRONG.items():
        done = box("outbox", *arguments)
        assert (done.code, done.out) == (code, ""), arguments
        assert said in done.err
        in_json = box("outbox", *arguments, "--json")
        assert (in_json.code, in_json.err) == (code, "")
        assert said in in_json.json["message"]
    assert status(box, message_id) == "queued"


def test_one_message_is_held_let_go_cancelled_and_sent_again(box: CommandLine) -> None:
    message_id = enqueue(box)
    for command, now in (("hold", "held"), ("retry", "queued"), ("cancel", "cancelled"), ("retry", "queued")):
        done = box("outbox", command, message_id)
        assert (done.code, done.out) == (0, f"{now}: {message_id}\n")
        assert status(box, message_id) == now
    box("worker", "--until-empty")
    refused = box("outbox", "cancel", message_id, "unknown", "--json")
    assert refused.code == 1
    assert refused.json["changed"] == []
    assert [each["id"] for each in refused.json["refused"]] == [message_id, "unknown"]
    assert "cannot cancel a message that is sent" in refused.json["refused"][0]["message"]


def test_many_are_changed_by_what_they_have_in_common_once_that_is_confirmed(box: CommandLine) -> None:
    texts = {enqueue(box, "+442079460958") for _ in range(3)}
    mail = enqueue(box)
    assert box("outbox", "cancel", "--channel", "sms").code == 2
    assert set(box("outbox", "cancel", "--channel", "sms", "--limit", "2", "--yes", "--json").json["changed"]) <= texts
    assert len(ids(box, "--status", "cancelled")) == 2
    assert box("outbox", "cancel", "--channel", "sms", "--yes").out.startswith("cancelled: ")
    assert set(ids(box, "--status", "cancelled")) == texts
    assert box("outbox", "retry", "--channel", "sms", "--yes", "--json").json == {"changed": [], "refused": []}
    assert len(box("outbox", "retry", "--status", "cancelled", "--yes", "--json").json["changed"]) == 3
    assert box("outbox", "cancel", "--to", "nobody@", "--yes").err.startswith("no message is meant by that")
    assert status(box, mail) == "queued"


def test_purging_removes_what_is_settled_and_nothing_else(box: CommandLine) -> None:
    sent = enqueue(box)
    box("worker", "--until-empty")
    waiting = enqueue(box)
    assert box("outbox", "purge").code == 2
    assert box("outbox", "purge", "--until", "2020-01-01", "--yes").out == "removed: 0\n"
    assert box("outbox", "purge", "--yes", "--json").json == {"removed": 1}
    assert ids(box) == [waiting]
    assert box("outbox", "show", sent).code == 1


def test_an_outbox_can_be_made_before_there_is_a_message(box: CommandLine) -> None:
    place = box("outbox", "migrate", "--json").json["outbox"]
    assert box("outbox", "migrate").out == f"{place} is as this version needs it\n"
    assert box("outbox", "list", "--json").json == []


def test_compacting_says_what_the_file_took_and_takes(box: CommandLine) -> None:
    waiting = enqueue(box)
    assert re.fullmatch(r"\d+\.\d MiB before, \d+\.\d MiB now\n", box("outbox", "compact").out)
    answer = box("outbox", "compact", "--json").json
    assert answer["before"] >= answer["after"] > 0
    assert ids(box) == [waiting]


async def test_a_message_shows_its_attempts_and_what_may_be_done(command: CommandLine, sendgrid: HttpRecorder) -> None:
    sendgrid.answer(Answer(400, {"errors": [{"message": "no such template", "field": "template_id"}]}))
    message_id = await delivered(command)
    done = await command.beside("outbox", "show", message_id)
    for line in (f"id: {message_id}", "status: failed", "to: ann@example.org", "subject: Order 7", "account: mail"):
        assert line in done.out.splitlines()
    assert re.search(r"attempts:\n  started_at=\S+  account=mail  outcome=permanent  error=message_rejected", done.out)
    assert "created_at: " in done.out
    assert "settled_at: " in done.out
    assert done.err == f"to send it again: postroom outbox retry {message_id}\n"
    assert CANARY not in done.everything

    shown = (await command.beside("outbox", "show", message_id, "--json")).json
    assert shown["receipt"]["attempts"][0]["provider"] == "sendgrid"
    assert (shown["to"], shown["subject"], shown["events"]) == (["ann@example.org"], "Order 7", [])
    assert "message" not in shown


@pytest.mark.parametrize(("outcome", "now"), [("sent", "sent"), ("failed", "failed"), ("retry", "retrying")])
async def test_a_message_in_doubt_is_settled_by_hand(
    command: CommandLine, sendgrid: HttpRecorder, outcome: str, now: str
) -> None:
    sendgrid.answer(Drop("request"))
    message_id = await delivered(command)
    assert await asyncio.to_thread(ids, command, "--status", "in-doubt") == [message_id]
    shown = await command.beside("outbox", "show", message_id)
    assert f"postroom outbox resolve {message_id} sent|failed|retry" in shown.err

    done = await command.beside("outbox", "resolve", message_id, outcome, "--note", "asked Bob", "--json")
    assert (done.code, done.json["status"]) == (0, now)
    assert done.json["recipients"][0]["detail"] == "asked Bob"

    sendgrid.answer(Answer(202, b"", {"X-Message-Id": "S1"}))
    await command.deliver()
    assert len(sendgrid.requests) == (2 if outcome == "retry" else 1)
    again = await command.beside("outbox", "resolve", message_id, "sent")
    assert (again.code, "it must be in doubt" in again.err) == (1, True)


async def test_a_paused_account_is_shown_and_resumed_by_hand(command: CommandLine, sendgrid: HttpRecorder) -> None:
    sendgrid.answer(Answer(401, {"errors": [{"message": "bad key"}]}))
    message_id = await delivered(command)
    stats = await command.beside("outbox", "stats")
    assert re.search(r"mail/email\t1\tpaused until \S+: .*", stats.out)
    assert CANARY not in stats.everything
    in_json = (await command.beside("outbox", "stats", "--json")).json
    assert in_json["accounts"][0]["paused"] is True

    sendgrid.answer(Answer(202, b"", {"X-Message-Id": "S1"}))
    assert (await command.beside("outbox", "resume", "mail")).out == "mail is tried again now\n"
    assert (await command.beside("outbox", "retry", message_id)).code == 0
    await command.deliver()
    assert await asyncio.to_thread(status, command, message_id) == "sent"
    resumed = await command.beside("outbox", "resume", "mail", "--json")
    assert resumed.json == {"account": "mail", "resumed": False}


async def test_an_account_that_asked_for_time_is_shown_in_cooldown(
    command: CommandLine, sendgrid: HttpRecorder
) -> None:
    sendgrid.answer(Answer(429, {"errors": [{"message": "slow down"}]}, {"Retry-After": "600"}))
    await delivered(command)
    stats = await command.beside("outbox", "stats")
    assert re.search(r"mail/email\t1\tcooldown until \S+: .*", stats.out)


def test_stats_count_by_state_and_account(box: CommandLine) -> None:
    enqueue(box)
    enqueue(box, "+442079460958")
    box("worker", "--until-empty")
    waiting = enqueue(box, "+442079460958")
    found = box("outbox", "stats", "--json").json
    assert found["states"] == {"queued": 1, "sent": 2}
    assert found["waiting"] == [{"queue": "box/sms", "messages": 1}]
    assert found["oldest_waiting"]
    shown = box("outbox", "stats").out
    assert "queued\t1\n" in shown
    assert "box/sms\t1\tgood\n" in shown
    assert status(box, waiting) == "queued"


@on_a_file
def test_an_outbox_that_is_no_database_is_reported_with_the_next_step(box: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "postroom.db").write_text("no database at all" * 100)
    for command in (("list",), ("stats",), ("retry", "x")):
        done = box("outbox", *command)
        assert done.code == 1
        assert "name another file in [outbox] url" in done.everything
        assert "Traceback" not in done.everything


@on_a_file
def test_an_outbox_moves_with_a_line_for_each_transaction_and_comes_back(box: CommandLine) -> None:
    ids_before = [enqueue(box), enqueue(box, "+442079460958")]
    there = fresh_schema()
    done = box("outbox", "copy", "--to", there, "--at-once", "1")
    assert done.code == 0, done.err
    assert done.out.startswith("copied: ")
    assert [line for line in done.out.splitlines() if line.startswith("messages\t")] == ["messages\t2"]
    lines = done.err.splitlines()
    assert lines[:4] == ["marks: 1 of 2", "marks: 2 of 2", "messages: 1 of 2", "messages: 2 of 2"]
    refused = box("send", "email", "--to", "ann@example.org", "--text", "x", "--enqueue")
    assert refused.code == 1
    assert "this outbox was moved to postgresql://127.0.0.1:" in refused.err
    again = box("outbox", "copy", "--to", there, "--json").json
    assert (again["result"], again["rows"]) == ("was copied before", {})
    back = box("outbox", "copy", "--from", there, "--to", "sqlite:///postroom.db", "--json").json
    assert (back["result"], back["rows"]["messages"]) == ("copied", 2)
    assert ids(box) == ids_before[::-1]


@on_a_file
def test_a_gateway_does_not_start_on_an_outbox_that_was_moved(box: CommandLine) -> None:
    enqueue(box)
    assert box("outbox", "copy", "--to", "sqlite:///other.db").code == 0
    done = box("serve", "--port", "0")
    assert done.code == 1
    assert "this outbox was moved to" in done.err


@on_a_file
def test_what_cannot_be_copied_says_what_to_do(box: CommandLine) -> None:
    nothing = box("outbox", "copy", "--to", "sqlite:///other.db")
    assert (nothing.code, nothing.out) == (1, "")
    assert "there is no outbox at postroom.db; name the one to copy with --from" in nothing.err
    enqueue(box)
    wrong = {
        ("--to", "sqlite:///postroom.db"): "--to: names the place that is copied",
        ("--to", "mysql://db/mail"): "--to: must look like sqlite:///postroom.db",
        ("--to", "postgresql://me:secret@db/mail"): "--to: must hold no password",
        ("--from", "what", "--to", "sqlite:///other.db"): "--from: must look like",
    }
    for arguments, said in wrong.items():
        done = box("outbox", "copy", *arguments)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
    assert enqueue(box)


@on_a_file
def test_an_outbox_whose_other_place_is_lost_is_reopened_by_a_person(box: CommandLine) -> None:
    message_id = enqueue(box)
    assert "was not moved; there is nothing to reopen" in box("outbox", "reopen", "--yes").err
    assert box("outbox", "copy", "--to", "sqlite:///other.db").code == 0
    asked = box("outbox", "reopen")
    assert asked.code == 2
    assert "--yes: is needed to reopen without being asked: what was sent from" in asked.err
    assert box("outbox", "cancel", message_id).code == 1
    assert box("outbox", "reopen", "--yes", "--json").json["reopened"].endswith("postroom.db")
    assert box("outbox", "cancel", message_id).code == 0


@on_a_file
def test_the_key_of_a_file_becomes_the_variable_of_a_database(box: CommandLine) -> None:
    credentials = ("--option", f"account_sid=AC{'0' * 32}", "--option", f"auth_token={CANARY}")
    box.configure(f'{MEMORY}\n[accounts.texts]\nprovider = "twilio"\nfrom = "+15005550006"\n')
    enqueue(box, "+442079460958", "--provider", "texts", *credentials)
    there = fresh_schema()
    refused = box("outbox", "copy", "--to", there)
    assert (refused.code, refused.out) == (2, "")
    assert "or, where it has none, to the text of the file with the key beside the outbox" in refused.err
    assert enqueue(box)
    key = (box.folder / "postroom.db.key").read_text().strip()
    done = box("outbox", "copy", "--to", there, env={"POSTROOM_SECRET_KEY": key})
    assert done.code == 0, done.err
