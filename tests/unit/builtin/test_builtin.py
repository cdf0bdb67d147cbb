"""The transports that need no provider: console, file, memory."""

from __future__ import annotations

import email.policy
import json
import threading
import time
from collections.abc import Coroutine
from email.parser import BytesParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom import Attachment, Email, Postroom, ProviderUnavailable, Sms, Status
from postroom.mime import to_bytes

if TYPE_CHECKING:
    from tests.conftest import Site


NUMBER = "+442079460958"


def an_email(**more: Any) -> Email:
    return Email(**{"to": "Ann <ann@example.org>", "subject": "Hello", "text": "Good morning", **more})


def room_of(provider: str, **settings: Any) -> Postroom:
    return Postroom(accounts={"a": {"provider": provider, "from": "post@example.org", **settings}})


def texting(provider: str, **settings: Any) -> Postroom:
    return Postroom(accounts={"a": {"provider": provider, "from": "+15005550006", **settings}})


async def time_of(work: Coroutine[Any, Any, object]) -> float:
    begun = time.thread_time()
    await work
    return time.thread_time() - begun


class TestConsole:
    async def test_shows_what_a_person_wants_to_see(self, capsys: pytest.CaptureFixture[str]) -> None:
        attachment = Attachment(filename="plan.pdf", content=b"12345")
        async with room_of("console") as room:
            receipt = await room.send(an_email(cc="c@example.org", bcc="d@example.org", attachments=[attachment]))
        shown = capsys.readouterr()
        assert shown.out == ""
        for line in (
            f"e-mail {receipt.id}",
            "  from: post@example.org",
            "  to: Ann <ann@example.org>",
            "  cc: c@example.org",
            "  bcc: d@example.org",
            "  subject: Hello",
            "  attachment: plan.pdf (application/pdf, 5 bytes)",
            "Good morning",
        ):
            assert line in shown.err.splitlines()

    async def test_counts_the_segments_of_an_sms(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with texting("console") as room:
            await room.send(Sms(to=NUMBER, body="é" * 161 + "你"))
        assert "  segments: 3 (ucs2)" in capsys.readouterr().err.splitlines()

    @given(body=st.text(min_size=1, max_size=60).filter(lambda text: "\0" not in text))
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_prints_no_control_character(self, body: str, capsys: pytest.CaptureFixture[str]) -> None:
        import asyncio

        async def work() -> None:
            async with texting("console") as room:
                await room.send(Sms(to=NUMBER, body=body))

        capsys.readouterr()
        asyncio.run(work())
        shown = capsys.readouterr().err
        assert all(character.isprintable() or character in "\n\t" for character in shown)

    async def test_keeps_messages_sent_together_apart(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with texting("console") as room:
            await room.send_many([Sms(to=NUMBER, body=f"first {n}\nsecond {n}") for n in range(20)])
        blocks = capsys.readouterr().err.split("-" * 40 + "\n")[:-1]
        assert len(blocks) == 20
        for block in blocks:
            *_, first, second = block.splitlines()
            assert first.removeprefix("first ") == second.removeprefix("second ")


class TestMemory:
    async def test_keeps_messages_in_order_and_per_room(self) -> None:
        async with texting("memory") as room, texting("memory") as other:
            receipts = await room.send_many([Sms(to=NUMBER, body=str(n)) for n in range(5)], at_once=1)
            assert [message.body for message in room.memory] == list("01234")  # type: ignore[attr-defined]
            assert [message.id for message in room.memory] == [receipt.id for receipt in receipts]  # type: ignore[union-attr]
            assert other.memory == []

    async def test_takes_everything_a_message_can_ask_for(self) -> None:
        async with room_of("memory") as room:
            receipt = await room.send(
                an_email(html="<p>x", tags=["a"], metadata={"k": "v"}, template="t", priority="high")
            )
        assert receipt.status is Status.SENT
        assert room.memory[0].html == "<p>x"  # type: ignore[attr-defined]


class TestFile:
    async def test_writes_an_email_as_it_would_travel_with_its_envelope(self, tmp_path: Path) -> None:
        folder = tmp_path / "new" / "post"
        async with room_of("file", path=str(folder)) as room:
            receipt = await room.send(an_email(bcc="hidden@example.org", html="<p>Grüße"))
        (path,) = folder.iterdir()
        assert path.name == f"{receipt.id}.eml" == receipt.provider_message_id
        found = BytesParser(policy=email.policy.SMTP).parsebytes(path.read_bytes())
        assert found.get_all("X-Envelope-To") == ["ann@example.org", "hidden@example.org"]
        assert found["X-Envelope-From"] == "post@example.org"
        assert found["Bcc"] is None
        assert found["Message-ID"] == receipt.message_id
        assert found.get_body(("html",)).get_content().strip() == "<p>Grüße"  # type: ignore[union-attr]

    async def test_others_go_on_while_a_large_email_is_written(self, tmp_path: Path) -> None:
        """In processor time of the loop's thread, against what the same takes where it is written."""
        large = an_email(from_="post@example.org", attachments=[Attachment(filename="a", content=bytes(8_000_000))])
        async with room_of("file", path=str(tmp_path)) as room:
            await room.send(an_email())
            taken = [await time_of(room.send(large)) for _ in range(5)]
        begun = time.thread_time()
        to_bytes(large)
        assert min(taken) < (time.thread_time() - begun) / 4

    async def test_writes_an_sms_without_its_credentials(self, tmp_path: Path) -> None:
        async with texting("file", path=str(tmp_path)) as room:
            await room.send(Sms(to=NUMBER, body="hello"))
        (path,) = tmp_path.iterdir()
        found = json.loads(path.read_text())
        assert (found["to"], found["body"], found["from"]) == ([NUMBER], "hello", "+15005550006")
        assert "options" not in found

    async def test_a_reader_never_sees_half_a_message(self, tmp_path: Path) -> None:
        stop, torn = threading.Event(), []

        def watch() -> None:
            while not stop.is_set():
                for path in tmp_path.glob("*.json"):
                    try:
                        json.loads(path.read_text())
                    except ValueError:
                        torn.append(path)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            async with texting("file", path=str(tmp_path)) as room:
                await room.send_many([Sms(to=NUMBER, body="x" * 50_000) for _ in range(50)])
        finally:
            stop.set()
            watcher.join()
        assert torn == []
        assert len(list(tmp_path.iterdir())) == 50

    async def test_a_folder_that_cannot_be_is_a_clear_error_for_now(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("a file")
        folder = tmp_path / "taken" / "post"
        async with texting("file", path=str(folder)) as room:
            with pytest.raises(ProviderUnavailable, match=r"a: cannot write .*Not a directory.*then send again"):
                await room.send(Sms(to=NUMBER, body="x"))
            assert not (await room.check())["a (sms)"].ok  # type: ignore[union-attr]

    def test_a_full_disk_is_a_clear_error_and_leaves_no_part(self, site: Site) -> None:
        told = site.python(
            """
            import asyncio, json, os, resource, signal, sys
            sys.dont_write_bytecode = True  # cut off at the limit, it would be there for whoever imports next
            from postroom import Postroom, ProviderUnavailable, Sms
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            async def main():
                async with Postroom(accounts={"a": {"provider": "file", "path": "post"}}) as room:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
                    try:
                        await room.send(Sms(to="+442079460958", body="x" * 5000))
                    except ProviderUnavailable as error:
                        return [str(error), error.outcome, os.listdir("post")]
            print(json.dumps(asyncio.run(main())))
            """
        )
        message, outcome, left = told
        assert "cannot write post/" in message
        assert "File too large" in message
        assert (outcome, left) == ("transient", [])

    async def test_a_folder_that_cannot_be_is_a_clear_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        async with texting("file", path=str(tmp_path / "file" / "folder")) as room:
            with pytest.raises(ProviderUnavailable, match="Not a directory"):
                await room.send(Sms(to=NUMBER, body="x"))

    async def test_checks_the_folder_without_making_it(self, tmp_path: Path) -> None:
        async with texting("file", path=str(tmp_path / "new")) as room:
            reports = await room.check()
        assert all(report.ok for report in reports.values())  # type: ignore[union-attr]
        assert list(tmp_path.iterdir()) == []

    async def test_is_reached_by_url(self, tmp_path: Path) -> None:
        async with Postroom.from_urls(sms=f"file://{tmp_path}") as room:
            await room.send(Sms(to=NUMBER, body="x"))
        assert len(list(tmp_path.iterdir())) == 1
