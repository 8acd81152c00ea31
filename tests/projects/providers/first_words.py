"""The same answer in twelve languages, and how a model writes it: the clock of `bench_first_sound` and of its test."""

# ruff: noqa: RUF001 - other scripts
from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from livekit.agents import tokenize

TOKENS_PER_SECOND = 20
LIMIT = 1.5  # times English

ANSWERS = {
    "en": "The museum is open every day from nine in the morning until six in the evening. "
    "On Mondays, when there are fewer visitors, the guides have more time for you. "
    "Would you like to book a tour, or shall I tell you about the pictures first?",
    "de": "Das Museum ist jeden Tag von neun Uhr morgens bis sechs Uhr abends geöffnet. "
    "Montags, wenn weniger Besucher da sind, haben die Führer mehr Zeit für Sie. "
    "Möchten Sie eine Führung buchen, oder soll ich Ihnen zuerst von den Bildern erzählen?",
    "es": "El museo está abierto todos los días desde las nueve de la mañana hasta las seis de la tarde. "
    "Los lunes, cuando hay menos visitantes, los guías tienen más tiempo para usted. "
    "¿Quiere reservar una visita guiada, o prefiere que le hable primero de los cuadros?",
    "fr": "Le musée est ouvert tous les jours de neuf heures du matin à six heures du soir. "
    "Le lundi, quand il y a moins de visiteurs, les guides ont plus de temps pour vous. "
    "Voulez-vous réserver une visite, ou dois-je d'abord vous parler des tableaux ?",
    "pl": "Muzeum jest otwarte codziennie od dziewiątej rano do szóstej wieczorem. "
    "W poniedziałki, kiedy jest mniej zwiedzających, przewodnicy mają dla państwa więcej czasu. "
    "Czy chcą państwo zarezerwować zwiedzanie, czy najpierw opowiedzieć o obrazach?",
    "ar": "المتحف مفتوح كل يوم من التاسعة صباحا حتى السادسة مساء. "
    "في أيام الاثنين، حين يقل عدد الزوار، يكون لدى المرشدين وقت أطول لكم. "
    "هل تودون حجز جولة، أم أحدثكم أولا عن اللوحات؟",
    "hi": "संग्रहालय हर दिन सुबह नौ बजे से शाम छह बजे तक खुला रहता है। "
    "सोमवार को, जब कम लोग आते हैं, गाइड के पास आपके लिए अधिक समय होता है। "
    "क्या आप भ्रमण बुक करना चाहेंगे, या पहले मैं आपको चित्रों के बारे में बताऊँ?",
    "zh": "博物馆每天从早上九点开放到晚上六点。星期一参观的人比较少，导游会有更多时间陪您。"
    "您想预订一次讲解，还是先听我介绍一下这些画？",
    "ja": "博物館は毎日朝九時から夕方六時まで開いています。月曜日は来館者が少ないので、ガイドがゆっくりご案内できます。"
    "ツアーを予約なさいますか、それとも先に絵についてお話ししましょうか？",
    "ko": "박물관은 매일 아침 아홉 시부터 저녁 여섯 시까지 문을 엽니다. "
    "월요일에는 방문객이 적어서 안내원이 더 많은 시간을 드릴 수 있습니다. "
    "안내를 예약하시겠습니까, 아니면 먼저 그림에 대해 말씀드릴까요?",
    "th": "พิพิธภัณฑ์เปิดทุกวันตั้งแต่เก้าโมงเช้าถึงหกโมงเย็น วันจันทร์มีผู้เข้าชมน้อยกว่า ไกด์จึงมีเวลาให้คุณมากขึ้น "
    "คุณต้องการจองทัวร์ หรือให้ฉันเล่าเรื่องภาพวาดให้ฟังก่อนดีคะ",
    "vi": "Bảo tàng mở cửa mỗi ngày từ chín giờ sáng đến sáu giờ tối. "
    "Vào thứ hai, khi có ít khách hơn, hướng dẫn viên có nhiều thời gian hơn cho bạn. "
    "Bạn có muốn đặt một chuyến tham quan, hay để tôi kể về các bức tranh trước?",
}

LETTERS_IN_A_TOKEN = {
    "en": 4.5, "de": 3.6, "es": 3.8, "fr": 3.7, "pl": 2.8, "ar": 2.4, "hi": 2.2, "zh": 1.2, "ja": 1.2, "ko": 1.3,
    "th": 1.6, "vi": 2.6,
}  # fmt: skip
"""Of the vocabularies of current models, rounded to what is slower to hear."""


def tokens(language: str) -> Iterator[str]:
    """The answer in the pieces in which a model would send it."""
    text, letters = ANSWERS[language], LETTERS_IN_A_TOKEN[language]
    places = [round(number * letters) for number in range(round(len(text) / letters) + 2)]
    return (text[start:end] for start, end in pairwise(places) if text[start:end])


async def first_piece(cutter: tokenize.SentenceTokenizer, language: str) -> tuple[float, str]:
    """Seconds from the first token until the voice has something to say, and what that is. No clock but the tokens'."""
    stream: Any = cutter.stream()
    written = 0
    for token in tokens(language):
        written += 1
        stream.push_text(token)
        if not stream._event_ch.empty():
            break
    else:
        stream.end_input()
    piece = (await anext(stream)).token
    await stream.aclose()
    return written / TOKENS_PER_SECOND, piece
