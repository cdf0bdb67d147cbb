"""Error mapping: SMTP replies, and the lack of one -> postroom's errors."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from postroom.errors import (
    AuthenticationFailed,
    DeliveryError,
    MessageRejected,
    Outcome,
    OutcomeUnknown,
    ProviderUnavailable,
    ProviderUnreachable,
    QuotaExhausted,
    RateLimited,
    RecipientsRefused,
    Scope,
    SuppressionReason,
    UnexpectedResponse,
)
from postroom.plugin import redacted
from postroom.receipts import RecipientResult
from postroom_smtp.status_codes import REFUSED_AS_DEAD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from postroom_smtp.replies import SmtpReply
    from postroom_smtp.settings import SmtpSettings

Meaning = tuple[type[DeliveryError], Scope]

BY_ENHANCED: dict[str, Meaning] = {
    "4.3.2": (ProviderUnavailable, Scope.ACCOUNT),  # RFC 3463 3.4: system not accepting network messages
    "4.4.5": (ProviderUnavailable, Scope.ACCOUNT),  # RFC 3463 3.5: mail system congestion
    "4.7.28": (RateLimited, Scope.ACCOUNT),  # Google, "Gmail SMTP errors and codes": unusual rate
    "5.4.5": (QuotaExhausted, Scope.ACCOUNT),  # Google, "Gmail SMTP errors and codes": daily limit
    "5.7.8": (AuthenticationFailed, Scope.ACCOUNT),  # RFC 4954 6: credentials invalid
    "5.7.9": (AuthenticationFailed, Scope.ACCOUNT),  # RFC 4954 6: mechanism too weak
    "5.7.11": (AuthenticationFailed, Scope.ACCOUNT),  # RFC 3463 / 4954 6: encryption required
}
"""Enhanced status codes that say more than the reply code beside them."""

BY_CODE: dict[int, Meaning] = {
    421: (ProviderUnavailable, Scope.ACCOUNT),  # RFC 5321 4.2.3: service not available, closing
    432: (AuthenticationFailed, Scope.ACCOUNT),  # RFC 4954 4.7.12: a password transition is needed
    454: (ProviderUnavailable, Scope.ACCOUNT),  # RFC 4954 6: temporary authentication failure
    530: (AuthenticationFailed, Scope.ACCOUNT),  # RFC 4954 6: authentication required
    534: (AuthenticationFailed, Scope.ACCOUNT),  # RFC 4954 6: mechanism too weak
    535: (AuthenticationFailed, Scope.ACCOUNT),  # RFC 4954 6: credentials invalid
    538: (AuthenticationFailed, Scope.ACCOUNT),  # RFC 2554 6: encryption required
}
"""Reply codes that reach further than one message. Any other 4yz is a refusal for now, any other 5yz for good."""

_ADVICE: dict[type[DeliveryError], str] = {
    AuthenticationFailed: "nothing was sent, check username, password and what the account may do",
    MessageRejected: "nothing was sent, change the message before sending it again",
    ProviderUnavailable: "nothing was sent, try again later",
    QuotaExhausted: "nothing was sent, wait until the server's quota is renewed or raise it",
    RateLimited: "nothing was sent, send more slowly and try again later",
}
_LOOK = "it may have been sent, so look for its Message-ID at the server before sending it again"


class SmtpErrors:
    """Makes one account's errors: they name the account and the next step, and never show a secret."""

    def __init__(self, account: str, settings: SmtpSettings) -> None:
        self.account = account
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.server = f"{host}:{settings.port}"
        self._secrets = list(_shown_forms(settings.secret_texts(), settings.username))
        self._username = settings.username

    def also_hide(self, secret: str) -> None:
        """Keep a token that was fetched for this account out of texts too."""
        self._secrets = [*self._secrets[-20:], *_shown_forms([secret], self._username)]

    def redact(self, text: str) -> str:
        """Return `text` shortened, on one line, without this account's secrets."""
        return redacted(text, self._secrets)

    def unreachable(
        self,
        why: str,
        *,
        advice: str = "check host, port and the network, or try again later",
        outcome: Outcome | None = None,
    ) -> ProviderUnreachable:
        """No session was to be had, or it ended before the message's last line was written."""
        why = self.redact(why)
        return ProviderUnreachable(
            f"{self.account}: {self.server} {why}; nothing was sent, {advice}", outcome=outcome, detail=why
        )

    def unknown(self, why: str) -> OutcomeUnknown:
        """The whole message was written and no answer to it came."""
        why = self.redact(why)
        return OutcomeUnknown(
            f"{self.account}: the whole message was handed to {self.server}, which then {why}; {_LOOK}", detail=why
        )

    def credentials(self, why: str) -> AuthenticationFailed:
        """The account cannot sign in here, for a reason that is no reply."""
        return AuthenticationFailed(f"{self.account}: {self.server} {self.redact(why)}")

    def refused(self, reply: SmtpReply, doing: str, *, kind: type[DeliveryError] | None = None) -> DeliveryError:
        """The server said no to the message; `doing` says to what. `kind` makes it an error of the account."""
        meant, scope = meaning(reply)
        kind, scope = (kind, Scope.ACCOUNT) if kind else (meant, scope)
        said = self.redact(reply.words)
        code = reply.enhanced or str(reply.code)
        advice = _ADVICE.get(kind, _LOOK if kind.default_outcome is Outcome.UNKNOWN else "nothing was sent")
        return kind(
            f"{self.account}: {self.server} answered {reply.code} to {doing}: {said}; {advice}",
            outcome=_outcome(reply),
            scope=scope,
            provider_code=code,
            status=reply.code,
            detail=said,
        )

    def credentials_refused(self, reply: SmtpReply) -> DeliveryError:
        """AUTH was answered with 5yz, whatever its number."""
        return self.refused(reply, "AUTH", kind=AuthenticationFailed)

    def session(self, reply: SmtpReply) -> DeliveryError:
        """The server takes no mail from this client: at its greeting, EHLO or STARTTLS."""
        return self.refused(reply, "the connection", kind=ProviderUnavailable)

    def recipient(self, address: str, reply: SmtpReply) -> RecipientResult:
        """What a negative reply says about one recipient."""
        kind, scope = meaning(reply)
        dead = reply.code >= 500 and reply.enhanced in REFUSED_AS_DEAD
        return RecipientResult(
            address=address,
            outcome=_outcome(reply),
            code=kind.code if scope is Scope.ACCOUNT else RecipientsRefused.code,
            provider_code=reply.enhanced or str(reply.code),
            status=reply.code,
            detail=self.redact(reply.words),
            suppress=SuppressionReason.BOUNCED if dead else None,
        )

    def all_refused(self, results: Iterable[RecipientResult]) -> RecipientsRefused:
        """Every recipient was refused; transient while that may change for one of them."""
        results = tuple(results)
        first = results[0]
        later = any(result.outcome is Outcome.TRANSIENT for result in results)
        return RecipientsRefused(
            f"{self.account}: {self.server} refused every recipient; {first.address}: {first.status} {first.detail}; "
            f"nothing was sent, {'try again later' if later else 'check the addresses'}",
            outcome=Outcome.TRANSIENT if later else Outcome.PERMANENT,
            provider_code=first.provider_code,
            status=first.status,
            detail=first.detail,
            recipients=results,
        )


def meaning(reply: SmtpReply) -> Meaning:
    """Return the error a reply stands for and how far it reaches: enhanced code first, then reply code."""
    found = BY_ENHANCED.get(reply.enhanced or "") or BY_CODE.get(reply.code)
    if found:
        return found
    if reply.code >= 500:
        return MessageRejected, Scope.MESSAGE
    return (ProviderUnavailable if reply.code >= 400 else UnexpectedResponse), Scope.MESSAGE


def _outcome(reply: SmtpReply) -> Outcome:
    """RFC 5321 section 4.2.1: 4yz may succeed later, 5yz will not; nothing else is an answer here."""
    if reply.code >= 500:
        return Outcome.PERMANENT
    return Outcome.TRANSIENT if reply.code >= 400 else Outcome.UNKNOWN


def _shown_forms(secrets: Iterable[str], username: str | None) -> Iterable[str]:
    """Yield each secret as it is and as AUTH sends it, since servers like to quote the line they refuse."""
    for secret in filter(None, secrets):
        plain = f"\0{username}\0{secret}"
        bearer = f"user={username}\1auth=Bearer {secret}\1\1"
        yield from (base64.b64encode(form.encode()).decode() for form in (plain, bearer, secret))
        yield secret
