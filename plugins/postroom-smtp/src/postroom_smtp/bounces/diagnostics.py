"""Diagnostic texts: what a server's reply, or its words, say of why a mail was not delivered.

A report calls an address dead only where nothing in it says otherwise: servers give 5.1.1 to spam and full mailboxes
too, and say so in their words alone. What a mailbox that does not exist is called differs by server; the phrases are
those of the servers themselves.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from postroom_smtp.status_codes import Cause, cause_of

LONGEST_TEXT = 2000
"""Characters of a text that are looked at."""

_ENHANCED = re.compile(r"(?<![\w.\-])[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![\w\-]|\.[0-9])")
_REPLY = re.compile(
    r"(?:^|[:;(\[>'\"#=]|\b(?:error|code|said|status|smtp|reply|response))\s{0,3}([245][0-9]{2})(?=[ \-#:<]|$)"
)
_NOT_WORDS = re.compile(r"<[^<>]*>|[^\s<>@]{1,64}@[^\s<>@]{1,255}")
_AFTER_DATA = re.compile(
    r"(?:in reply to|after|in response to) (?:the )?end of data|>>> (?:DATA|\.)|after DATA|DATA command", re.IGNORECASE
)

_SAID: dict[Cause, str] = {
    Cause.SENDER: (
        r"sender address|domain of sender|sender(?:'s)? domain|sender verif|sender (?:was )?rejected|sender denied|"
        r"unverified sender|from address|return path|\bmail from\b.{0,40}(?:denied|reject|invalid)|"
        r"reverse (?:dns|lookup)|"
        r"\bptr\b|\bspf\b|\bdkim\b|\bdmarc\b|\bhelo\b|\behlo\b|authentication (?:is )?required|"
        r"not (?:logged in|authenticated)|unauthenticated"
    ),
    Cause.MAILBOX: (
        r"(?:mailbox|inbox|mail ?box|account|user|recipient)\S{0,3} (?:is |has been |storage |size )?(?:full|over)\b|"
        r"over ?quota|quota (?:is )?(?:exceed|full|limit|violat)|exceed\w* (?:\w+ ){0,3}(?:quota|storage)|disk quota|"
        r"(?:not enough|insufficient|out of|no) (?:\w+ ){0,2}(?:storage|space|disk)|storage allocation|"
        r"mailbox (?:size )?(?:limit|exceed)|too many messages|(?:account|mailbox|user|address)\S{0,2} (?:\w+ ){0,8}?"
        r"(?:disabled|inactive|deactivated|suspended|discontinued|locked|frozen)|"
        r"receiving (?:mail|messages) (?:at a rate|too)"
    ),
    Cause.MESSAGE: (
        r"(?:message|mail|size|attachment)\S{0,2} (?:\w+ ){0,3}(?:too (?:large|big|long)|exceed)|too (?:large|big) |"
        r"size limit|exceed\w* (?:\w+ ){0,3}(?:message )?size|\bvirus\b|illegal attachment|message headers? "
        r"(?:fail|invalid)|bare (?:lf|cr)|mime error"
    ),
    Cause.POLICY: (
        r"\bspam|junk|unsolicited|black ?list|block ?list|\bblocked\b|\brbl\b|dnsbl|spamhaus|\bpolic(?:y|ies)\b|"
        r"reputation|gr[ae]y ?list|rate limit|too many (?:connections|recipients|errors)|access denied|"
        r"relay(?:ing)? (?:\w+ ){0,2}(?:denied|not|prohibited)|unable to relay|not (?:permitted|allowed) to relay|"
        r"(?:cannot|can't|do(?:es)? not|we do not) relay|not authori[sz]ed|administrative(?:ly)? prohibit|"
        r"content (?:was |is )?(?:reject|denied)|prohibited|not accepting (?:mail|messages) from|"
        r"banned|suspicious|recipient preferences|spamcop|bulk (?:mail|email)"
    ),
    Cause.DEAD: (
        r"(?:user|recipient|address|mailbox|account|alias|addressee|local ?part|destination|person|name)\S{0,2} "
        r"(?:\w+ ){0,3}?(?:unknown|not (?:found|exist|known|recogni[sz]ed|valid)|doesn'?t exist|does not exist|invalid|"
        r"closed|no longer|unavailable or)|"
        r"(?:unknown|no such|invalid|nonexistent|non-existent|bad destination|not a (?:known|valid)|illegal) "
        r"(?:\w+ |or |\w+/){0,3}?(?:user|recipient|address|mailbox|account|alias|addressee|local ?part|person|domain)|"
        r"no mailbox here|recipnotfound|unroutable address|unrouteable address|does ?n[o']t have an? \S+ account|"
        r"not listed in (?:domino|public)|(?:is )?no longer (?:valid|available|active|with|employed|in use|works)|"
        r"recipient not found|user not found|unknown user|mailbox unavailable.{0,40}(?:user|not exist)|"
        r"5\.1\.0 address rejected|no valid recipients|(?:domain|host) (?:does not exist|unknown)|unknown host|"
        r"invalid final delivery|recipient name is not|could not be found|"
        r"wasn't found|not our customer|does not exist|not a valid mailbox|has moved"
    ),
    Cause.SYSTEM: (
        r"timed? ?out|connection (?:refused|reset|lost|failed|dropped|closed)|unreachable|too many hops|\bloops?\b|"
        r"host not found|name server|name service|\bdns\b|no route|host (?:or domain name )?(?:not|unknown)|"
        r"try again|temporar|unable to route|no mail hosts|i/o error|mx (?:record|lookup)|all hosts|"
        r"retry (?:time|timeout)|not accepting (?:network )?messages|lost connection|conversation with"
    ),
}
"""The first that fits counts: what spares the address stands before what calls it dead."""

_PHRASES = tuple((cause, re.compile(pattern)) for cause, pattern in _SAID.items())


class Diagnosis(NamedTuple):
    """What a report says of one recipient: its cause, and the code that says most."""

    cause: Cause
    code: str | None

    @property
    def permanent(self) -> bool | None:
        """What an event says of the address: True for a dead one, None where nobody has said."""
        return None if self.cause is Cause.UNSAID else self.cause is Cause.DEAD


def diagnose(status: str, text: str, *, refused: bool = False, late: bool = False) -> Diagnosis:
    """Return what `status`, a field or nothing, and a diagnostic text say together; what spares the address wins.

    Words alone call an address dead only beside a code of refusal, or where the mail is known to be `refused`; not
    where that came `late`, since a server that took the recipient before the content knows a mailbox of that name.
    """
    text = text[:LONGEST_TEXT]
    stated = _ENHANCED.search(status)
    codes = [*([stated[0]] if stated else []), *_ENHANCED.findall(text)]
    replies = _REPLY.findall(text)
    code = next((each for each in codes if not each.endswith(".0.0")), next(iter(codes), None))
    passing = _passing(codes, replies)
    refused = not late and (refused or any(each[0] == "5" for each in [*codes, *replies]))
    cause = _cause(codes, _cause_in_words(text), refused=refused)
    if cause is Cause.DEAD and passing:
        cause = Cause.MAILBOX
    if cause is Cause.UNSAID and passing:
        cause = Cause.SYSTEM
    return Diagnosis(cause, code or next(iter(replies), None))


def refused_late(words: str) -> bool:
    """Whether the words of a report say that the content was refused, after the recipient had been taken."""
    return _AFTER_DATA.search(words) is not None


def _passing(codes: list[str], replies: list[str]) -> bool:
    """Whether it may pass by itself (RFC 3463 section 2, class 4): by the reply, or by the status that stands first."""
    classes = {each[0] for each in replies} or {each[0] for each in codes}
    return "4" in classes or any(each[0] == "4" for each in codes[:1])


def _cause(codes: list[str], said: Cause | None, *, refused: bool) -> Cause:
    if said not in {None, Cause.DEAD, Cause.SYSTEM}:
        return said
    blamed = [cause_of(each) for each in codes]
    sparing = [each for each in blamed if each not in {Cause.DEAD, Cause.UNSAID}]
    if sparing:
        return sparing[0]
    if Cause.DEAD in blamed or (said is Cause.DEAD and refused):
        return Cause.DEAD
    return said if said is Cause.SYSTEM else Cause.UNSAID


def _cause_in_words(text: str) -> Cause | None:
    words = _NOT_WORDS.sub(" ", text.lower())
    words = " ".join(words.split())
    return next((cause for cause, pattern in _PHRASES if pattern.search(words)), None)
