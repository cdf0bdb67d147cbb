"""`postroom demo`: every provider that brings a demonstration, on this machine alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import CommandLine, Site

FIFTH = """
import json
from postroom.plugin import Capabilities, HttpAccountSettings, hookimpl
from postroom.plugin.demonstration import Arrival, digits
from postroom.plugin.http import HttpSmsTransport
from postroom.receipts import Accepted, Channel
from postroom.testing.demonstration import HttpDemonstration
from postroom.testing.http import Answer


class FifthSettings(HttpAccountSettings):
    provider: str = "fifth"


class FifthSms(HttpSmsTransport[FifthSettings]):
    settings_model = FifthSettings
    capabilities = Capabilities(max_recipients=1)

    async def send(self, sms, /):
        body = json.dumps({"to": sms.to[0], "from": sms.from_, "text": sms.body[:LENGTH]}).encode()
        reply = await self.request("POST", f"{self.base_url}/sms", headers={}, body=body, content_type="text/json")
        return Accepted(provider_message_id=reply.json_object()["id"])


class FifthDemonstration(HttpDemonstration):
    title = "Fifth"
    channel = Channel.SMS

    def account(self):
        return {"base_url": self.url}

    def answer(self, request):
        return Answer(200, {"id": f"fifth-{self.next_number()}"})

    def arrival(self, request):
        fields = request.json()
        return Arrival(digits(fields["from"]), digits(fields["to"]), fields["text"])


@hookimpl
def postroom_sms_transport():
    return FifthSms


@hookimpl
def postroom_demonstrations():
    return [FifthDemonstration()]
"""


def test_every_provider_is_shown_and_it_ends_well(command: CommandLine) -> None:
    done = command("demo")
    assert done.code == 0, done.everything
    for word in ("SMTP", "SendGrid", "Twilio", "Vonage Messages API", "Vonage SMS API", "in_doubt, outcome_unknown"):
        assert word in done.out
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert sum(row[-1].startswith("sent (") for row in rows) == 16
    assert sum(row[0] == "0" for row in rows) == 1
    assert "as AC81caaa94b3b84bb7ba9c3cd96bcb152a" in done.out
    assert "Everything arrived as meant." in done.out


def test_what_keeps_it_from_running_is_named(command: CommandLine) -> None:
    done = command("demo", env={"POSTROOM_PLUGINS": "smtp"})
    assert done.code == 2
    assert "POSTROOM_PLUGINS" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_fifth_provider_joins_by_its_own_demonstration(
    command: CommandLine, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("a-fifth", providers={"fifth": "fifth_whole"}, modules={"fifth_whole": FIFTH.replace("LENGTH", "99")})
    monkeypatch.syspath_prepend(str(site.folder))
    done = command("demo")
    assert done.code == 0, done.everything
    assert "Fifth: one message, then a batch of two" in done.out
    assert "POST /sms\tsent (fifth accepted) as fifth-3" in done.out


def test_what_does_not_arrive_as_it_was_meant_is_shown_and_exits_with_one(
    command: CommandLine, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("a-fifth", providers={"fifth": "fifth_cut"}, modules={"fifth_cut": FIFTH.replace("LENGTH", "2")})
    monkeypatch.syspath_prepend(str(site.folder))
    done = command("demo")
    assert done.code == 1
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[2] for row in rows if "NOT AS MEANT" in row] == ["NOT AS MEANT"] * 3
    assert [row[2] for row in rows if row[-1] == "NOT MEANT"] == ["He"] * 3
    assert "Not everything arrived as meant" in done.out


def test_a_provider_that_is_broken_is_left_out_and_named(
    command: CommandLine, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("a-fifth", providers={"fifth": "fifth_broken"}, modules={"fifth_broken": "raise RuntimeError('no')"})
    monkeypatch.syspath_prepend(str(site.folder))
    done = command("demo")
    assert done.code == 0, done.everything
    assert "left out: provider 'fifth'" in done.err
