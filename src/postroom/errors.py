"""Exceptions: every error postroom raises, as a tree.

PostroomError
├── PostroomClosed             the Postroom was closed before
├── WrongEventLoop             the Postroom belongs to another event loop
├── ConfigError                the configuration must change before anything can be sent
│   ├── MissingCredential      a secret is not there
│   └── InvalidOption          an option is unknown or has a wrong value
├── PluginError                a provider plugin cannot be used
│   ├── PluginLoadError        it fails to import or to register
│   ├── PluginConflict         two distributions claim one provider name
│   ├── ProviderNotFound       no route, account or provider has the name
│   ├── ExtensionNotFound      no installed extension has the name
│   └── ContractViolation      it breaks the plugin interface
├── MessageError               this message must change; nothing was sent
│   ├── InvalidAddress         an e-mail address or a phone number is not one
│   ├── UnsupportedFeature     the provider cannot express what the message asks for
│   └── Suppressed             the recipient must not be written to
├── DeliveryError              one attempt was not accepted; `outcome` says what may be done next
│   ├── ProviderUnreachable    never handed over: no connection
│   ├── ProviderUnavailable    refused for now: the provider is down or overloaded
│   ├── RateLimited            refused for now: too many requests
│   ├── OutcomeUnknown         handed over, no answer: it may have been sent
│   ├── AuthenticationFailed   the account's credentials are refused
│   ├── RecipientsRefused      no recipient was accepted
│   ├── MessageRejected        this message is refused
│   ├── QuotaExhausted         the account has no credit or quota left
│   └── UnexpectedResponse     the answer fits no documented form
├── OutboxError                the outbox cannot do what was asked
│   ├── IdempotencyConflict    one key, two different messages
│   ├── MessageNotFound        no such message in this outbox
│   ├── StateConflict          the message is in a state where that cannot be done
│   └── SearchTooBroad         too many messages would have to be looked at
└── WebhookError               a provider's report cannot be taken
    ├── SignatureInvalid       not signed by the provider
    └── PayloadInvalid         signed, but not readable
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from postroom.outcomes import Outcome as Outcome  # noqa: PLC0414 - exported again from here
from postroom.outcomes import Scope as Scope  # noqa: PLC0414 - as above
from postroom.outcomes import SuppressionReason as SuppressionReason  # noqa: PLC0414 - as above

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from postroom.receipts import Receipt, RecipientResult

N = TypeVar("N", int, float)
E = TypeVar("E", bound="PostroomError")


class PostroomError(Exception):
    """Base class of all errors. `code` is stable and machine-readable; `str()` says the next step to a person.

    Errors are immutable: a field is set once, by the constructor. What Python itself notes of an exception
    (`__cause__`, `__traceback__`, notes) stays open, and every error can be copied and pickled.
    """

    code: ClassVar[str] = "postroom_error"

    @property
    def message(self) -> str:
        """The text for a person, without secrets."""
        return str(self)

    def __setattr__(self, name: str, value: object) -> None:
        # One error may reach many callers (a batch, a shared connection): what one of them did to it, all would see.
        if (name in self.__dict__ and not name.startswith("_")) or name in {"args", "code"}:
            raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")
        super().__delattr__(name)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.args, self.__dict__)


class PostroomClosed(PostroomError):
    """The Postroom is closed; a new one has to be made."""

    code = "postroom_closed"


class WrongEventLoop(PostroomError):
    """The Postroom belongs to another event loop; each loop needs one of its own."""

    code = "wrong_event_loop"


class ConfigError(PostroomError):
    """The configuration cannot be used. `path` is the dotted path of the setting, when one is to blame."""

    code = "config_error"

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class MissingCredential(ConfigError):
    """A credential the account needs is not set."""

    code = "missing_credential"


class InvalidOption(ConfigError):
    """An option is unknown, or its value is not allowed."""

    code = "invalid_option"


class PluginError(PostroomError):
    """A provider plugin cannot be used. Other providers are not affected."""

    code = "plugin_error"


class PluginLoadError(PluginError):
    """The plugin fails to import or to register; the cause is chained."""

    code = "plugin_load_error"


class PluginConflict(PluginError):
    """Two installed distributions claim the same provider name."""

    code = "plugin_conflict"


class ProviderNotFound(PluginError):
    """No route, account or installed provider has the name."""

    code = "provider_not_found"


class ExtensionNotFound(PluginError):
    """No installed extension has the name."""

    code = "extension_not_found"


class ContractViolation(PluginError):
    """The plugin does not keep the interface it promises."""

    code = "contract_violation"


class MessageError(PostroomError):
    """The message cannot be sent as it is. Nothing was sent.

    `problems` holds, where fields are to blame, the dotted path of each (`to.0`) and what is wrong with it.
    """

    code = "message_error"

    def __init__(self, message: str, *, problems: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class InvalidAddress(MessageError):
    """Not an e-mail address or phone number that can be sent to."""

    code = "invalid_address"


class UnsupportedFeature(MessageError):
    """The message uses `feature`, which `provider` cannot express."""

    code = "unsupported_feature"

    def __init__(self, message: str, *, feature: str, provider: str) -> None:
        super().__init__(message)
        self.feature = feature
        self.provider = provider


class Suppressed(MessageError):
    """The recipient asked not to be written to, or an address is known to be dead."""

    code = "suppressed"


class DeliveryError(PostroomError):
    """One attempt was not accepted.

    `outcome` is what the core acts on; `scope` how far it reaches. `provider_code` is the provider's own
    error code as text, `status` the HTTP status or SMTP reply code, `retry_after` seconds to wait before the
    next attempt, `request_id` what the provider's support asks for, `detail` the provider's own words with
    secrets removed. `recipients` holds a result per recipient where the provider gave one. `suppress` says why
    the one recipient of the attempt must not be written to again. `receipt` is set when the error leaves
    `Postroom.send`.
    """

    code = "delivery_error"
    default_outcome: ClassVar[Outcome] = Outcome.PERMANENT
    default_scope: ClassVar[Scope] = Scope.MESSAGE

    def __init__(
        self,
        message: str,
        *,
        outcome: Outcome | None = None,
        scope: Scope | None = None,
        provider_code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        detail: str | None = None,
        recipients: tuple[RecipientResult, ...] = (),
        suppress: SuppressionReason | None = None,
    ) -> None:
        super().__init__(message)
        self.outcome = _of_a_failure(outcome or self.default_outcome)
        self.scope = scope or self.default_scope
        self.provider_code = _text(provider_code)
        self.status = _number(int, status)
        self.retry_after = _number(float, retry_after)
        self.request_id = _text(request_id)
        self.detail = _text(detail)
        self.recipients = recipients
        self.suppress = _suppression_reason(suppress)
        self.receipt: Receipt | None = None

    def with_receipt(self, receipt: Receipt) -> Self:
        """Return a copy that carries `receipt`."""
        return self._with(receipt=receipt)

    def with_recipients(self, recipients: tuple[RecipientResult, ...]) -> Self:
        """Return a copy with these results per recipient."""
        return self._with(recipients=recipients)

    def with_outcome(self, outcome: Outcome) -> Self:
        """Return a copy with another outcome. Raises ValueError for `accepted`."""
        return self._with(outcome=_of_a_failure(outcome))

    def _with(self, **fields: object) -> Self:
        # Not through the constructor, whose arguments a plugin's class may have changed.
        copied: Self = _rebuilt(type(self), self.args, {**self.__dict__, **fields})
        copied.__cause__, copied.__context__ = self.__cause__, self.__context__
        copied.__suppress_context__ = self.__suppress_context__
        return copied.with_traceback(self.__traceback__)


class ProviderUnreachable(DeliveryError):
    """No connection to the provider, so the message was never handed over."""

    code = "provider_unreachable"
    default_outcome = Outcome.TRANSIENT
    default_scope = Scope.ACCOUNT


class ProviderUnavailable(DeliveryError):
    """The provider refused for now: an outage or an overload on its side."""

    code = "provider_unavailable"
    default_outcome = Outcome.TRANSIENT
    default_scope = Scope.ACCOUNT


class RateLimited(DeliveryError):
    """The provider refused because of a rate limit; `retry_after` says how long to wait, where it said so."""

    code = "rate_limited"
    default_outcome = Outcome.TRANSIENT
    default_scope = Scope.ACCOUNT


class OutcomeUnknown(DeliveryError):
    """The message was handed over and no answer came: sending it again may make a second copy."""

    code = "outcome_unknown"
    default_outcome = Outcome.UNKNOWN


class AuthenticationFailed(DeliveryError):
    """The provider refuses the account's credentials, or what they are allowed to do."""

    code = "authentication_failed"
    default_scope = Scope.ACCOUNT


class RecipientsRefused(DeliveryError):
    """No recipient was accepted; `recipients` says why for each."""

    code = "recipients_refused"
    default_scope = Scope.RECIPIENT


class MessageRejected(DeliveryError):
    """The provider refuses this message; sending it again unchanged will not help."""

    code = "message_rejected"


class QuotaExhausted(DeliveryError):
    """The account's credit or sending quota is used up."""

    code = "quota_exhausted"
    default_scope = Scope.ACCOUNT


class UnexpectedResponse(DeliveryError):
    """The provider said yes in a form that does not prove it, so the outcome is unknown."""

    code = "unexpected_response"
    default_outcome = Outcome.UNKNOWN


class OutboxError(PostroomError):
    """The outbox cannot do what was asked."""

    code = "outbox_error"


class IdempotencyConflict(OutboxError):
    """The idempotency key was used before with a different message."""

    code = "idempotency_conflict"


class MessageNotFound(OutboxError):
    """No message has this id, or it is not the asker's."""

    code = "message_not_found"


class StateConflict(OutboxError):
    """The message is in a state where that cannot be done."""

    code = "state_conflict"


class SearchTooBroad(OutboxError):
    """Too many messages would have to be looked at; narrow the search."""

    code = "search_too_broad"


class WebhookError(PostroomError):
    """A provider's report cannot be taken."""

    code = "webhook_error"


class SignatureInvalid(WebhookError):
    """The event is not signed by the provider, or the signature does not fit."""

    code = "signature_invalid"


class PayloadInvalid(WebhookError):
    """The event is signed but cannot be read."""

    code = "payload_invalid"


def _text(value: object) -> str | None:
    """Plugins are written by others: a code given as a number must not cost the attempt its record."""
    return None if value is None else str(value)


def _number(kind: Callable[[Any], N], value: object) -> N | None:
    try:
        return None if value is None else kind(value)
    except (TypeError, ValueError):
        return None


def _suppression_reason(value: object) -> SuppressionReason | None:
    """A word that is no reason must not cost the attempt its record either."""
    return next((reason for reason in SuppressionReason if reason == value), None)


def _of_a_failure(outcome: Outcome) -> Outcome:
    if outcome is Outcome.ACCEPTED:
        raise ValueError("an error cannot have the outcome accepted")
    return outcome


def _rebuilt(cls: type[E], args: tuple[object, ...], fields: Mapping[str, object]) -> E:
    """Make an error without its constructor, which may need more than its text."""
    error = cls.__new__(cls, *args)
    error.__dict__.update(fields)
    return error
