"""A conversation's connection to the speech server.

It keeps the sound of each utterance until the final words are there. When the connection breaks it connects again and
sends the utterance once more, so a server that was killed costs time and no words; one with too much to do is asked
again. Only when none answers for `PATIENCE_SECONDS` (less when one is there and stands still), or it is busy for
`BUSY_SECONDS`, is the utterance given up, for another recogniser to hear; the link goes on knocking.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import numpy as np
import soxr
from livekit import rtc
from numpy.typing import NDArray

from projects.providers.faster_whisper import protocol
from projects.providers.faster_whisper.protocol import (
    Final,
    Message,
    Open,
    Partial,
    Ready,
    Refused,
    SpeechProtocolError,
)
from projects.providers.shared.audio import RECOGNISER_RATE

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 4.0
"""How long an utterance waits for a server that went away: it is started again within that time."""
SILENT_PATIENCE_SECONDS = 1.0
"""The same for one that is there and does not answer: that has taken its time already."""
BUSY_SECONDS, HURRIED_BUSY_SECONDS = 4.0, 1.0
"""How long a server that is busy is asked again for the words of an utterance; hurried: when another can hear it."""
FIRST_BUSY_PAUSE, LONGEST_BUSY_PAUSE = 0.1, 1.0
FINAL_SECONDS = 20.0
CONNECT_SECONDS = 3.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
HEARTBEAT_SECONDS = 2.5
"""After so long without a word the server is asked whether it is there; it has half of that to answer."""
CLOSE_SECONDS = 1.0
MAX_UTTERANCE_BYTES = int(protocol.MAX_UTTERANCE_SECONDS * RECOGNISER_RATE) * 2


class SpeechServerAway(Exception):
    """No speech server answers, or it cannot serve this conversation."""


class SpeechServerFrozen(SpeechServerAway):
    """There is one, but it has stopped answering."""


class SpeechRefused(Exception):
    """The server said no to one utterance."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.detail)
        self.code = refused.code


class SentUtterance:
    """Sound on its way to the server, and the words on their way back."""

    def __init__(
        self, number: int, link: SpeechLink, silence: float, on_partial: Callable[[Partial], None] | None
    ) -> None:
        self.number = number
        self.sound = bytearray()
        self.paused_at: int | None = None
        self.ended = False
        self.on_partial = on_partial
        self.silence = silence
        self.give_up_at: float | None = None  # since the server is busy
        self.busy_pause = FIRST_BUSY_PAUSE
        self.final: asyncio.Future[Final] = asyncio.get_running_loop().create_future()
        self._link = link
        self._resampler: soxr.ResampleStream | None = None

    def push(self, frame: rtc.AudioFrame) -> None:
        """The next sound, mono, of any rate (always the same)."""
        samples = np.frombuffer(frame.data, dtype=np.int16)
        if frame.num_channels > 1:
            samples = samples.reshape(-1, frame.num_channels).mean(axis=1).astype(np.int16)
        if frame.sample_rate != RECOGNISER_RATE:
            # One resampler for the whole utterance: pieces that are resampled one by one would ring at every seam.
            self._resampler = self._resampler or soxr.ResampleStream(
                frame.sample_rate, RECOGNISER_RATE, 1, dtype="int16", quality="HQ"
            )
            samples = self._resampler.resample_chunk(samples)
        self._add(samples)

    def pause(self) -> None:
        """No voice for a moment: the server decodes as if this were the end."""
        self._flush()
        self.paused_at = len(self.sound)
        self._link.tell(self, protocol.Pause(utterance=self.number))

    def end(self) -> None:
        if not self.ended:
            self._flush()
            self.ended = True
            self._link.tell(self, protocol.End(utterance=self.number))

    def cancel(self) -> None:
        """Nobody wants the words any more."""
        if not self.final.done():
            self._link.tell(self, protocol.Cancel(utterance=self.number))
            self.final.cancel()

    def _flush(self) -> None:
        if self._resampler is not None:
            self._add(self._resampler.resample_chunk(np.empty(0, dtype=np.int16), last=True))
            self._resampler = None  # what comes after a pause begins anew, in silence: nothing rings

    def _add(self, samples: NDArray[np.int16]) -> None:
        sound = samples.tobytes()[: max(0, MAX_UTTERANCE_BYTES - len(self.sound))]  # more would not be heard
        self.sound += sound
        for piece in _pieces(sound):
            self._link.tell(self, piece)


class SpeechLink:
    """Connects on first use and stays connected until `aclose`."""

    def __init__(self, *, url: str, secret: str, opening: Open, on_away: Callable[[], None] = lambda: None) -> None:
        """`on_away` is called when there has been no server for long, and again whenever that happens anew."""
        self._url = url
        self._on_away = on_away
        self._secret = secret
        self._opening = opening
        self._numbers = itertools.count(1)
        self._utterances: dict[int, SentUtterance] = {}
        self._outgoing: asyncio.Queue[Message | bytes] | None = None  # while connected
        self._keeper: asyncio.Task[None] | None = None
        self._reason = "not connected yet"
        self._patience: asyncio.TimerHandle | None = None
        self.busy_seconds = BUSY_SECONDS
        self.model = ""
        self.is_away = False

    def connect(self) -> None:
        """Begin to connect, if that has not begun."""
        if self._keeper is None:
            self._went_down(PATIENCE_SECONDS)
            self._keeper = asyncio.create_task(self._keep(), name="speech-link")

    def begin(self, *, silence: float = 0.0, on_partial: Callable[[Partial], None] | None = None) -> SentUtterance:
        """A new utterance. Raises SpeechServerAway when there has been no server for long."""
        self.connect()
        if self.is_away:
            raise SpeechServerAway(self._reason)
        utterance = SentUtterance(next(self._numbers), self, silence, on_partial)
        self._utterances[utterance.number] = utterance
        utterance.final.add_done_callback(lambda _: self._utterances.pop(utterance.number, None))
        self.tell(utterance, protocol.UtteranceStart(utterance=utterance.number, silence=silence))
        return utterance

    async def hear(self, utterance: SentUtterance) -> Final:
        """End `utterance` and wait for its words. Raises SpeechServerAway or SpeechRefused."""
        utterance.end()
        try:
            async with asyncio.timeout(FINAL_SECONDS):
                return await utterance.final
        except TimeoutError:
            raise SpeechServerAway(f"no words within {FINAL_SECONDS:.0f} s") from None
        finally:
            utterance.cancel()

    def tell(self, utterance: SentUtterance, what: Message | bytes) -> None:
        """Pass on what belongs to `utterance`; while there is no connection its sound is kept and sent later."""
        if self._outgoing is not None and utterance.number in self._utterances:
            self._outgoing.put_nowait(what)

    async def aclose(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        for utterance in list(self._utterances.values()):
            utterance.final.cancel()

    # -- the connection ------------------------------------------------------------------------------------------------
    async def _keep(self) -> None:
        """Connect, again and again."""
        pause = FIRST_PAUSE
        try:
            while True:
                patience = PATIENCE_SECONDS
                try:
                    await self._converse()
                except (OSError, aiohttp.ClientError, TimeoutError, SpeechProtocolError, SpeechServerAway) as error:
                    self._reason = str(error) or type(error).__name__
                    if isinstance(error, SpeechServerFrozen):
                        patience = SILENT_PATIENCE_SECONDS
                if self._outgoing is not None:  # it was up
                    pause = FIRST_PAUSE
                    self._went_down(patience)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._cancel_patience()

    def _went_down(self, patience: float) -> None:
        if self._outgoing is not None:
            logger.info("speech server gone: %s", self._reason)
        self._outgoing = None
        self._patience = asyncio.get_running_loop().call_later(patience, self._give_up)

    def _give_up(self) -> None:
        """What waits for a server that does not come is heard otherwise."""
        logger.warning("no speech server: %s", self._reason)
        self.is_away = True
        self._on_away()
        for utterance in list(self._utterances.values()):
            if not utterance.final.done():
                utterance.final.set_exception(SpeechServerAway(self._reason))
                utterance.final.exception()  # its speaker may still be talking: nobody waits for it yet

    def _cancel_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    async def _converse(self) -> None:
        path = protocol.socket_path(self._url)
        connector = aiohttp.UnixConnector(path) if path else aiohttp.TCPConnector()
        headers = {"Authorization": f"Bearer {self._secret}"} if self._secret else {}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
            async with asyncio.timeout(CONNECT_SECONDS):
                socket = await http.ws_connect(
                    protocol.stream_url(self._url),
                    compress=0,
                    heartbeat=HEARTBEAT_SECONDS,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                )
                await socket.send_str(protocol.pack(self._opening))
                answer = await self._next(socket)
            if isinstance(answer, Refused):
                raise SpeechServerAway(answer.detail)
            if not isinstance(answer, Ready):
                raise SpeechProtocolError("the server did not say that it is ready")
            self._came_up(answer)
            assert self._outgoing is not None
            writer = asyncio.create_task(_write(socket, self._outgoing))
            try:
                while True:
                    self._take(await self._next(socket))
            finally:
                writer.cancel()
                await socket.close()

    def _came_up(self, ready: Ready) -> None:
        self._cancel_patience()
        if self.is_away:
            logger.info("speech server is back")
        self.is_away, self.model = False, ready.model
        self._outgoing = asyncio.Queue()
        for utterance in list(self._utterances.values()):
            self._send_again(utterance, self._outgoing)

    def _send_again(self, utterance: SentUtterance, outgoing: asyncio.Queue[Message | bytes]) -> None:
        outgoing.put_nowait(protocol.UtteranceStart(utterance=utterance.number, silence=utterance.silence))
        for piece in _pieces(bytes(utterance.sound)):
            outgoing.put_nowait(piece)
        if utterance.ended:
            outgoing.put_nowait(protocol.End(utterance=utterance.number))
        elif utterance.paused_at == len(utterance.sound):
            outgoing.put_nowait(protocol.Pause(utterance=utterance.number))

    async def _next(self, socket: aiohttp.ClientWebSocketResponse) -> protocol.FromServer:
        message = await socket.receive()
        if isinstance(message.data, aiohttp.ServerTimeoutError):
            raise SpeechServerFrozen("it does not answer")
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise SpeechServerAway(f"the connection ended {message.extra or ''}".strip())
        return protocol.read_server(message.data)

    def _take(self, message: protocol.FromServer) -> None:
        number: Any = getattr(message, "utterance", None)
        utterance = self._utterances.get(number)
        if utterance is None:
            return
        match message:
            case Partial():
                if utterance.on_partial is not None:
                    utterance.on_partial(message)
            case Final() if not utterance.final.done():
                utterance.final.set_result(message)
            case Refused() if not utterance.final.done():
                if message.code != "busy" or not self._ask_later(utterance):
                    utterance.final.set_exception(SpeechRefused(message))

    def _ask_later(self, utterance: SentUtterance) -> bool:
        """Ask again for the words of an utterance; False when the server has been busy for too long."""
        loop = asyncio.get_running_loop()
        utterance.give_up_at = utterance.give_up_at or loop.time() + self.busy_seconds
        if loop.time() + utterance.busy_pause > utterance.give_up_at:
            return False
        loop.call_later(utterance.busy_pause, self._ask_again, utterance)
        utterance.busy_pause = min(2 * utterance.busy_pause, LONGEST_BUSY_PAUSE)
        return True

    def _ask_again(self, refused: SentUtterance) -> None:
        """The server has forgotten the sound, and hears one utterance at a time: what is being said comes after it."""
        if self._outgoing is None or refused.final.done():
            return  # a new connection sends everything anyway
        refused.silence = 0.0  # it is counted already
        being_said = [each for each in self._utterances.values() if not each.ended]
        for utterance in [refused, *being_said]:
            self._send_again(utterance, self._outgoing)


def _pieces(sound: bytes) -> list[bytes]:
    size = protocol.MAX_SOUND_BYTES // 2
    return [sound[begin : begin + size] for begin in range(0, len(sound), size)]


async def _write(socket: aiohttp.ClientWebSocketResponse, outgoing: asyncio.Queue[Message | bytes]) -> None:
    with contextlib.suppress(OSError, aiohttp.ClientError):  # the reader notices too
        while True:
            what = await outgoing.get()
            if isinstance(what, bytes):
                await socket.send_bytes(what)
            else:
                await socket.send_str(protocol.pack(what))
