"""The shapes of a transcript, from numbers that are easy to get wrong."""

from __future__ import annotations

import json

from agent_runtime.speech import formats
from agent_runtime.speech.languages import LANGUAGES, language_code, language_name
from agent_runtime.speech.transcript import RecognisedSegment, Transcription, Word
from agent_runtime.speech.whole_file import join, shift


def transcript(*segments: RecognisedSegment, language: str = "en") -> Transcription:
    return Transcription(language=language, language_probability=0.9, duration=4000.0, segments=segments)


HELLO = RecognisedSegment(0.0, 1.2345, " hello", words=(Word(0.1, 0.5, " hello", 0.9),))
LATER = RecognisedSegment(3661.5, 3662.9996, " & <b>you</b> -->\n\n there")


def test_srt_numbers_its_cues_and_keeps_them_whole() -> None:
    assert formats.as_srt(transcript(HELLO, RecognisedSegment(2, 3, "  "), LATER)) == (
        "1\n00:00:00,000 --> 00:00:01,234\nhello\n\n2\n01:01:01,500 --> 01:01:03,000\n& <b>you</b> -> there\n"
    )


def test_vtt_escapes_what_would_be_markup() -> None:
    assert formats.as_vtt(transcript(HELLO, LATER)) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.234\nhello\n\n"
        "01:01:01.500 --> 01:01:03.000\n&amp; &lt;b&gt;you&lt;/b&gt; -&gt; there\n"
    )


def test_a_long_segment_is_broken_into_cues_by_its_sentences() -> None:
    said = "The museum is open every day from nine until six. On Mondays, when it is calm, the guides have more time."
    srt = formats.as_srt(transcript(RecognisedSegment(10.0, 20.0, said)))
    assert srt.split("\n\n") == [
        "1\n00:00:10,000 --> 00:00:14,711\nThe museum is open every day from nine until six.",
        "2\n00:00:14,711 --> 00:00:20,000\nOn Mondays, when it is calm, the guides have more time.\n",
    ]
    japanese = "博物館は毎日朝九時から夕方六時まで開いています。月曜日は来館者が少ないのでゆっくりご案内できます。"
    vtt = formats.as_vtt(transcript(RecognisedSegment(0.0, 10.0, japanese), language="ja"))
    assert [cue.splitlines()[1] for cue in vtt.strip().split("\n\n")[1:]] == [
        "博物館は毎日朝九時から夕方六時まで開いています。",
        "月曜日は来館者が少ないのでゆっくりご案内できます。",
    ]


def test_nothing_said_is_a_valid_file_of_every_kind() -> None:
    assert formats.as_srt(transcript()) == ""
    assert formats.as_vtt(transcript()) == "WEBVTT\n"
    assert formats.as_text(transcript()) == "\n"
    assert formats.as_verbose_json(transcript(), words=True)["words"] == []


def test_a_cue_always_takes_time() -> None:
    assert "00:00:02,000 --> 00:00:02,001" in formats.as_srt(transcript(RecognisedSegment(2.0, 1.5, "no")))


def test_segments_are_joined_with_spaces_where_the_language_has_them() -> None:
    parts = RecognisedSegment(0, 1, "one"), RecognisedSegment(1, 2, " two")
    assert formats.plain_text(transcript(*parts)) == "one two"
    assert formats.plain_text(transcript(*parts, language="ja")) == "onetwo"


def test_verbose_json_has_what_openai_documents() -> None:
    answer = formats.as_verbose_json(transcript(HELLO), words=True)

    assert (answer["language"], answer["duration"], answer["usage"]["seconds"]) == ("english", 4000.0, 4000)
    assert answer["words"] == [{"word": "hello", "start": 0.1, "end": 0.5}]
    assert set(answer["segments"][0]) == {
        *("id", "seek", "start", "end", "text", "tokens"),
        *("temperature", "avg_logprob", "compression_ratio", "no_speech_prob"),
    }


def test_an_event_is_one_line_whatever_is_in_it() -> None:
    sent = formats.delta_event("zwei\nZeilen ü")

    assert sent.startswith(b"data: {")
    assert sent.endswith(b"}\n\n")
    assert sent.count(b"\n") == 2
    assert json.loads(sent.removeprefix(b"data: "))["delta"] == "zwei\nZeilen ü"


def test_languages_are_known_by_code_tag_and_name() -> None:
    assert [language_code(given) for given in ("en", "en-GB", "EN_us", "English", "haitian creole", "xx", "")] == (
        ["en", "en", "en", "en", "ht", None, None]
    )
    assert [language_code(given) for given in ("nb-NO", "fil", "cmn-Hans-CN", "jv")] == ["no", "tl", "zh", "jw"]
    assert len(LANGUAGES) == 100
    assert language_name("de") == "german"
    assert language_name("") == ""


def test_pieces_become_one_recording() -> None:
    nothing = Transcription("", 0.0, 2.0, ())
    whole = join([nothing, shift(transcript(HELLO), 10.0), shift(transcript(HELLO), 20.0)], duration=30.0)

    assert whole.language == "en"
    assert [segment.start for segment in whole.segments] == [10.0, 20.0]
    assert whole.segments[1].words[0].end == 20.5
    assert join([nothing], duration=2.0, language="de").language == "de"
