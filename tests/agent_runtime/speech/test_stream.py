"""Whole utterances through a real server with a real (small) Whisper."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import numpy as np
import pytest
import pytest_asyncio

from agent_runtime.speech import connections
from agent_runtime.speech.engine import LoadedWhisper, Task
from agent_runtime.speech.places import ListeningPlaces
from agent_runtime.speech.server import SpeechServer
from agent_runtime.speech.stream import quietest
from agent_runtime.speech.transcript import Transcription
from molts.errors import BadConfiguration, Busy
from projects.providers.faster_whisper.protocol import (
    Cancel,
    End,
    Final,
    Open,
    Partial,
    Pause,
    Ready,
    Refused,
    UtteranceStart,
)
from tests.agent_runtime.speech.live_server import serving, talking, until
from tests.agent_runtime.speech.voices import SENTENCES, say, silence
from tests.agent_runtime.stack import MICRO_WHISPER, free_port
from tests.visitor import trim_silence

TABLE = SENTENCES[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "speech.sock"


@pytest_asyncio.fixture
async def server(path: Path) -> AsyncIterator[SpeechServer]:
    async with serving(ListeningPlaces(sockets=(path,))) as server:
        yield server


async def test_words_come_while_somebody_speaks_and_agreed_ones_stay(
    server: SpeechServer, path: Path, tmp_path: Path
) -> None:
    async with talking(path) as talker:
        assert await talker.hear() == Ready(model="micro-whisper")
        await talker.say(UtteranceStart(utterance=1, silence=3.0))
        await talker.sound(np.concatenate([silence(0.5), say(TABLE, tmp_path)]), paced=True)
        await talker.say(End(utterance=1))
        partials, final = await talker.until_final()

    assert final.text == TABLE
    assert final.language == "en"
    assert [word.text.strip() for word in final.words] == TABLE.split()
    starts = [word.start for word in final.words]
    assert starts == sorted(starts)
    assert 0.3 <= final.start < final.end <= 4
    assert len(partials) >= 3
    agreed = ""
    for partial in partials:
        assert partial.text.startswith(agreed)
        assert len(partial.text[: partial.agreed]) == partial.agreed >= len(agreed)
        agreed = partial.text[: partial.agreed]
    assert len(agreed.split()) >= 4
    state = server.state()
    assert state["utterances"] == 1
    assert state["silence_seconds"] == 3.0
    assert 0.4 < state["silence_share"] < 0.7
    await until(lambda: server.streams == 0)


async def test_the_final_words_are_there_before_the_end_is_certain(
    server: SpeechServer, path: Path, tmp_path: Path
) -> None:
    async with talking(path) as talker:
        await talker.hear()
        await talker.say(UtteranceStart(utterance=1))
        await talker.sound(np.concatenate([silence(0.5), say(TABLE, tmp_path)]))
        await talker.say(Pause(utterance=1))
        await until(lambda: server.scheduler.figures.decodes["early"] == 1)
        await talker.say(End(utterance=1))
        _, final = await talker.until_final()

    assert final.text == TABLE
    assert server.scheduler.figures.decodes["final"] == 0  # the early words were the final ones


async def test_who_goes_on_after_a_pause_is_heard_to_the_end(server: SpeechServer, path: Path, tmp_path: Path) -> None:
    first, second = "hello what is the time", "please"
    async with talking(path) as talker:
        await talker.hear()
        await talker.say(UtteranceStart(utterance=1))
        await talker.sound(np.concatenate([silence(0.5), say(first, tmp_path)]))
        await talker.say(Pause(utterance=1))
        await talker.sound(np.concatenate([silence(0.15), say(second, tmp_path)]))
        await talker.say(End(utterance=1))
        _, final = await talker.until_final()
    assert final.text == f"{first} {second}"


async def test_who_speaks_for_longer_than_whisper_listens_is_heard_in_full(
    server: SpeechServer, path: Path, tmp_path: Path
) -> None:
    sentences = [SENTENCES[n % len(SENTENCES)] for n in range(16)]
    sound = np.concatenate([np.concatenate([say(text, tmp_path), silence(0.1)]) for text in sentences])
    assert len(sound) > 27 * 16_000
    async with talking(path) as talker:
        await talker.hear()
        await talker.say(UtteranceStart(utterance=1))
        await talker.sound(sound)
        await talker.say(End(utterance=1))
        _, final = await talker.until_final()
    assert len(final.words) >= 40  # of 110: this small model knows ten seconds at a time
    assert final.text.endswith("tomorrow morning")
    assert max(word.end for word in final.words) > 27
    assert [word.start for word in final.words] == sorted(word.start for word in final.words)


@pytest.mark.parametrize("word", ["yes", "no", "okay", "hello", "please", "goodbye"])
async def test_a_single_word_is_heard(server: SpeechServer, path: Path, tmp_path: Path, word: str) -> None:
    async with talking(path) as talker:
        await talker.hear()
        await talker.say(UtteranceStart(utterance=1))
        await talker.sound(np.concatenate([silence(0.5), trim_silence(say(word, tmp_path), level=200), silence(0.25)]))
        await talker.say(End(utterance=1))
        assert (await talker.until_final())[1].text == word


async def test_who_speaks_for_long_while_it_is_busy_is_heard_in_full(
    server: SpeechServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No part is longer than Whisper listens, however late it is cut."""
    decoded: list[float] = []
    make_room, decode = server.scheduler._make_room, server.engine.decode

    async def noting(model: LoadedWhisper, tasks: Sequence[Task]) -> list[Transcription]:
        decoded.extend(task.samples.size / 16_000 for task in tasks if task.words)  # partials are heard once more
        return await decode(model, tasks)

    monkeypatch.setattr(server.engine, "decode", noting)
    monkeypatch.setattr(server.scheduler, "_make_room", busy := Mock(side_effect=Busy("")))
    async with talking(path) as talker:
        await talker.hear()
        await talker.say(UtteranceStart(utterance=1))
        for _ in range(70):
            await talker.say(bytes(32_000))
        await until(lambda: busy.call_count > 60)
        monkeypatch.setattr(server.scheduler, "_make_room", make_room)
        await talker.say(End(utterance=1))
        await talker.until_final()
    assert max(decoded) <= 26
    assert sum(decoded) == pytest.approx(70)


async def test_who_cancels_after_the_end_is_not_waited_for(
    server: SpeechServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.scheduler, "_choose", list)  # nothing is served
    async with talking(path) as talker:
        await talker.hear()
        await talker.say(UtteranceStart(utterance=1), bytes(32_000), End(utterance=1))
        await until(lambda: server.scheduler.waiting == 1)
        await talker.say(Cancel(utterance=1))
        await until(lambda: server.scheduler.waiting == 0)
        assert server.figures.utterances == 0


async def test_a_cancelled_utterance_is_forgotten(server: SpeechServer, path: Path, tmp_path: Path) -> None:
    async with talking(path) as talker:
        await talker.hear()
        await talker.say(UtteranceStart(utterance=1))
        await talker.sound(say(TABLE, tmp_path)[:8000])
        await talker.say(Cancel(utterance=1), UtteranceStart(utterance=2))
        await talker.sound(say("goodbye", tmp_path))
        await talker.say(End(utterance=2))
        _, final = await talker.until_final()
    assert (final.utterance, final.text) == (2, "goodbye")
    await until(lambda: server.scheduler.waiting == 0)


async def test_hotwords_and_a_detected_language_reach_the_model(
    server: SpeechServer, path: Path, tmp_path: Path
) -> None:
    async with talking(path, opening=Open(hotwords="table")) as talker:
        await talker.hear()
        await talker.say(UtteranceStart(utterance=1))
        await talker.sound(say(TABLE, tmp_path))
        await talker.say(End(utterance=1))
        _, final = await talker.until_final()
    assert final.language == "en"
    assert "table" in final.text


async def test_four_who_speak_at_once_are_each_heard_as_if_alone(
    server: SpeechServer, path: Path, tmp_path: Path
) -> None:
    sounds = [say(text, tmp_path) for text in SENTENCES[:4]]

    async def one(samples: np.ndarray) -> str:
        async with talking(path) as talker:
            await talker.hear()
            await talker.say(UtteranceStart(utterance=1))
            await talker.sound(samples)
            await talker.say(End(utterance=1))
            return (await talker.until_final())[1].model_dump_json()

    together = await asyncio.gather(*map(one, sounds))
    assert together == [await one(samples) for samples in sounds]


@pytest.mark.parametrize("kind", ["silence", "noise", "hum", "keys"])
async def test_nothing_is_made_up(server: SpeechServer, path: Path, kind: str) -> None:
    """Even where the voice detector would have let it through."""
    seconds = np.arange(8 * 16_000) / 16_000
    noise = np.random.default_rng(3).normal(0, 900, seconds.size)
    hum = 4000 * np.sin(2 * np.pi * 50 * seconds) + 1500 * np.sin(2 * np.pi * 150 * seconds)
    keys = 5000 * (np.sin(2 * np.pi * 770 * seconds) + np.sin(2 * np.pi * 1336 * seconds)) * (seconds % 0.2 < 0.1)
    sound = {"silence": seconds * 0, "noise": noise, "hum": hum, "keys": keys}[kind].astype(np.int16)
    async with talking(path) as talker:
        await talker.hear()
        await talker.say(UtteranceStart(utterance=1))
        await talker.sound(sound)
        await talker.say(End(utterance=1))
        partials, final = await talker.until_final()
    assert (final.text, [partial.text for partial in partials]) == ("", [])


# -- the door --------------------------------------------------------------------------------------------------------
# ruff: noqa: ASYNC240 - a socket's file is looked at
async def test_only_our_user_may_connect_to_the_socket_and_it_is_gone_with_the_server(path: Path) -> None:
    path.touch()
    with pytest.raises(OSError, match="no socket"):
        async with serving(ListeningPlaces(sockets=(path,))):
            pass
    path.unlink()
    async with serving(ListeningPlaces(sockets=(path,))):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_socket_is_not_taken_from_the_server_that_listens_there(server: SpeechServer, path: Path) -> None:
    with pytest.raises(OSError, match="another server listens there"):
        async with serving(ListeningPlaces(sockets=(path,))):
            pass
    async with talking(path) as talker:
        assert isinstance(await talker.hear(), Ready)


async def test_what_a_killed_server_left_makes_room(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    async with serving(ListeningPlaces(sockets=(path,))), talking(path) as talker:
        assert isinstance(await talker.hear(), Ready)


async def test_a_secret_is_asked_for_on_the_network_and_pages_stay_out() -> None:
    port = free_port()
    places, url = ListeningPlaces(addresses=(("127.0.0.1", port),)), f"http://127.0.0.1:{port}"
    async with serving(places, secret="öffne dich"):
        async with talking(url=url, headers={"Authorization": "Bearer öffne dich"}) as talker:
            assert isinstance(await talker.hear(), Ready)
        wrong: tuple[dict[str, str], ...] = (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer öpen sesame"},
            {"Origin": "http://evil.example"},
        )
        for headers in wrong:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with talking(url=url, headers=headers):
                    pass
            assert caught.value.status == 403
        async with aiohttp.ClientSession() as http:
            assert await (await http.get(f"{url}/healthz")).json() == {"ready": True}
            assert (await http.get(f"{url}/v1/models")).status == 401


async def test_who_never_finishes_the_head_of_a_request_is_hung_up_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    head = b"GET /healthz HTTP/1.1\r\nHost: speech\r\n"
    async with serving(ListeningPlaces(sockets=(path,))), talking(path) as talker:
        assert isinstance(await talker.hear(), Ready)
        for sent in (b"", head, head + b"\r\n" + head):  # the last is answered once
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(sent)
            async with asyncio.timeout(10):
                answer = await reader.read()
            assert answer.count(b"200 OK") == sent.count(b"\r\n\r\n")
            writer.close()
        await talker.say(UtteranceStart(utterance=1), End(utterance=1))
        assert isinstance((await talker.until_final())[1], Final)  # a conversation may be silent for long


async def test_it_does_not_listen_beyond_this_machine_without_a_secret() -> None:
    with pytest.raises(BadConfiguration, match="MOLTS_SPEECH_SECRET"):
        async with serving(ListeningPlaces.parse(["0.0.0.0:0"])):
            pass


@pytest.mark.parametrize("word", ["nonsense", "127.0.0.1", "http://127.0.0.1:80", "host:port"])
def test_a_place_that_is_none_is_named(word: str) -> None:
    with pytest.raises(BadConfiguration, match=word):
        ListeningPlaces.parse([word])


@pytest.mark.parametrize(
    "opening",
    [UtteranceStart(utterance=1), Open(version=99), Open(model=str(MICRO_WHISPER.parent))],
    ids=lambda o: o.type,
)
async def test_an_opening_that_cannot_be_served_is_refused_with_the_reason(
    server: SpeechServer, path: Path, opening: Open
) -> None:
    async with talking(path, opening=opening) as talker:
        refused = await talker.hear()
        assert isinstance(refused, Refused)
        assert refused.detail
        assert (await talker.socket.receive()).type is aiohttp.WSMsgType.CLOSE


NONSENSE = [
    "",
    "{}",
    '{"type": "start"}',
    '{"type": "start", "utterance": -1}',
    '{"type": "start", "utterance": 1, "silence": 1e999}',
    '{"type": "start", "utterance": 1, "silence": 1e300}',
    b"odd",
]


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_nonsense_ends_only_its_own_conversation(
    server: SpeechServer, path: Path, tmp_path: Path, nonsense: str | bytes
) -> None:
    async with talking(path) as other, talking(path) as talker:
        assert isinstance(await talker.hear(), Ready)
        assert isinstance(await other.hear(), Ready)
        await (talker.socket.send_bytes(nonsense) if isinstance(nonsense, bytes) else talker.socket.send_str(nonsense))
        assert (await talker.socket.receive()).type is aiohttp.WSMsgType.CLOSE
        await other.say(UtteranceStart(utterance=1))
        await other.sound(say("goodbye", tmp_path))
        await other.say(End(utterance=1))
        assert (await other.until_final())[1].text == "goodbye"


async def test_the_longest_prompt_and_hotwords_leave_room_for_the_words(
    server: SpeechServer, path: Path, tmp_path: Path
) -> None:
    """In many scripts a character is a token or more: both would fill the decoder."""
    async with talking(path, opening=Open(language="en", prompt="ช" * 1000, hotwords="ก" * 1000)) as talker:
        await talker.hear()
        await talker.say(UtteranceStart(utterance=1))
        await talker.sound(say("goodbye", tmp_path))
        await talker.say(End(utterance=1))
        assert isinstance((await talker.until_final())[1], Final)


async def test_an_end_without_a_start_is_refused(server: SpeechServer, path: Path) -> None:
    async with talking(path) as talker:
        await talker.hear()
        await talker.say(End(utterance=5))
        assert (await talker.hear()) == Refused(utterance=5, code="bad", detail="no such utterance")


async def test_without_its_model_it_says_so_and_takes_it_when_it_comes(path: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    async with serving(ListeningPlaces(sockets=(path,)), model=str(later)) as server:
        assert server.state()["ready"] is False
        async with talking(path) as talker:
            refused = await talker.hear()
            assert isinstance(refused, Refused)
            assert refused.code == "no_model"
        later.symlink_to(MICRO_WHISPER)
        await until(lambda: server.state()["ready"], seconds=10)
        async with talking(path) as talker:
            assert isinstance(await talker.hear(), Ready)


def test_a_cut_is_made_where_it_is_quietest() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 5 * 16_000).astype(np.float32)
    sound[48_000:52_000] = 0
    assert 28_000 < quietest(sound) < 32_000


def test_a_partial_says_how_much_of_it_stays() -> None:
    assert Partial(utterance=1, text="book a", agreed=4).text[:4] == "book"
