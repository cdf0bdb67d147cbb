"""An SMTP server on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.testing.conformance.fake_provider import FakeProvider
from postroom.testing.conformance.scenarios import Scenario
from postroom.testing.conformance.text_extraction import mime_texts
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from postroom.testing.smtp import RecordedMessage

_NEVER = 3600.0


class FakeSmtpProvider(FakeProvider["RecordedMessage"]):
    """A server that asks for `username` and `password`; `host` and `port` are for the account's settings."""

    retry_after = None
    host = "127.0.0.1"
    username = "kit"
    password = "kit-password-never-to-be-shown"  # noqa: S105 - made up, for a loopback server

    def __init__(self) -> None:
        super().__init__()
        self._recorder = SmtpRecorder(auth={self.username: self.password})
        self.sent = self._recorder.messages

    @property
    def port(self) -> int:
        return self._recorder.port

    def server(self) -> AbstractAsyncContextManager[object]:
        return self._recorder

    def play(self, scenario: Scenario, *, to: str = "") -> None:
        self._recorder.steps.clear()
        if to:
            self._recorder.reply("rcpt", "550 5.1.1 No such mailbox", match=f"<{to}>")
        else:
            self._play(scenario)

    def answer_after(self, seconds: float, *, to: str = "") -> None:
        self._recorder.delay("rcpt", seconds, match=to)

    @property
    def tries(self) -> int:
        begun = sum(command.upper().startswith("MAIL") for command in self._recorder.commands)
        return max(begun, self._recorder.connections)

    def texts(self, sent: RecordedMessage) -> list[str]:
        envelope = [sent.sender, *sent.recipients, sent.mail_options, *sent.rcpt_options]
        return [*envelope, *mime_texts(sent.data)]

    def recipients(self, sent: RecordedMessage) -> str:
        return "\n".join(sent.recipients)

    def credentials(self, sent: RecordedMessage) -> list[str]:
        del sent
        given = [command.split() for command in self._recorder.commands if command.upper().startswith("AUTH")]
        return [words[2] for words in given if len(words) > 2]

    def identifier(self, sent: RecordedMessage) -> str | None:
        """The Message-ID: what servers call a message themselves is not for its sender."""
        lines = sent.data.partition(b"\r\n\r\n")[0].decode("utf-8", "replace").splitlines()
        return next((line[11:].strip() for line in lines if line.lower().startswith("message-id:")), None)

    async def _arrived(self, count: int) -> None:
        await self._recorder.until("dot", count)

    def _play(self, scenario: Scenario) -> None:
        server = self._recorder
        if scenario in _REPLIES:
            server.reply(*_REPLIES[scenario])
        elif scenario in _DROPS:
            stage, reset, farewell = _DROPS[scenario]
            server.drop(stage, reset=reset, farewell=farewell)
        elif scenario is Scenario.SILENT:
            server.delay("dot", _NEVER)
        elif scenario is Scenario.REJECTED_WITH_ECHO:
            server.reply("mail", f"550 5.7.1 {self.username} with {self.password} may not send this")


_REPLIES: dict[Scenario, tuple[str, str]] = {
    Scenario.UNAUTHORISED: ("auth", "535 5.7.8 Authentication credentials invalid"),
    Scenario.FORBIDDEN: ("mail", "550 5.7.1 You may not send as this sender"),
    Scenario.TOO_LARGE: ("mail", "552 5.3.4 Message too big"),
    Scenario.RATE_LIMITED: ("mail", "450 4.7.1 Too many messages, try again later"),
    Scenario.REJECTED: ("dot", "554 5.6.0 The message is not acceptable"),
    Scenario.SERVER_ERROR: ("dot", "451 4.3.0 Something went wrong"),
    Scenario.UNAVAILABLE: ("connect", "421 4.3.2 Closing for maintenance"),
    Scenario.CAPTIVE_PORTAL: ("dot", "<html><body>Welcome to the hotel's network</body></html>"),
}
_DROPS: dict[Scenario, tuple[str, bool, bytes | None]] = {
    Scenario.RESET_ON_CONNECT: ("connect", True, None),
    Scenario.CLOSED_AFTER_READ: ("dot", False, None),
    Scenario.RESET_AFTER_READ: ("dot", True, None),
    Scenario.GATEWAY_PAGE: ("dot", False, b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html></html>\r\n"),
    Scenario.EMPTY_SUCCESS: ("dot", False, b"\r\n"),
    Scenario.TRUNCATED_SUCCESS: ("dot", False, b"250 2.0.0 O"),
}
