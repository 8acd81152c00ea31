"""The engine host: one process for one device. It loads the model once and renders the frames of all conversations in
common batches; each conversation is one connection.

The event loop only moves messages, so it answers at once whatever the model does; the model has a thread of its own. A
stream is rendered ahead no further than the client gave credit for, and whoever has least ready goes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import math
import mmap
import os
import secrets
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from . import pictures, protocol
from .model import SAMPLE_RATE, Face, Model, ModelError, Session, Video
from .protocol import EngineProtocolError, MessageKind

logger = logging.getLogger("molts_engine_adapter")

WINDOW_SECONDS = 0.004  # how long a batch that is not full waits for others
HEADROOM = 0.75  # of the measured speed is promised to conversations
RING = 8  # frames a stream may be ahead
HELLO_SECONDS = 5.0
READY_SECONDS = 120.0
SEND_SECONDS = 5.0
LINGER_SECONDS = 2.0
CONNECTIONS = 256
TROUBLED_SECONDS = 600.0  # how long a host without a model says why, instead of being started again for each call
IDLE_FRAMES = 100
STUCK = 70  # exit status of a host whose model stands still


class Flush:
    """Stands in the inbox where an utterance ends."""


class Stream:
    """One conversation: speech that waits, the session that makes jobs of it, frames that wait for credit."""

    def __init__(self, model: Model, session: Session, fps: float) -> None:
        self.model = model
        self.session = session
        self.epoch = 0
        self.credit = 0
        self.outbox: deque[Any] = deque()  # frames as they are sent; None where an utterance ends
        self.in_flight = 0
        self.closed = False
        self._fps = fps
        self._inbox: deque[Any] = deque()
        self._waiting_samples = 0
        self._stale = False  # what is in flight was interrupted
        self._begin()

    def _begin(self) -> None:
        self._samples = self._made = 0
        self._ending = False
        self._last: Any = None

    # -- what comes in -------------------------------------------------------------------------------------------------
    def push(self, samples: Any) -> None:
        """Speech (int16). Raises ModelError when the client lets too much of it wait."""
        self._waiting_samples += len(samples)
        if self._waiting_samples > (2 * self.model.audio_seconds + 2) * SAMPLE_RATE:
            raise ModelError("More than %.0f s of speech wait to be rendered." % (2 * self.model.audio_seconds))
        self._inbox.append(samples)
        self._feed()

    def flush(self) -> None:
        self._inbox.append(Flush)
        self._feed()

    def clear(self, epoch: int) -> None:
        self.epoch = epoch
        self._inbox.clear()
        self.outbox.clear()
        self._waiting_samples = 0
        self._begin()
        if self.in_flight:
            self._stale = True
        else:
            self.session.reset()

    def _feed(self) -> None:
        """Give the session what it may have: never during a job, never the next utterance before this one is done."""
        while self._inbox and not self._ending and not self.in_flight:
            item = self._inbox.popleft()
            if item is Flush:
                self._ending = True
                if self._samples:
                    self.session.finish()
            else:
                self._samples += len(item)
                self.session.push(item.astype(np.float32) / 32768)

    # -- what goes out -------------------------------------------------------------------------------------------------
    @property
    def ahead(self) -> int:
        """Frames ready or being made: who has fewer goes first."""
        return len(self.outbox) + self.in_flight * self.model.frames_per_job - self.credit

    @property
    def _due(self) -> int:
        """Frames that the speech so far makes."""
        return math.ceil(self._samples * self._fps / SAMPLE_RATE - 1e-6)

    def take_jobs(self) -> list[Any]:
        """Jobs that may be rendered now; an utterance whose last frames were made ends on the way."""
        jobs: list[Any] = []
        if self.closed or self.in_flight:
            return jobs
        while len(jobs) < self.model.jobs_at_once:
            room = self.credit - len(self.outbox) - len(jobs) * self.model.frames_per_job
            if room <= 0:
                break
            job = None
            if not self._ending or self._made < self._due:
                job = self.session.next_job()
            if job is not None:
                jobs.append(job)
            elif jobs or not self._ending:
                break
            else:
                self._end_utterance()
        self.in_flight = len(jobs)
        return jobs

    def _end_utterance(self) -> None:
        missing = self._due - self._made
        if missing > self.model.missing_frames or (missing and self._last is None):
            raise ModelError(f"{self.model.label} gave {self._made} frames of {self._due}.")
        self.outbox.extend([self._last] * missing)
        self.outbox.append(None)
        self.session.reset()
        self._begin()
        self._feed()

    def job_done(self, frames: list[Any]) -> None:
        """Frames of one job, in order. Those beyond the end of the speech are dropped, as what was interrupted is."""
        self.in_flight -= 1
        if not self._stale:
            if self._ending:
                frames = frames[: max(0, self._due - self._made)]
            self._made += len(frames)
            self._waiting_samples = max(0, self._waiting_samples - round(len(frames) * SAMPLE_RATE / self._fps))
            self.outbox.extend(frames)
            if frames:
                self._last = frames[-1]
        if not self.in_flight:
            if self._stale:
                self._stale = False
                self.session.reset()
            self._feed()


class SharedFrames:
    """A file in memory through which frames reach a client on the same machine: RING slots of one frame each. The
    client deletes the file's name as soon as it has it open."""

    def __init__(self, frame_bytes: int) -> None:
        folder = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()  # noqa: S108 - random name, O_EXCL
        self.path = os.path.join(folder, "molts-engine-" + secrets.token_hex(16))
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(descriptor, frame_bytes * RING)
            self._memory = mmap.mmap(descriptor, frame_bytes * RING)
        finally:
            os.close(descriptor)
        self._frame_bytes = frame_bytes
        self._next = 0

    def put(self, frame: Any) -> int:
        """The slot it was put into. The client's credit keeps a slot from being used again too early."""
        slot = self._next
        start = slot * self._frame_bytes
        self._memory[start : start + self._frame_bytes] = frame.data.cast("B")
        self._next = (slot + 1) % RING
        return slot

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self._memory.close()


class Host:
    """Serves `model` at an address until `stop`, or until nobody was there for `idle_seconds`."""

    def __init__(
        self, model: Model, *, slots: int = 0, idle_seconds: float = 0, secret: str = "", mark: str = ""
    ) -> None:
        self.model = model
        self._mark = mark
        self._slots = slots
        self._secret = secret
        self._idle_seconds = idle_seconds
        self._measured: float | None = None
        self._trouble: ModelError | None = None
        self._ready = asyncio.Event()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "model")
        self._streams: list[Stream] = []
        self._openings = 0
        self._connections = 0
        self._writers: dict[Stream, asyncio.Event] = {}
        self._failures: dict[Stream, ModelError] = {}
        self._last_used = time.monotonic()
        self._frames = 0
        self._calls = 0
        self._busy_seconds = 0.0

    # -- running -------------------------------------------------------------------------------------------------------
    async def run(self, address: str) -> None:
        place = protocol.parse_address(address)
        if isinstance(place, str):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place)
            old = os.umask(0o077)
            try:
                server = await asyncio.start_unix_server(self._serve, place)
            finally:
                os.umask(old)
        else:
            server = await asyncio.start_server(self._serve, place[0], place[1])
        tasks = [asyncio.ensure_future(self._load()), asyncio.ensure_future(self._schedule())]
        if self._idle_seconds:
            tasks.append(asyncio.ensure_future(self._watch_idle()))
        logger.info("%s serves at %s", self.model.label, address)
        try:
            await self._stop.wait()
        finally:
            server.close()
            await end(*tasks)
            if isinstance(place, str):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(place)

    def stop(self) -> None:
        self._stop.set()

    async def _in_model_thread(self, call: Any, *arguments: Any, seconds: float) -> Any:
        """A model that does not come back cannot be stopped in a thread: the process ends, and its supervisor starts
        it anew."""
        working = asyncio.get_event_loop().run_in_executor(self._thread, call, *arguments)
        done, _ = await asyncio.wait([working], timeout=seconds)
        if not done:
            logger.critical("%s stood still for %.0f s: ending this process", self.model.label, seconds)
            os._exit(STUCK)
        return working.result()

    async def _load(self) -> None:
        try:
            await self._in_model_thread(self.model.load, seconds=1800)
            if not self._slots:
                self._measured = await self._in_model_thread(self.model.measure, seconds=600)
        except ModelError as error:
            self._trouble = error
        except Exception as error:
            logger.exception("%s cannot be loaded", self.model.label)
            self._trouble = ModelError(f"{self.model.label} cannot be loaded: {type(error).__name__}: {error}")
        if self._trouble:
            logger.error("%s", self._trouble)
        self._ready.set()

    async def _watch_idle(self) -> None:
        while time.monotonic() - self._last_used < self._longest_idle:
            await asyncio.sleep(min(1.0, self._idle_seconds / 4))
            if self._streams:
                self._last_used = time.monotonic()
        logger.info("nobody was here for %.0f s: ending", self._longest_idle)
        self._stop.set()

    @property
    def _longest_idle(self) -> float:
        return max(self._idle_seconds, TROUBLED_SECONDS) if self._trouble else self._idle_seconds

    # -- slots ---------------------------------------------------------------------------------------------------------
    @property
    def slots(self) -> int | None:
        """Conversations at once that keep up with time; None when that was not measured."""
        if self._slots:
            return min(self._slots, self.model.most_sessions)
        if self._measured is None:
            return None
        return min(self.model.most_sessions, int(self._measured * HEADROOM / self.model.fps))

    def _capacity(self) -> int:
        """At least one, so that a device too slow for conversations still makes videos."""
        slots = self.slots
        return max(1, slots) if slots is not None else 1

    def health(self) -> dict[str, Any]:
        slots, speed = self.slots, self._measured
        ready, text = True, "ready"
        if self._trouble:
            ready, text = False, str(self._trouble)
        elif not self._ready.is_set():
            ready, text = False, "is loading its model"
        elif slots == 0 and self.model.live:
            ready = False
            text = (
                f"renders {speed or 0:.1f} frames a second, a conversation takes {self.model.fps:.0f}: for videos only"
            )
        elif speed is not None:
            text = f"renders {speed:.0f} frames a second, enough for {slots} at once"
        return {
            "ready": ready,
            "text": text,
            "loading": not self._ready.is_set(),
            "code": self._trouble.code if self._trouble else "",
            "engine": self.model.name,
            "mark": self._mark,
            "slots": slots,
            "used": len(self._streams) + self._openings,
            "frames_per_second": round(speed, 1) if speed is not None else None,
            "pid": os.getpid(),
            "frames": self._frames,
            "calls": self._calls,
            "busy_seconds": round(self._busy_seconds, 3),
        }

    # -- rendering -----------------------------------------------------------------------------------------------------
    async def _schedule(self) -> None:
        """Batch after batch, for as long as the host lives."""
        await self._ready.wait()
        while True:
            await self._wake.wait()
            jobs = self._collect([])
            if jobs and len(jobs) < self.model.batch and len(self._streams) > len({id(stream) for stream, _ in jobs}):
                await asyncio.sleep(WINDOW_SECONDS)
                jobs = self._collect(jobs)
            self._tell_writers()
            if not jobs:
                self._wake.clear()
                continue
            started = time.perf_counter()
            results = await self._in_model_thread(self._render, jobs, seconds=max(20.0, 2 * self.model.frame_seconds))
            self._busy_seconds += time.perf_counter() - started
            for (stream, _), frames in zip(jobs, results):
                if isinstance(frames, ModelError):
                    self._failures.setdefault(stream, frames)
                    stream.closed = True
                    frames = []
                stream.job_done(frames)
                self._frames += len(frames)
            self._tell_writers()

    def _collect(self, jobs: list[Any]) -> list[Any]:
        for stream in sorted(self._streams, key=lambda stream: stream.ahead):
            if len(jobs) >= self.model.batch:
                break
            try:
                jobs.extend((stream, job) for job in stream.take_jobs())
            except Exception as error:
                self._failures[stream] = as_model_error(error, self.model.label)
                stream.closed = True
        return jobs

    def _tell_writers(self) -> None:
        for stream, event in self._writers.items():
            if stream.outbox or stream.closed:
                event.set()

    def _render(self, jobs: list[Any]) -> list[Any]:
        """Frames as they are sent, or the ModelError, for each job. One conversation's bad input must not end the
        others: when a batch fails, each job is tried alone, and where a job must not be rendered twice, at once."""
        self._calls += 1
        each = [[job] for job in jobs]
        if self.model.remembers:
            groups = each
        elif len({id(stream) for stream, _ in jobs}) == 1:
            groups = [jobs]
        else:
            with contextlib.suppress(Exception):
                return self._render_batch(jobs)
            groups = each
        return [result for group in groups for result in self._render_alone(group)]

    def _render_alone(self, jobs: list[Any]) -> list[Any]:
        """The same for jobs of one conversation."""
        try:
            return self._render_batch(jobs)
        except Exception as error:
            logger.warning("a job failed: %s", error, exc_info=not isinstance(error, ModelError))
            return [as_model_error(error, self.model.label)] * len(jobs)

    def _render_batch(self, jobs: list[Any]) -> list[Any]:
        given = self.model.render([(stream.session, job) for stream, job in jobs])
        if len(given) != len(jobs):
            raise ModelError(f"{self.model.label} gave frames for {len(given)} jobs of {len(jobs)}.")
        return [[stream.encode(frame) for frame in frames] for (stream, _), frames in zip(jobs, given)]

    # -- connections ---------------------------------------------------------------------------------------------------
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > CONNECTIONS:
                raise ModelError("Too many connections.", "full")
            await self._greet(reader, writer)
            kind, payload = await asyncio.wait_for(protocol.read(reader), protocol.SILENCE_SECONDS)
            if kind is MessageKind.HEALTH:
                await send(writer, protocol.pack_json(MessageKind.HEALTH, self.health()))
            elif kind is MessageKind.OPEN:
                await self._converse(reader, writer, payload)
            else:
                raise EngineProtocolError(f"{kind.name} where OPEN or HEALTH was expected")
        except ModelError as error:
            await refuse(reader, writer, error.code, str(error))
        except EngineProtocolError as error:
            await refuse(reader, writer, "protocol", str(error))
        except (asyncio.TimeoutError, EOFError, OSError) as error:
            logger.debug("a connection ended: %s", error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.exception("a connection failed")
            await refuse(reader, writer, "failed", f"{type(error).__name__}: {error}")
        finally:
            self._connections -= 1
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await send(writer, protocol.hello(engine=self.model.name, label=self.model.label, pid=os.getpid()))
        kind, payload = await asyncio.wait_for(protocol.read(reader), HELLO_SECONDS)
        if kind is not MessageKind.HELLO:
            raise EngineProtocolError(f"{kind.name} where HELLO was expected")
        greeting = protocol.check_hello(payload)
        given = str(greeting.get("secret", ""))
        if self._secret and not hmac.compare_digest(given.encode(), self._secret.encode()):
            raise EngineProtocolError("the secret is wrong: set MOLTS_ENGINE_SECRET to the same on both sides")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, payload: bytes) -> None:
        request, portrait = protocol.unpack_open(payload)
        video = read_video(request.get("video"))
        face_value = request.get("face")
        face_value = face_value if isinstance(face_value, dict) else {}
        options = face_value.get("options")
        face = Face(str(face_value.get("key", "")), portrait, options if isinstance(options, dict) else {})
        try:
            await asyncio.wait_for(self._ready.wait(), READY_SECONDS)
        except asyncio.TimeoutError:
            raise ModelError("The model is still being loaded.", "full") from None
        if self._trouble:
            raise self._trouble
        used = len(self._streams) + self._openings
        if used >= self._capacity():
            raise ModelError(f"All {self._capacity()} places of {self.model.label} are taken.", "full")
        self._openings += 1
        try:
            stream, idle = await self._in_model_thread(self._open, face, video, seconds=600)
            self._streams.append(stream)
        finally:
            self._openings -= 1
        shared = None
        try:
            if request.get("shared_memory"):
                with contextlib.suppress(OSError):  # no room there: frames go through the socket
                    shared = SharedFrames(stream.frame_bytes)
            await self._exchange(reader, writer, stream, idle, shared)
        finally:
            stream.closed = True
            self._streams.remove(stream)
            self._failures.pop(stream, None)
            self._last_used = time.monotonic()
            if shared:
                shared.close()
            self._thread.submit(close_quietly, stream.session)  # after whatever it is rendering

    def _open(self, face: Face, video: Video) -> tuple[ConnectedStream, list[Any]]:
        try:
            session = self.model.open(face, video)
        except Exception as error:
            raise as_model_error(error, self.model.label) from error
        stream = ConnectedStream(self.model, session, video)
        try:
            idle = [stream.encode(frame) for frame in list(session.idle)[:IDLE_FRAMES]]
            if not idle:
                raise ModelError(f"{self.model.label} gave no picture of the face at rest.")
        except Exception as error:
            close_quietly(session)
            raise as_model_error(error, self.model.label) from error
        return stream, idle

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stream: ConnectedStream,
        idle: list[Any],
        shared: SharedFrames | None,
    ) -> None:
        model = self.model
        await send(
            writer,
            protocol.pack_json(
                MessageKind.OPENED,
                {
                    "width": stream.video.width,
                    "height": stream.video.height,
                    "fps": stream.video.fps,
                    "pixels": stream.pixels,
                    "ring": RING,
                    "shared": shared.path if shared else None,
                    "idle_frames": len(idle),
                    "lookahead": model.lookahead,
                    "audio_seconds": model.audio_seconds,
                    "frame_seconds": model.frame_seconds,
                },
            ),
        )
        for index, frame in enumerate(idle):
            head = protocol.FRAME.pack(0, index, protocol.IN_BAND)
            await send(writer, protocol.pack(MessageKind.IDLE, head + frame.tobytes()))
        wake_writer = asyncio.Event()
        self._writers[stream] = wake_writer
        writing = asyncio.ensure_future(self._write(writer, stream, shared, wake_writer))
        reading = asyncio.ensure_future(self._read(reader, writer, stream))
        try:
            done, _ = await asyncio.wait([writing, reading], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            del self._writers[stream]
            await end(writing, reading)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: ConnectedStream) -> None:
        while True:
            kind, payload = await asyncio.wait_for(protocol.read(reader), protocol.SILENCE_SECONDS)
            if kind is MessageKind.PING:
                writer.write(protocol.pack(MessageKind.PONG))
            elif kind is MessageKind.CREDIT:
                stream.credit = min(RING, stream.credit + protocol.unpack_number(payload))
                if stream.outbox:
                    self._writers[stream].set()
            elif kind is MessageKind.CLEAR:
                stream.clear(protocol.unpack_number(payload))
            elif kind is MessageKind.CLOSE:
                return
            elif kind in (MessageKind.AUDIO, MessageKind.FLUSH):
                if protocol.unpack_number(payload) != stream.epoch:
                    continue
                if kind is MessageKind.FLUSH:
                    stream.flush()
                elif len(payload) % 2:
                    raise EngineProtocolError("AUDIO of half a sample")
                else:
                    stream.push(np.frombuffer(payload, "<i2", offset=protocol.NUMBER.size))
            else:
                raise EngineProtocolError(f"{kind.name} is not for the host")
            self._wake.set()

    async def _write(
        self, writer: asyncio.StreamWriter, stream: ConnectedStream, shared: SharedFrames | None, wake: asyncio.Event
    ) -> None:
        index = 0
        while True:
            await wake.wait()
            wake.clear()
            while stream.outbox and (stream.credit or stream.outbox[0] is None):
                epoch, frame = stream.epoch, stream.outbox.popleft()
                if frame is None:
                    index = 0
                    await send(writer, protocol.pack_number(MessageKind.END, epoch))
                    continue
                stream.credit -= 1
                slot = shared.put(frame) if shared else protocol.IN_BAND
                pixels = b"" if shared else frame.tobytes()
                await send(writer, protocol.pack(MessageKind.FRAME, protocol.FRAME.pack(epoch, index, slot) + pixels))
                index += 1
            self._wake.set()  # there is room again
            if stream in self._failures and not stream.outbox:
                raise self._failures[stream]


class ConnectedStream(Stream):
    """A stream that knows what its frames look like on the wire."""

    def __init__(self, model: Model, session: Session, video: Video) -> None:
        super().__init__(model, session, video.fps)
        self.video = video
        self.pixels = "i420" if model.pixels == "i420" else pictures.wire_pixels()
        self.frame_bytes = pictures.frame_bytes(self.pixels, video.width, video.height)

    def encode(self, frame: Any) -> Any:
        """A frame of the model as it is sent: flat uint8. Raises ModelError for what is no frame."""
        if self.model.pixels != "i420":
            frame = pictures.to_wire(frame, self.model.label, self.video.width, self.video.height)
        flat = np.ascontiguousarray(frame).reshape(-1)
        if flat.dtype != np.uint8 or flat.nbytes != self.frame_bytes:
            raise ModelError(
                f"{self.model.label} gave a frame of {flat.nbytes} bytes of {flat.dtype}; expected "
                f"{self.frame_bytes} of uint8."
            )
        return flat


def read_video(value: Any) -> Video:
    """Raises ModelError for sizes that no video has."""
    try:
        video = Video(int(value["width"]), int(value["height"]), float(value["fps"]))
    except (KeyError, TypeError, ValueError):
        raise ModelError("OPEN lacks video.width, video.height or video.fps.", "protocol") from None
    if any(side % 2 or not 16 <= side <= protocol.LARGEST_SIDE for side in (video.width, video.height)):
        raise ModelError(f"A video of {video.width}x{video.height} cannot be made: even sides, 16 to 4096.")
    if not 1 <= video.fps <= 60:
        raise ModelError(f"{video.fps:.1f} frames a second cannot be made: 1 to 60.")
    return video


def as_model_error(error: Exception, label: str) -> ModelError:
    if isinstance(error, ModelError):
        return error
    return ModelError(f"{label} failed: {type(error).__name__}: {str(error)[:300]}")


def close_quietly(session: Session) -> None:
    try:
        session.close()
    except Exception:
        logger.exception("a session could not be closed")


async def end(*tasks: Any) -> None:
    """Cancel, and again: before Python 3.12, `wait_for` forgets a cancellation that meets its result."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.2)
    await asyncio.gather(*tasks, return_exceptions=True)


async def send(writer: asyncio.StreamWriter, message: bytes) -> None:
    """Raises OSError when the other side does not take it within SEND_SECONDS."""
    writer.write(message)
    try:
        await asyncio.wait_for(writer.drain(), SEND_SECONDS)
    except asyncio.TimeoutError as error:
        raise OSError("the client does not read") from error


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, code: str, text: str) -> None:
    """Say why, and wait until the client has gone: what it still sends would otherwise break the connection before it
    has read the reason."""
    with contextlib.suppress(OSError, RuntimeError, asyncio.TimeoutError):
        await send(writer, protocol.pack_json(MessageKind.ERROR, {"code": code, "text": text}))
        await asyncio.wait_for(discard(reader), LINGER_SECONDS)


async def discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass
