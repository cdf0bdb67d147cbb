"""`postroom outbox …`: what is on its way, and what a person decides about it."""

from __future__ import annotations

from pathlib import Path
import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys

import pytest

from postroom.testing.http import Answer, Drop, HttpRecorder

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


@pytest.fixture
def box(cli, tmp_path: Path):
    """The command line over an account that takes everything."""
    (tmp_path / "postroom.toml").write_text(MEMORY)
    return cli


def enqueue(cli, to="ann@example.org", *more):
    words = ("--subject", "Order 7", "--text", CANARY) if "@" in to else ("--body", CANARY)
    done = cli("send", "email" if "@" in to else "sms", "--to", to, *words, "--enqueue", "--json", *more)
    assert done.code == 0, done.err
    assert done.json["status"] in {"queued", "scheduled"}
    return done.json["id"]


def ids(cli, *filters):
    return [line["id"] for line in cli("outbox", "list", "--json", *filters).json]


def status(cli, message_id):
    return cli("outbox", "show", message_id, "--json").json["receipt"]["status"]


@pytest.fixture
async def sendgrid(tmp_path: Path):
    """A provider that refuses, or hangs up, as the test says."""
    async with HttpRecorder() as server:
        (tmp_path / "postroom.toml").write_text(
            f"""
            [accounts.mail]
            provider = "sendgrid"
            api_key = "{CANARY}"
            base_url = "{server.url}"
            from = "post@example.org"
            """
        )
        yield server


async def delivered(cli):
    """Enqueue one e-mail, have it tried, and return its id."""
    message_id = await asyncio.to_thread(enqueue, cli)
    await asyncio.to_thread(cli, "worker", "--until-empty")
    return message_id


def test_listing_an_outbox_that_is_not_there_makes_none(box, tmp_path: Path) -> None:
    for command in (("list",), ("stats",), ("show", "x"), ("watch",), ("purge", "--yes")):
        done = box("outbox", *command)
        assert done.code == 1
        assert "there is no outbox at postroom.db" in done.err
        assert "--config" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["postroom.toml"]


def test_a_listing_shows_the_newest_first_and_neither_text_nor_credential(box) -> None:
    first = enqueue(box)
    second = enqueue(box, "+442079460958", "--option", f"token={CANARY}")
    done = box("outbox", "list")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert rows[0][:6] == ["id", "status", "channel", "account", "to", "subject"]
    assert rows[1][:6] == [second, "queued", "sms", "box", "+442079460958", ""]
    assert rows[2][:6] == [first, "queued", "email", "box", "ann@example.org", "Order 7"]
    for shown in (done, box("outbox", "list", "--json"), box("outbox", "show", second), box("outbox", "stats")):
        assert CANARY not in shown.everything


def test_every_filter_narrows_the_listing(box) -> None:
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


def test_every_mistake_says_what_to_do(box) -> None:
    message_id = enqueue(box)
    for arguments, (code, said) in WRONG.items():
        done = box("outbox", *arguments)
        assert (done.code, done.out) == (code, ""), arguments
        assert said in done.err
        in_json = box("outbox", *arguments, "--json")
        assert (in_json.code, in_json.err) == (code, "")
        assert said in in_json.json["message"]
    assert status(box, message_id) == "queued"


def test_one_message_is_held_let_go_cancelled_and_sent_again(box) -> None:
    message_id = enqueue(box)
    for command, now in (("hold", "held"), ("retry", "queued"), ("cancel", "cancelled"), ("retry", "queued")):
        done = box("outbox", command, message_id)
        assert (done.code, done.out) == (0, f"{now}: {message_id}\n")
        assert status(box, message_id) == now
    box("worker", "--until-empty")
    refused = box("outbox", "cancel", message_id, "unknown", "--json")
    assert refused.code == 1
    assert refused.json["changed"] == []
    assert [told["id"] for told in refused.json["refused"]] == [message_id, "unknown"]
    assert "cannot cancel a message that is sent" in refused.json["refused"][0]["message"]


def test_many_are_changed_by_what_they_have_in_common_once_that_is_confirmed(box) -> None:
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


@pytest.mark.parametrize(("answer", "left"), [("n", "queued"), ("y", "cancelled")])
def test_a_person_is_asked_before_many_are_changed(box, tmp_path: Path, clean_environment, answer, left) -> None:
    message_id = enqueue(box)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-W", "error", "-m", "postroom", "outbox", "cancel", "--channel", "email"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment, stdin=theirs, stderr=subprocess.PIPE
    ) as process:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        _, said = process.communicate(timeout=30)
    os.close(ours)
    assert b"cancel 1 message? [y/N]" in said
    assert process.returncode == (0 if answer == "y" else 1)
    assert status(box, message_id) == left


def test_purging_removes_what_is_settled_and_nothing_else(box) -> None:
    sent = enqueue(box)
    box("worker", "--until-empty")
    waiting = enqueue(box)
    assert box("outbox", "purge").code == 2
    assert box("outbox", "purge", "--until", "2020-01-01", "--yes").out == "removed: 0\n"
    assert box("outbox", "purge", "--yes", "--json").json == {"removed": 1}
    assert ids(box) == [waiting]
    assert box("outbox", "show", sent).code == 1


async def test_a_message_shows_its_attempts_and_what_may_be_done(cli, sendgrid) -> None:
    sendgrid.answer(Answer(400, {"errors": [{"message": "no such template", "field": "template_id"}]}))
    message_id = await delivered(cli)
    done = await asyncio.to_thread(cli, "outbox", "show", message_id)
    for line in (f"id: {message_id}", "status: failed", "to: ann@example.org", "subject: Order 7", "account: mail"):
        assert line in done.out.splitlines()
    assert re.search(r"attempts:\n  started_at=\S+  account=mail  outcome=permanent  error=message_rejected", done.out)
    assert "created_at: " in done.out
    assert "settled_at: " in done.out
    assert done.err == f"to send it again: postroom outbox retry {message_id}\n"
    assert CANARY not in done.everything

    shown = (await asyncio.to_thread(cli, "outbox", "show", message_id, "--json")).json
    assert shown["receipt"]["attempts"][0]["provider"] == "sendgrid"
    assert (shown["to"], shown["subject"], shown["events"]) == (["ann@example.org"], "Order 7", [])
    assert "message" not in shown


@pytest.mark.parametrize(("outcome", "now"), [("sent", "sent"), ("failed", "failed"), ("retry", "retrying")])
async def test_a_message_in_doubt_is_settled_by_hand(cli, sendgrid, outcome, now) -> None:
    sendgrid.answer(Drop("request"))
    message_id = await delivered(cli)
    assert await asyncio.to_thread(ids, cli, "--status", "in-doubt") == [message_id]
    shown = await asyncio.to_thread(cli, "outbox", "show", message_id)
    assert f"postroom outbox resolve {message_id} sent|failed|retry" in shown.err

    done = await asyncio.to_thread(cli, "outbox", "resolve", message_id, outcome, "--note", "asked Bob", "--json")
    assert (done.code, done.json["status"]) == (0, now)
    assert done.json["recipients"][0]["detail"] == "asked Bob"

    sendgrid.answer(Answer(202, b"", {"X-Message-Id": "S1"}))
    await asyncio.to_thread(cli, "worker", "--until-empty")
    assert len(sendgrid.requests) == (2 if outcome == "retry" else 1)
    again = await asyncio.to_thread(cli, "outbox", "resolve", message_id, "sent")
    assert (again.code, "it must be in doubt" in again.err) == (1, True)


async def test_a_paused_account_is_told_and_resumed_by_hand(cli, sendgrid) -> None:
    sendgrid.answer(Answer(401, {"errors": [{"message": "bad key"}]}))
    message_id = await delivered(cli)
    stats = await asyncio.to_thread(cli, "outbox", "stats")
    assert re.search(r"mail/email\t1\tpaused until \S+: .*", stats.out)
    assert CANARY not in stats.everything
    in_json = (await asyncio.to_thread(cli, "outbox", "stats", "--json")).json
    assert in_json["accounts"][0]["paused"] is True

    sendgrid.answer(Answer(202, b"", {"X-Message-Id": "S1"}))
    assert (await asyncio.to_thread(cli, "outbox", "resume", "mail")).out == "mail is tried again now\n"
    assert (await asyncio.to_thread(cli, "outbox", "retry", message_id)).code == 0
    await asyncio.to_thread(cli, "worker", "--until-empty")
    assert await asyncio.to_thread(status, cli, message_id) == "sent"
    resumed = await asyncio.to_thread(cli, "outbox", "resume", "mail", "--json")
    assert resumed.json == {"account": "mail", "resumed": False}


def test_stats_count_by_state_and_account(box) -> None:
    enqueue(box)
    enqueue(box, "+442079460958")
    box("worker", "--until-empty")
    waiting = enqueue(box, "+442079460958")
    told = box("outbox", "stats", "--json").json
    assert told["states"] == {"queued": 1, "sent": 2}
    assert told["waiting"] == [{"queue": "box/sms", "messages": 1}]
    assert told["oldest_waiting"]
    shown = box("outbox", "stats").out
    assert "queued\t1\n" in shown
    assert "box/sms\t1\tgood\n" in shown
    assert status(box, waiting) == "queued"


def watching(folder, environment, stdout, *arguments):
    command = [sys.executable, "-W", "error", "-m", "postroom", "outbox", "watch", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=stdout, stderr=subprocess.PIPE)


def test_watching_writes_a_line_for_each_change_and_ends_with_ctrl_c(box, tmp_path: Path, clean_environment) -> None:
    enqueue(box)
    with watching(tmp_path, clean_environment, subprocess.PIPE) as process:
        assert b"workers=0 queued=1" in process.stdout.readline()
        enqueue(box)
        assert b"workers=0 queued=2" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr.read() == b""


def test_watching_answers_in_lines_of_json(box, tmp_path: Path, clean_environment) -> None:
    enqueue(box)
    with watching(tmp_path, clean_environment, subprocess.PIPE, "--json") as process:
        assert json.loads(process.stdout.readline())["states"] == {"queued": 1}
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_watching_draws_on_a_terminal(box, tmp_path: Path, clean_environment) -> None:
    enqueue(box)
    ours, theirs = pty.openpty()
    with watching(tmp_path, {**clean_environment, "TERM": "xterm"}, theirs) as process:
        os.close(theirs)
        seen = b""
        while b"workers" not in seen:
            assert select.select([ours], [], [], 10)[0], seen
            seen += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    os.close(ours)
    assert re.search(rb"queued\s+1", seen)
    assert re.search(rb"waiting for box/email\s+1", seen)


def test_an_outbox_that_is_no_database_is_told_with_the_next_step(box, tmp_path: Path) -> None:
    (tmp_path / "postroom.db").write_text("no database at all" * 100)
    for command in (("list",), ("stats",), ("retry", "x")):
        done = box("outbox", *command)
        assert done.code == 1
        assert "name another file in [outbox] url" in done.everything
        assert "Traceback" not in done.everything
