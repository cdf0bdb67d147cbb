"""Bounces: what comes back by mail, delivery status notifications (RFC 3464), and complaints (ARF, RFC 5965).

What comes in is passed on by the account's own mail server, which presents `bounce_secret`. Anybody can write to it,
though, and a mail proves nothing about who wrote it: no event is `verified`, so that it counts only for a recipient of
a message that is known. Where the account has signed return paths, a bounce must have come to one of them.
"""

from postroom_smtp.bounces.webhook import read, verify

__all__ = ["read", "verify"]
