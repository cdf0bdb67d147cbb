"""`postroom demo`: every provider, on this machine alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import CommandLine


def test_the_demo_shows_every_provider_and_ends_well(command: CommandLine) -> None:
    done = command("demo")
    assert done.code == 0, done.everything
    for word in ("SMTP", "SendGrid", "Twilio", "Vonage Messages API", "Vonage SMS API", "in_doubt, outcome_unknown"):
        assert word in done.out
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert sum(row[-1].startswith("sent (") for row in rows) == 16
    assert sum(row[0] == "0" for row in rows) == 1
    assert "as AC81caaa94b3b84bb7ba9c3cd96bcb152a" in done.out
    assert "Everything arrived as meant." in done.out


def test_the_demo_names_what_keeps_it_from_running(command: CommandLine) -> None:
    done = command("demo", env={"POSTROOM_PLUGINS": "smtp"})
    assert done.code == 2
    assert "POSTROOM_PLUGINS" in done.err
    assert len(done.err.splitlines()) == 1
