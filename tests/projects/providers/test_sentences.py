# ruff: noqa: RUF001 - other scripts
from __future__ import annotations

import asyncio
import unicodedata
from itertools import pairwise

import pytest

from projects.providers.base import Credentials, KeyedRung, Kind, Persona
from projects.providers.chains import build_chain
from projects.providers.shared.pieces import PieceTokenizer
from projects.providers.shared.sentences import (
    FIRST,
    LATER,
    Lengths,
    split_pieces,
    split_sentences,
    spoken_size,
    word_at,
)
from tests.projects.providers.conftest import FakeVendor
from tests.projects.providers.first_words import ANSWERS, LIMIT, first_piece
from tests.projects.providers.test_openai_compatible import wav


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Who came. Did he? Yes!", ["Dr. Who came.", "Did he?", "Yes!"]),
        ('He said "Go." Then he left at 3.5 p.m. on foot.', ['He said "Go."', "Then he left at 3.5 p.m. on foot."]),
        (
            "Am 1. Mai kommt Dr. Müller, z. B. um 9.30 Uhr. Gut.",
            ["Am 1. Mai kommt Dr. Müller, z. B. um 9.30 Uhr.", "Gut."],
        ),
        ("¡Hola! ¿Qué tal? Bien.", ["¡Hola!", "¿Qué tal?", "Bien."]),
        ("А. С. Пушкин жил тут. Где? Там.", ["А. С. Пушкин жил тут.", "Где?", "Там."]),
        ("你好！今天开放。您来吗？好", ["你好！", "今天开放。", "您来吗？", "好"]),
        ("他说：“请进。”然后走了。", ["他说：“请进。”", "然后走了。"]),
        ("你好!我们走吧?好", ["你好!", "我们走吧?", "好"]),
        ("はい。「行きます。」そうですか？", ["はい。", "「行きます。」", "そうですか？"]),
        ("안녕하세요. 무엇을 도와드릴까요? 네!", ["안녕하세요.", "무엇을 도와드릴까요?", "네!"]),
        ("नमस्ते। डॉ. शर्मा आए। ठीक॥ हाँ", ["नमस्ते।", "डॉ. शर्मा आए।", "ठीक॥", "हाँ"]),
        ("مرحبا. كيف حالك؟ شكرا", ["مرحبا.", "كيف حالك؟", "شكرا"]),
        ("یہ ٹھیک ہے۔ کیا؟ ہاں", ["یہ ٹھیک ہے۔", "کیا؟", "ہاں"]),  # Urdu
        ("မင်္ဂလာပါ။ ဟုတ်ကဲ့။ ကောင်းပါပြီ", ["မင်္ဂလာပါ။", "ဟုတ်ကဲ့။", "ကောင်းပါပြီ"]),  # Burmese
        ("សួស្តី។ បាទ។ ល្អ", ["សួស្តី។", "បាទ។", "ល្អ"]),  # Khmer
        ("ሰላም። እንዴት ነህ፧ ደህና", ["ሰላም።", "እንዴት ነህ፧", "ደህና"]),  # Amharic
        ("Բարև։ Այո։ Լավ", ["Բարև։", "Այո։", "Լավ"]),  # Armenian
        ("Room no. 5 is open. He says no. Why?", ["Room no. 5 is open.", "He says no.", "Why?"]),
        ("- one\n- two\n\nThree", ["- one", "- two", "Three"]),
    ],
)
def test_a_sentence_ends_by_the_marks_of_its_own_script(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("language", ANSWERS)
async def test_the_first_words_come_as_soon_as_in_english(language: str) -> None:
    english, _ = await first_piece(PieceTokenizer(), "en")
    waited, piece = await first_piece(PieceTokenizer(), language)
    assert waited <= LIMIT * english
    assert spoken_size(piece) >= FIRST.shortest  # enough to say while the next is made


@pytest.mark.parametrize("language", ANSWERS)
@pytest.mark.parametrize("at_once", [1, 3, 7, 1000])
async def test_pieces_do_not_depend_on_how_the_text_came(language: str, at_once: int) -> None:
    text = ANSWERS[language]
    stream = PieceTokenizer().stream()
    for start in range(0, len(text), at_once):
        stream.push_text(text[start : start + at_once])
    stream.end_input()
    pieces = [piece.token async for piece in stream]
    assert "".join(pieces) == text
    assert [piece.strip() for piece in pieces] == split_pieces(text)
    assert all(spoken_size(piece) <= LATER.longest for piece in pieces)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (  # at the last clause that fits
            "We have 1,500 pictures, all of them painted in 12:30 hours or so, as many say, and none of them is sold.",
            "We have 1,500 pictures, all of them painted in 12:30 hours or so,",
        ),
        (  # no clause: at a space
            "The museum is open every day from nine in the morning until half past six in the evening except on the "
            "first Monday of each month in winter.",
            "The museum is open every day from nine in the morning until half past six in the evening except on the "
            "first Monday of",
        ),
        (
            "我们的博物馆里有很多十九世纪的画，其中一些是从法国借来的所以不能拍照也不能触摸",
            "我们的博物馆里有很多十九世纪的画，",
        ),
        ("พิพิธภัณฑ์เปิดทุกวัน มีร้านกาแฟเล็กๆอยู่ที่ชั้นล่างของอาคารและมีห้องสมุด", "พิพิธภัณฑ์เปิดทุกวัน"),
        ("ພິພິທະພັນເປີດທຸກມື້ ມີຮ້ານກາເຟນ້ອຍໆຢູ່ຊັ້ນລຸ່ມຂອງອາຄານ", "ພິພິທະພັນເປີດທຸກມື້"),  # Lao
        ("x" * 500, "x" * 120),
    ],
)
def test_a_long_sentence_is_cut_at_a_clause_a_space_or_a_length(text: str, first: str) -> None:
    pieces = split_pieces(text)
    assert pieces[0] == first
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    "text",
    ["नमस्ते" * 80, "กำลังเก็บเกี่ยวที่นั่น" * 30, "ｶﾞｷﾞｸﾞ" * 60, "👩‍👩‍👧" * 60, "é́" * 200, "한국어" * 60, "あっちょんー" * 60],
)
def test_a_cut_never_tears_what_is_read_as_one(text: str) -> None:
    for piece in split_pieces(text)[1:]:
        assert not unicodedata.category(piece[0]).startswith("M")
        assert piece[0] not in "\u200dーっょ"


UNSPACED = {
    "th": "นักท่องเที่ยวเดินทางไปเชียงใหม่เพื่อเรียนรู้เรื่องพิพิธภัณฑ์และแม่น้ำใหญ่ที่ไหลผ่านเมืองเก่าโดยเฉพาะ",
    "lo": "ນັກທ່ອງທ່ຽວເດີນທາງໄປຫຼວງພະບາງເພື່ອຮຽນຮູ້ເລື່ອງພິພິທະພັນແລະແມ່ນ້ຳໃຫຍ່ທີ່ໄຫຼຜ່ານເມືອງເກົ່າໂດຍສະເພາະ",
    "km": "ភ្ញៀវទេសចរធ្វើដំណើរទៅសៀមរាបដើម្បីស្វែងយល់អំពីសារមន្ទីរនិងទន្លេធំដែលហូរកាត់ទីក្រុងចាស់ជាពិសេស",
    "my": "ခရီးသွားများသည်မန္တလေးသို့သွားရောက်ပြီးပြတိုက်အကြောင်းနှင့်မြစ်ကြီးအကြောင်းကိုလေ့လာကြသည်သင်္ချိုင်း",
}


@pytest.mark.parametrize("language", UNSPACED)
@pytest.mark.parametrize("most", [18, 21, 24, 27, 33, 45])
async def test_no_cut_falls_inside_a_syllable_that_its_letters_show(language: str, most: int) -> None:
    text = UNSPACED[language] * 3
    pieces = split_pieces(text, first=Lengths(1, most, most), later=Lengths(1, most, most))
    assert len(pieces) > 5
    assert "".join(pieces) == text
    for before, after in pairwise(pieces):
        assert not unicodedata.category(after[0]).startswith("M")
        assert after[0] not in "ะาำๅๆฯະາຳຽໆ"  # vowels and signs that follow their consonant
        assert before[-1] not in "เแโใไເແໂໃໄ"  # vowels that stand in front of theirs
        assert before[-1] not in "ัืັົ"  # vowels that another letter ends
        assert before[-1] not in "\u17d2\u1039"  # what ties two consonants together
        assert after[1:2] not in ("\u103a", "\u1039", "\u0e4c")  # the end of a syllable


@pytest.mark.parametrize(
    ("text", "firsts"),
    [
        ("क्षत्रिय", "कतय"),
        (unicodedata.normalize("NFD", "한국어"), unicodedata.normalize("NFD", "하구어")),
        ("🇩🇪🇫🇷", "🇩🇫"),
        ("👍🏽", "👍"),
    ],
)
def test_a_letter_is_never_cut_in_two(text: str, firsts: str) -> None:
    for most in range(1, 40):
        lengths = Lengths(1, most, most)
        for piece in split_pieces(text * 8, first=lengths, later=lengths)[1:]:
            assert piece[0] in firsts


@pytest.mark.parametrize(
    ("text", "length", "word"),
    [
        ("One two three.", 0, 0),
        ("One two three.", 5, 4),
        ("One two three.", 14, 14),
        ("今天开放。", 7, 2),
        ("เชียงใหม่", 6, 5),
        ("Поезд уходит в девять.", 13, 13),  # in bytes, half as far
        ("지금 문을 엽니다.", 15, 6),
    ],
)
def test_where_a_voice_is_after_it_has_said_so_much(text: str, length: int, word: int) -> None:
    assert word_at(text, length) == word


def test_it_reads_a_long_text_once() -> None:
    calls = 0

    def counted(text: str) -> int:
        nonlocal calls
        calls += len(text)
        return spoken_size(text)

    costs = []
    for times in (20, 200):
        calls = 0
        split_pieces(ANSWERS["en"] * times, size=counted)
        costs.append(calls)
    assert costs[1] < costs[0] * 15  # ten times the text; read anew for each piece it would be a hundred


def test_captions_are_broken_by_the_same_rule_with_other_lengths() -> None:
    lengths = Lengths(shortest=6, long=26, longest=26)
    pieces = split_pieces("Yes. No. This is a longer one, with a clause.", first=lengths, later=lengths, size=len)
    assert pieces == ["Yes. No.", "This is a longer one,", "with a clause."]


@pytest.mark.parametrize("rungs", [1, 2])
async def test_a_voice_begins_while_the_rest_is_still_written(vendor: FakeVendor, rungs: int) -> None:
    vendor.audio = wav(24000, 0.2)
    voice = KeyedRung("openai_compatible", {"model": "m", "response_format": "wav"}, Credentials(base_url=vendor.url))
    chain = build_chain(Kind.TTS, [voice, KeyedRung("espeak")][:rungs], Persona(language="th"))
    async with asyncio.timeout(20), chain.component.stream() as stream:
        stream.push_text(ANSWERS["th"][:40])
        first = await anext(stream)
        assert first.frame.duration > 0
        assert len(vendor.bodies) == 1
        stream.push_text(ANSWERS["th"][40:])
        stream.end_input()
        async for _ in stream:
            pass
    assert [body["input"] for body in vendor.bodies] == split_pieces(ANSWERS["th"])
    assert chain.active is chain.rungs[0]
    await chain.aclose()
