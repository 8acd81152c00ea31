from __future__ import annotations

import time

import pytest

from projects.providers.scripted import meaning
from projects.providers.scripted.meaning import (
    Matcher,
    Term,
    knowledge_sentences,
    likeness,
    stem,
    terms,
    with_digits,
    words,
)

ANSWERS = (
    ("How much does it cost?", "price"),
    ("What is a video avatar?", "avatar"),
    ("Can I book a table?", "book"),
    ("When are you open?", "open"),
    ("Where are you located?", "where"),
    ("How do I reset my password?", "password"),
    ("Do you have parking?", "parking"),
    ("Who are you?", "who"),
    ("Can I cancel my booking?\nHow do I get my money back?", "cancel"),
    ("Do you speak German?", "german"),
)
KNOWLEDGE = """# Delivery
We ship to all of Europe. Orders arrive within three working days.

Refunds are possible within 30 days, e.g. by mail. The founder, Maria Lopez, was born in Lisbon.
- Our cakes contain nuts and gluten.
- **Dogs** are welcome on the terrace.
"""


@pytest.fixture(scope="module")
def matcher() -> Matcher:
    return Matcher(ANSWERS, KNOWLEDGE)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("what is the price", "price"),
        ("how expensive is it", "price"),
        ("What do you charge for that?", "price"),
        ("how much is it", "price"),
        ("could you tell me the costs please", "price"),
        ("what are your fees", "price"),
        ("tell me about the video avatar", "avatar"),
        ("explain what video avatars are", "avatar"),
        ("what's an avatar", "avatar"),
        ("book a table for two", "book"),
        ("i would like to reserve a table tomorrow evening", "book"),
        ("could i get a reservation for a table", "book"),
        ("we need a table for four people", "book"),
        ("when do you close", "open"),
        ("what are your opening hours", "open"),
        ("are you open on sunday", "open"),
        ("where can I find you?", "where"),
        ("what's your address", "where"),
        ("how do i get to you", "where"),
        ("I forgot my pasword", "password"),
        ("reset pssword", "password"),
        ("where can i park", "parking"),
        ("is there a car park", "parking"),
        ("who are you", "who"),
        ("i want to cancel", "cancel"),
        ("cancellation of a reservation", "cancel"),
        ("can I have my money back", "cancel"),
        ("do you know german", "german"),
    ],
)
def test_it_understands_other_words_for_the_same_question(matcher: Matcher, question: str, answer: str) -> None:
    match = matcher.best(question)
    assert match is not None
    assert (match.source, match.text) == ("answer", answer)


@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("how long does delivery take", "three working days"),
        ("do you ship to europe", "all of Europe"),
        ("who founded the company", "Maria Lopez"),
        ("where was the founder born", "Lisbon"),
        ("is there gluten in the cakes", "nuts and gluten"),
        ("i am allergic to nuts", "nuts and gluten"),
        ("can i bring my dog", "Dogs are welcome"),
    ],
)
def test_it_finds_sentences_of_the_knowledge(matcher: Matcher, question: str, part: str) -> None:
    match = matcher.best(question)
    assert match is not None
    assert match.source == "knowledge"
    assert part in match.text


@pytest.mark.parametrize(
    "question",
    [
        "what is the capital of france",
        "how old is the moon",
        "purple elephants dance on mars",
        "do you like video games",
        "what is the weather tomorrow",
        "what is the price of tea in china",
        "tell me a joke",
        "who won the world cup",
        "sing me a song",
        "what is two plus two",
        "do you have a table tennis club",
        "how do i cook rice",
        "call my mother",
        "is there life on other planets",
        "open the pod bay doors",
        "what is the meaning of life",
        "play some music",
        "translate this sentence into latin",
        "colourless green ideas sleep furiously",
        "asdf qwer zxcv",
        "please",
        "the of and",
        "???",
        "",
    ],
)
def test_it_matches_nothing_that_it_does_not_know(matcher: Matcher, question: str) -> None:
    assert matcher.best(question) is None


def test_an_answer_goes_before_a_sentence_that_fits_as_well() -> None:
    matcher = Matcher([("Do you have parking?", "answer")], "Parking is free.")
    match = matcher.best("what about parking")
    assert match is not None
    assert match.text == "answer"


def test_ranked_gives_each_answer_once_and_the_best_first(matcher: Matcher) -> None:
    matches = matcher.ranked("can i cancel my booking and get my money back")
    assert matches[0].text == "cancel"
    assert len({(match.source, match.index) for match in matches}) == len(matches)
    assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)
    assert all(0 < match.score <= 1 for match in matches)


def test_an_empty_matcher_finds_nothing() -> None:
    matcher = Matcher([], "")
    assert matcher.best("what is the price") is None
    assert matcher.best("") is None
    assert not matcher.knows_any("price")


@pytest.mark.parametrize(
    ("language", "question", "asked", "answer"),
    [
        ("de", "Wie hoch ist der Preis?", "wie hoch ist der preis", "Zehn Euro."),
        ("de", "Wo kann ich parken?", "kann ich parken", "Hinter dem Haus."),
        ("fr", "Quel est le prix ?", "quel est le prix s'il vous plaît", "Dix euros."),
        ("ru", "Сколько стоит билет?", "сколько стоит билет", "Десять."),
        ("ja", "営業時間は何時ですか", "営業時間は", "九時から。"),
        ("zh", "价格是多少", "价格是多少", "十元。"),
        ("tr", "Ne kadar?", "ne kadar", "On lira."),
    ],
)
def test_other_languages_match_by_their_words(language: str, question: str, asked: str, answer: str) -> None:
    matcher = Matcher([(question, answer), ("Xyzzy plugh?", "wrong")], "", language)
    match = matcher.best(asked)
    assert match is not None
    assert match.text == answer
    assert matcher.best("completely different words") is None


def test_words_are_plain_and_contractions_written_out() -> None:
    assert words("What\u2019s the CAFÉ's price? I can't!") == ["what", "is", "the", "cafe", "price", "i", "can", "not"]


def test_number_words_become_digits() -> None:
    assert with_digits(["a", "table", "for", "twenty", "one", "at", "nine"]) == ["a", "table", "for", "21", "at", "9"]
    assert with_digits(["twenty", "ten"]) == ["20", "10"]


@pytest.mark.parametrize(
    "family",
    [
        ("book", "books", "booked", "booking"),
        ("cancel", "cancelled", "cancellation", "cancels"),
        ("party", "parties"),
        ("stop", "stopped", "stopping"),
        ("child", "children"),
        ("price", "prices", "priced"),
        ("deliver", "delivered", "delivering"),
    ],
)
def test_words_of_a_family_have_one_stem(family: tuple[str, ...]) -> None:
    assert len({stem(word) for word in family}) == 1


def test_phrases_are_one_term() -> None:
    assert [term.concept for term in terms("how much is the car park")] == ["price", "parking"]


def test_unlike_terms_have_nothing_in_common() -> None:
    assert likeness(terms("table")[0], terms("cable")[0]) == 0
    assert likeness(terms("cost")[0], terms("price")[0]) == pytest.approx(0.9)


def test_knowledge_is_read_as_sentences_under_headings() -> None:
    sentences = knowledge_sentences(KNOWLEDGE)
    assert [sentence.text for sentence in sentences[:3]] == [
        "We ship to all of Europe.",
        "Orders arrive within three working days.",
        "Refunds are possible within 30 days, e.g. by mail.",
    ]
    assert sentences[0].heading == "Delivery"
    assert sentences[-1].text == "Dogs are welcome on the terrace."


def test_it_stays_fast_with_much_knowledge() -> None:
    matcher = Matcher([(f"What is item {n}?", f"item {n}") for n in range(300)], "A sentence about a thing. " * 700)
    started = time.perf_counter()
    matcher.best("tell me about the price of item seven please")
    assert time.perf_counter() - started < 2  # far above what it takes; guards against a change of order


PROSE = "The museum opens at nine, e.g. for visitors who come early. On Sundays it opens at ten. "


@pytest.mark.parametrize(
    "piece", [PROSE, "!", "?!", "...", "*b ", "_b ", "`b `", "**", "z. B. ", "\u201d", "! ", "。"], ids=repr
)
def test_a_paragraph_without_end_is_read_once(piece: str) -> None:
    """What an agent knows may be 200,000 letters, pasted without a line's end. Read anew for each sentence it took
    longer than a conversation waits for its agent, and stood the web part still when a question was tried."""
    text = (piece * (100_000 // len(piece) + 1))[:100_000]
    began = time.thread_time()
    sentences = knowledge_sentences(text)
    assert time.thread_time() - began < 3, "minutes, where it is read anew for each sentence"
    assert sentences


def test_an_answer_is_read_once_however_many_wordings_its_question_has(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def noted(text: str, language: str = "en") -> list[Term]:
        read.append(text)
        return terms(text, language)

    monkeypatch.setattr(meaning, "terms", noted)
    matcher = Matcher([("Are you open? | When do you open? | Opening hours", "From nine to five.")])
    assert read.count("From nine to five.") == 1
    found = matcher.best("when are you open")
    assert found
    assert found.text == "From nine to five."
