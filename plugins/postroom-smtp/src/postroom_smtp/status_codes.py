"""Enhanced status codes (RFC 3463, and IANA's registry of them): what each blames, and which call an address dead."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why a mail was not delivered. Only one of these says of the address that nobody ever reaches it."""

    DEAD = "dead"
    MAILBOX = "mailbox"
    MESSAGE = "message"
    SENDER = "sender"
    POLICY = "policy"
    SYSTEM = "system"
    UNSAID = "unsaid"


REFUSED_AS_DEAD = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"})
"""Enhanced codes that say of a recipient that there is no such mailbox, for everybody and for good.

No such mailbox (RFC 3463 3.2, 5.1.1), no such domain (5.1.2), no valid address (5.1.3), moved without a new address
(5.1.6), a domain that takes no mail (RFC 7505, 5.1.10). Not 5.1.0, which says nothing in particular, nor 5.1.7 and
5.1.8, which blame the sender (RFC 3463 3.2); not 5.2.2, a full mailbox, nor 5.7.x, a policy; nor a bare 550, which
servers use for all of these.
"""

DEAD = REFUSED_AS_DEAD | {"5.2.1"}
"""These and mailboxes that are closed (RFC 3463 section 3.3, X.2.1), which a bounce may say.

The latter only there, after the server's own tries: Gmail answers RCPT with 550 5.2.1 also for a mailbox that gets
too much just now (Google, "Gmail SMTP errors and codes").
"""

_BY_DETAIL = {
    "1.4": Cause.MAILBOX,  # ambiguous
    "1.7": Cause.SENDER,  # no valid address of the sender
    "1.8": Cause.SENDER,  # no such domain of the sender
    "1.9": Cause.SYSTEM,  # relayed to a system that keeps to no standard
    "2.1": Cause.MAILBOX,  # closed: for now, where the class is 4
    "2.2": Cause.MAILBOX,  # full
    "2.3": Cause.MESSAGE,  # longer than the mailbox allows
    "2.4": Cause.SYSTEM,  # a list that cannot be expanded
    "3.4": Cause.MESSAGE,  # too big for the system
    "5.3": Cause.SENDER,  # too many recipients
    "7.8": Cause.SENDER,  # credentials invalid (RFC 4954)
    "7.9": Cause.SENDER,  # mechanism too weak (RFC 4954)
    "7.11": Cause.SENDER,  # encryption required (RFC 5248)
    "7.12": Cause.SENDER,  # password transition (RFC 4954)
    "7.13": Cause.SENDER,  # the sender's account is disabled (RFC 5248)
    "7.20": Cause.SENDER,  # no passing DKIM signature (RFC 7372)
    "7.21": Cause.SENDER,
    "7.22": Cause.SENDER,
    "7.23": Cause.SENDER,  # SPF (RFC 7372)
    "7.24": Cause.SENDER,
    "7.25": Cause.SENDER,  # reverse DNS (RFC 7372)
    "7.26": Cause.SENDER,  # several checks of who sends (RFC 7372)
    "7.27": Cause.SENDER,  # the sender's domain takes no mail (RFC 7505)
    "7.29": Cause.SENDER,  # ARC (RFC 8617)
}
_BY_SUBJECT = {
    "3": Cause.SYSTEM,
    "4": Cause.SYSTEM,
    "5": Cause.SYSTEM,
    "6": Cause.MESSAGE,
    "7": Cause.POLICY,
}
_NOTHING_SAID = frozenset({"0.0", "1.0", "2.0", "3.0", "5.0", "6.0"})
"""Details that are other or undefined: servers give them with whatever text. Not 7.0, which is a policy."""


def cause_of(code: str) -> Cause:
    """Return what an enhanced status code blames, such as 5.1.1; UNSAID for one that says nothing."""
    if code in DEAD:
        return Cause.DEAD
    _, subject, detail = code.split(".")
    below = f"{subject}.{detail}"
    if below in _NOTHING_SAID:
        return Cause.UNSAID
    return _BY_DETAIL.get(below) or _BY_SUBJECT.get(subject, Cause.UNSAID)
