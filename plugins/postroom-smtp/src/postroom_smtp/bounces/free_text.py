"""Bounces in words alone, as servers wrote them before RFC 3464 and some still do: hints, with how sure they are.

There is no form that all keep to, so nothing here proves that an address is dead, whatever the words: no event is
permanent. A hint of high confidence comes from a mail server by its own fixed phrases, and names a recipient where
these do; a lower one changes nothing, and is there to be looked at.
"""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from postroom.events import Event, EventType
from postroom_smtp.bounces.diagnostics import LONGEST_TEXT, diagnose, refused_late
from postroom_smtp.bounces.fields import addresses
from postroom_smtp.status_codes import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from postroom_smtp.bounces.parts import Mail

MOST_RECIPIENTS = 100
MOST_LINES = 400
LONGEST_LINE = 500
"""What is looked at of the words: a bounce of 1998 has thirty lines."""


class Confidence(StrEnum):
    """How sure a hint is: high counts as a bounce that may pass, low as nothing."""

    HIGH = "high"
    LOW = "low"


class _Line(NamedTuple):
    """A recipient, and where the words name them."""

    address: str
    number: int


_PHRASES = re.compile(
    r"qmail-send program|wasn't able to deliver|automatically by mail delivery software|"
    r"this is the (?:postfix program|mail system) at|following addresses had|transcript of session follows|"
    r"did not reach the following|delivery has failed to these|did not reach some or all|was not delivered to|"
    r"not listed in domino directory|failure reasons|unable to deliver (?:your |the )?(?:message|mail)|"
    r"failed addresses follow|error has occurred while (?:attempting|trying) to deliver|"
    r"delivery to the following|following (?:address(?:es)?|recipients?|destination|address\(es\)|recipient\(s\))|"
    r"could ?n(?:o|')t be delivered|undeliverable|returned (?:mail|to sender)|delivery (?:status )?notification|"
    r"failed to deliver|cannot be delivered|can't be delivered|not delivered|unknown user:|delivery fail|"
    r"nicht zugestellt|konnte nicht|non remis|n'a pas pu|no se (?:ha podido|pudo) entregar|non (?:è stato|recapitat)|"
    r"mail server message|server message|user\(s\) account is|has been rejected|message (?:was )?rejected|"
    r"your message was|message was not|permanent error|(?:have|has) been delayed|still being retried|delivery report",
    re.IGNORECASE,
)
"""Words of servers: qmail, Exim and GMX, Postfix, Sendmail, Exchange, Outlook.com, Domino, Notes, Yahoo, T-Online, …"""

_SUBJECT = re.compile(
    r"undeliver|deliver\w* (?:\w+ ){0,2}(?:fail|status|problem|error|notif|report|delay|incomplete)|"
    r"returned (?:mail|to)|"
    r"fail\w* (?:\w+ ){0,2}(?:notice|deliver|mail)|could not (?:be delivered|send)|unzustell|nicht zugestellt|"
    r"non remis|non recapit|no entregad|nondeliver|non-deliver|mail (?:system|delivery|could|error)|user unknown|"
    r"message delayed|message (?:could|status|delivery)|^warning|^delayed|rejected|bounce",
    re.IGNORECASE,
)
_DAEMONS = re.compile(
    r"(?:mailer|mail|delivery)[\-_.]?daemon|post-?master|mail-?system|no-?reply-?dsn|mdaemon|bounces?\b", re.IGNORECASE
)
_RETURNED = re.compile(
    r"^[ \t>|*=_\-]*(?:(?:this is |below (?:this line )?is |the )?(?:a copy of|(?:the )?(?:headers? of )?the original|"
    r"original|returned|unsent|undelivered|message|mail) (?:the |your )?(?:message|mail|header|text|body|log)s?\b"
    r".{0,80}(?:-{2,}|:|follows?\.?|\*)\s*$|received: |return-path: |message-id: )",
    re.IGNORECASE,
)
_RECIPIENT = re.compile(
    r"^[\s>*|'\"(\[<+\-]{0,20}(?:[a-z][a-z \-()'_/]{0,60}(?:[:=]|\bto|\bfor|\buser|\baddress|\brecipient|\bmail)\s*)?"
    r"[<\"'(\[]{0,3}(?:smtp:|mailto:|rfc822;\s*)?([^\s<>()\[\],;:\"'=]{1,64}@[^\s<>()\[\],;:\"']{1,200}[a-z0-9])"
    r"(?=[^\w.@\-]|\.\W|\.?$)",
    re.IGNORECASE,
)
_OF_THE_MESSAGE = re.compile(r"[\s>*|]{0,20}(?:to|cc|from|reply-to|sender|sent by)\s?:", re.IGNORECASE)
"""A line that shows the message, not who failed: with `To` all of its recipients stand there."""

_ANYWHERE = re.compile(
    r"[<(\[\"'\s:]([^\s<>()\[\],;:\"'=]{1,64}@[a-z0-9\-.]{1,200}[a-z0-9])(?=[^\w@\-]|$)", re.IGNORECASE
)
_DELAYED = re.compile(
    r"will (?:\w+ ){0,3}(?:be )?(?:try|retr|continue|keep|attempt)|still being|not yet been|(?:have|has) been delayed|"
    r"delivery (?:\w+ ){0,2}delayed|need not|do not need to|don't need to|no action is required|warning message only|"
    r"delivery incomplete|temporary (?:problem|error) delivering",
    re.IGNORECASE,
)
_OF_AN_ABSENT_PERSON = re.compile(
    r"auto-?repl|out of (?:the )?office|vacation|abwesen|on holiday|automatic reply", re.IGNORECASE
)


def hints(about: dict[str, Any], mail: Mail) -> Iterator[Event]:
    """Yield what the words of a mail seem to say of each recipient; nothing for a mail that is no bounce."""
    if not _of_a_server(mail):
        return
    lines = _notice(mail.words)
    words = "\n".join(lines)
    failed = _in_header(mail)
    phrase = _PHRASES.search(f"{mail.field('Subject')}\n{words}")
    named = _named(mail, ["" if _OF_THE_MESSAGE.match(line) else line for line in lines])
    late = bool(_DELAYED.search(words))
    sure = bool(failed) or (phrase is not None and bool(named) and _by_daemon(mail))
    for recipient, text in list(_each_with_text(mail, lines, failed, named or _named(mail, lines)))[:MOST_RECIPIENTS]:
        found = diagnose("", text, refused=True, late=refused_late(text))
        if found.cause is Cause.UNSAID:
            found = diagnose("", words, refused=True)
        if not (phrase or failed) and found.cause is Cause.UNSAID and not found.code:
            continue
        of = EventType.DEFERRED if late else EventType.BOUNCED
        yield Event(
            **about,
            **mail.when,
            type=of if sure else EventType.OTHER,
            recipient=recipient,
            code=found.code,
            detail=" ".join(text.split())[:LONGEST_TEXT] or mail.field("Subject") or None,
            raw={
                "confidence": (Confidence.HIGH if sure else Confidence.LOW).value,
                "cause": found.cause.value,
                "delayed": late,
            },
        )


def _in_header(mail: Mail) -> list[str]:
    """Whom Exim names in a field of its own, and others after it."""
    return [address for value in mail.every("X-Failed-Recipients") for address in addresses(value)]


def _of_a_server(mail: Mail) -> bool:
    subject = mail.field("Subject")
    if _OF_AN_ABSENT_PERSON.search(subject) and not _SUBJECT.search(subject):
        return False
    return bool(_by_daemon(mail) or _SUBJECT.search(subject) or "X-Failed-Recipients" in mail.whole)


def _by_daemon(mail: Mail) -> bool:
    """Whether nobody is to answer it (RFC 5321 section 4.5.5), or a server's own name stands in its From."""
    empty = any(value in {"<>", ""} for value in mail.every("Return-Path"))
    return empty or bool(_DAEMONS.search((mail.sender or mail.field("From")).partition("@")[0]))


def _notice(words: str) -> list[str]:
    """The lines before the message that is returned."""
    kept: list[str] = []
    for line in islice(words.splitlines(), MOST_LINES):
        if _RETURNED.match(line[:LONGEST_LINE]) and any(each.strip() for each in kept):
            break
        kept.append(line[:LONGEST_LINE])
    return kept


def _named(mail: Mail, lines: Sequence[str]) -> list[_Line]:
    """Who stands where servers name a recipient, at the beginning of a line; else who stands anywhere in the words."""
    for pattern in (_RECIPIENT, _ANYWHERE):
        found = [
            _Line(match.rstrip("."), number)
            for number, line in enumerate(lines)
            for match in pattern.findall(f" {line}" if pattern is _ANYWHERE else line)
        ]
        others = [
            each for each in found if each.address.lower() not in mail.sent_from and not _DAEMONS.match(each.address)
        ]
        if others:
            ours = [each for each in others if each.address.lower() in mail.sent_to]
            return ours or others
    return [each for each in found if each.address.lower() in mail.sent_to]


def _each_with_text(
    mail: Mail, lines: Sequence[str], failed: Sequence[str], named: Sequence[_Line]
) -> Iterator[tuple[str, str]]:
    """Each recipient, with the lines that stand behind their name up to the next one's."""
    first: dict[str, _Line] = {}
    for each in named:
        first.setdefault(each.address.lower(), each)
    starts = sorted({each.number for each in first.values()})
    after = dict(pairwise([*starts, len(lines)]))
    wanted = {address.lower(): address for address in failed} or {
        address: each.address for address, each in first.items()
    }
    if not wanted and len(mail.sent_to) == 1:
        wanted = {address: address for address in mail.sent_to}
    for address, written in wanted.items():
        at = first.get(address)
        part = lines[at.number : after[at.number]] if at else lines
        yield written, "\n".join(part)
