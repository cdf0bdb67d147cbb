"""What somebody texts who wants no more SMS: words that count alone, however they are written, and nothing else."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.config.outbox import Language, OutboxSettings
from postroom.outbox.stop_words import START_WORDS, STOP_WORDS, Wish, wish_of

GUIDE = Path(__file__).parents[3] / "docs/how-to/suppressions.md"

EVERY: tuple[Language, ...] = ("de", "en", "es", "fr", "it", "nl", "pt")
FCC = ["stop", "quit", "end", "revoke", "opt out", "cancel", "unsubscribe"]
TWILIO = ["STOPALL", "OPTOUT", "ARRET"]


@pytest.mark.parametrize("word", [*FCC, *TWILIO, "opt-out", "Stop.", "STOP ALL!", "s t o p", "Arrêt", "please stop"])
def test_the_words_that_the_rule_and_the_carriers_name_count_in_every_spelling(word: str) -> None:
    assert wish_of(word) is Wish.STOP


@given(
    st.sampled_from([(language, word) for language in EVERY for word in STOP_WORDS[language]]),
    st.sampled_from([str.upper, str.title, str.swapcase]),
    st.text(string.punctuation + " \n\t", max_size=3),
)
def test_a_word_counts_whatever_its_case_punctuation_and_spacing(
    named: tuple[Language, str], write: object, between: str
) -> None:
    language, word = named
    assert callable(write)
    assert wish_of(between + between.join(write(word)) + between, [language]) is Wish.STOP


@given(
    st.sampled_from([word for language in EVERY for word in STOP_WORDS[language] | START_WORDS[language]]),
    st.sampled_from(["please don't {} now", "I will {} by myself", "when does it {}?", "the {} is near", "{} 5"]),
)
def test_a_word_in_the_midst_of_a_sentence_means_nothing(word: str, sentence: str) -> None:
    assert wish_of(sentence.format(word), EVERY) is None


@pytest.mark.parametrize("said", ["HELP", "info", "Aide", "", "!?", "👍", "no", "ok", "fine"])
def test_every_other_text_means_nothing(said: str) -> None:
    assert wish_of(said, EVERY) is None


@pytest.mark.parametrize("said", ["START", "Unstop!", "yes", "opt-in"])
def test_the_words_that_want_texts_again(said: str) -> None:
    assert wish_of(said) is Wish.START


@pytest.mark.parametrize(
    ("said", "language"),
    [
        ("Stopp", "de"),
        ("kündigen", "de"),
        ("BAJA", "es"),
        ("no más", "es"),
        ("désabonner", "fr"),
        ("Basta!", "it"),
        ("afmelden", "nl"),
        ("sair", "pt"),
    ],
)
def test_the_words_of_a_language_count_where_it_is_named(said: str, language: Language) -> None:
    assert wish_of(said, [language]) is Wish.STOP
    assert wish_of(said) is None


def test_no_word_means_one_thing_here_and_the_other_there() -> None:
    assert not frozenset().union(*STOP_WORDS.values()) & frozenset().union(*START_WORDS.values())


def test_every_language_that_can_be_named_has_words() -> None:
    assert set(STOP_WORDS) == set(START_WORDS) == set(OutboxSettings(stop_languages=EVERY).stop_languages)


@pytest.mark.parametrize("language", EVERY)
def test_the_guide_lists_every_word_and_no_other(language: Language) -> None:
    row = re.search(rf"^\| `{language}` \| (.*) \| (.*) \|$", GUIDE.read_text(), re.MULTILINE)
    assert row
    stops, starts = (cell.split(", ") for cell in row.groups())
    assert {wish_of(word, [language]) for word in stops} == {Wish.STOP}
    assert {wish_of(word, [language]) for word in starts} == {Wish.START}
    assert (len(stops), len(starts)) == (len(STOP_WORDS[language]), len(START_WORDS[language]))
