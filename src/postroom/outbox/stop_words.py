"""Stop words: what somebody texts who wants no more SMS, or wants them again.

The whole text must be one of them; a word in the midst of a sentence means nothing here ("please don't stop"). Case,
accents, punctuation and spacing do not count: "Opt-out!", "OPT OUT" and "optout" are one word.

Sources: 47 CFR 64.1200(a)(10) names stop, quit, end, revoke, opt out, cancel and unsubscribe as words that revoke
consent; Twilio's page "Twilio support for opt-out keywords" adds STOPALL and OPTOUT, START, UNSTOP and YES, and its
Proxy page "Opt-out keywords" ARRET and its forms, which Canada wants in English texts too. The words of the other
languages are ours: the translations of these.
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from postroom.config.outbox import Language


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS: dict[Language, frozenset[str]] = {
    "en": _words(
        "stop stopall stopit stopplease pleasestop end quit cancel revoke optout optmeout unsubscribe removeme "
        "arret arrete arreter"
    ),
    "de": _words("stopp stoppen ende beenden abmelden abbestellen austragen widerruf widerrufen kuendigen"),
    "es": _words("alto parar pare basta baja cancelar salir fin nomas desuscribir revocar"),
    "fr": _words("stopper fin annuler desabonner desinscrire desinscription revoquer"),
    "it": _words("ferma basta annulla cancella cancellami disiscrivi disiscrivimi revoca"),
    "nl": _words("stoppen einde afmelden uitschrijven annuleren opzeggen intrekken"),
    "pt": _words("parar pare sair fim cancelar remover descadastrar desinscrever revogar"),
}
"""As `_bare` leaves them."""

START_WORDS: dict[Language, frozenset[str]] = {
    "en": _words("start unstop yes optin"),
    "de": _words("starten beginnen anmelden"),
    "es": _words("iniciar empezar comenzar alta"),
    "fr": _words("demarrer commencer reprendre"),
    "it": _words("inizia avvia riprendi"),
    "nl": _words("starten hervatten aanmelden"),
    "pt": _words("iniciar comecar retomar"),
}
"""They lift what a stop word has set, and nothing else."""


class Wish(StrEnum):
    """What a text says of texts."""

    STOP = "stop"
    START = "start"


def wish_of(text: str, languages: Iterable[Language] = ()) -> Wish | None:
    """Return what a text wants, by the words of English and `languages`; None for every other text, HELP included."""
    said = _bare(text)
    named: tuple[Language, ...] = ("en", *languages)
    if any(said in STOP_WORDS[language] for language in named):
        return Wish.STOP
    return Wish.START if any(said in START_WORDS[language] for language in named) else None


def _bare(text: str) -> str:
    """Letters and digits alone, without case and accents; German umlauts are written out, as phones without them do."""
    written_out = unicodedata.normalize("NFC", text.casefold()).translate(_UMLAUTS)
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", written_out)))


_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
