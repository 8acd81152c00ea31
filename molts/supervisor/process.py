"""Starting, watching, restarting and ending child processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from molts.redact import Redactor
from molts.supervisor import guardian
from molts.supervisor.logs import LineSplitter, PartLog
from molts.supervisor.signs import Alive

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
HEALTHY_SECONDS = 30.0
READY_POLL_SECONDS = 0.1
WATCH_SECONDS = 1.0
# A part may be slow to answer on a busy machine, and the supervisor itself may come late to hear it: silence counts
# when it lasted, and when it was looked for several times.
SILENT_SECONDS = 8.0
START_SECONDS = 120.0
MISSES_AT_MOST = 3


class Reporter(Protocol):
    """Where events go: one line each, with the name of the part."""

    def event(self, part: str, text: str, *, trouble: bool = False) -> None: ...

    def output(self, part: str, line: str) -> None:
        """A line that a child printed, already free of secrets."""


class PartFailed(Exception):
    """A part cannot run here. The text is one line: what, and how to mend it."""


@dataclass(frozen=True)
class Part:
    """One child process and how to treat it."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], Awaitable[bool]] | None = None
    # Asked again and again: one that is there and gives no sign of life any more is killed, and started again.
    alive: Alive | None = None
    # How long it may be silent.
    silent_seconds: float = SILENT_SECONDS
    # What the output of a part that dies before it was ever ready may hold, and what that means for people. Such a
    # part is not started again: it would die of the same cause.
    hopeless: Mapping[str, str] = field(default_factory=dict)
    # SIGTERM is sent this often, a second apart: some servers take the second one as "now".
    terms: int = 1
    stop_seconds: float = 5.0
    # Parts of the highest layer are ended first, all together; what they stand on comes after them.
    layer: int = 0


class Supervisor:
    """Keeps parts running. Use it inside one event loop: `start` each part, then `stop` once.

    Every child leads a process group of its own and carries the supervisor's mark in its environment. `guardian` kills
    them all when this process vanishes without having called `stop`.
    """

    def __init__(
        self,
        *,
        log_folder: Path,
        redact: Redactor,
        reporter: Reporter,
        first_delay: float = FIRST_DELAY,
        longest_delay: float = LONGEST_DELAY,
        healthy_seconds: float = HEALTHY_SECONDS,
        watch_seconds: float = WATCH_SECONDS,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self.mark = secrets.token_hex(8)
        self.failed: asyncio.Future[PartFailed] = asyncio.get_running_loop().create_future()
        self._log_folder = log_folder
        self._redact = redact
        self._reporter = reporter
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._healthy_seconds = healthy_seconds
        self._watch_seconds = watch_seconds
        self._start_seconds = start_seconds
        self._children: dict[str, _Child] = {}
        self._stopping = False
        self._guardian: asyncio.subprocess.Process | None = None
        self._guardian_keeper: asyncio.Task[None] | None = None

    async def start(self, part: Part) -> None:
        """Starts `part` and keeps it running from now on. Returns at once; `wait_ready` waits."""
        if self._guardian is None:
            await self._start_guardian()
        child = _Child(part, self, PartLog(self._log_folder, part.name, self._redact))
        self._children[part.name] = child
        child.keeper = asyncio.create_task(self._keep(child), name=f"keep {part.name}")

    async def wait_ready(self, name: str, *, deadline: float) -> None:
        """Returns once the part answers; raises PartFailed when it does not within `deadline` seconds."""
        child = self._children[name]
        try:
            async with asyncio.timeout(deadline):
                await child.became_ready.wait()
        except TimeoutError:
            raise PartFailed(f"{name} did not get ready within {deadline:.0f} s. Log: {child.log.path}") from None

    async def run_once(
        self, part: Part, *, deadline: float, on_line: Callable[[str], None] | None = None
    ) -> tuple[int, list[str]]:
        """Runs a command that ends by itself: its exit status (124: too slow) and the last lines it printed."""
        if self._guardian is None:
            await self._start_guardian()
        child = _Child(part, self, PartLog(self._log_folder, part.name, self._redact), on_line=on_line)
        self._children[part.name] = child
        try:
            await child.launch()
            async with asyncio.timeout(deadline):
                status = await child.wait()
        except TimeoutError:
            await child.end()
            status = 124
        except asyncio.CancelledError:
            child.kill_group()
            raise
        finally:
            self._children.pop(part.name, None)
            child.log.close()
        return status, list(child.log.last_lines)

    def pid(self, name: str) -> int | None:
        child = self._children.get(name)
        return child.process.pid if child and child.process and child.process.returncode is None else None

    async def stop(self) -> None:
        """Ends every part, the upper layers first: SIGTERM, and SIGKILL when its time is over."""
        self._stopping = True
        layers = sorted({child.part.layer for child in self._children.values()}, reverse=True)
        for layer in layers:
            ending = [self._stop(child) for child in self._children.values() if child.part.layer == layer]
            await asyncio.gather(*ending)
        self._children.clear()
        await self._stop_guardian()

    async def _stop(self, child: _Child) -> None:
        if child.keeper is not None:
            child.keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await child.keeper
        was_running = child.is_running
        quietly = await child.end()
        if was_running:
            self._reporter.event(child.part.name, "stopped" if quietly else "stopped (had to be killed)")
        child.log.close()

    def kill_everything(self) -> None:
        """The hurried end: SIGKILL to every group. For a second Ctrl-C."""
        for child in self._children.values():
            child.kill_group()

    # -- the life of one part ------------------------------------------------------------------------------------
    async def _keep(self, child: _Child) -> None:
        loop = asyncio.get_running_loop()
        delay = self._first_delay
        while True:
            started = loop.time()
            try:
                await child.launch()
            except OSError as error:
                self._give_up(
                    PartFailed(f"{child.part.name} cannot be started: {child.part.command[0]}: {error.strerror}")
                )
                return
            prober = asyncio.create_task(self._watch(child))
            try:
                status = await child.wait()
            finally:
                prober.cancel()
            lasted = loop.time() - started
            if reason := self._hopeless(child):
                self._give_up(PartFailed(reason))
                return
            if lasted >= self._healthy_seconds:
                delay = self._first_delay
            self._reporter.event(
                child.part.name,
                f"ended by itself ({ending(status)}) after {lasted:.0f} s; starting again in {delay:g} s. "
                f"Log: {child.log.path}",
                trouble=True,
            )
            await asyncio.sleep(delay)
            delay = min(delay * 2, self._longest_delay)

    async def _watch(self, child: _Child) -> None:
        """Says when the part is ready, and ends a process that gives no sign of life: `_keep` starts another."""
        getting_ready = asyncio.create_task(self._probe(child))
        try:
            if child.part.alive is None:
                await getting_ready
                return
            silent = await self._wait_for_silence(child, child.part.alive, getting_ready)
            self._reporter.event(child.part.name, f"gives no sign of life for {silent:.0f} s; killing it", trouble=True)
            child.kill_group()  # who stands still takes no SIGTERM
        finally:
            getting_ready.cancel()

    async def _wait_for_silence(self, child: _Child, alive: Alive, getting_ready: asyncio.Task[None]) -> float:
        """Returns once the process has been silent for too long: how long that was, in seconds. Until its first sign
        it may take the time that a start may take."""
        loop = asyncio.get_running_loop()
        heard_at, has_started, misses = loop.time(), False, 0
        while child.process is not None:
            await asyncio.sleep(self._watch_seconds)
            if await alive(child.process.pid):
                heard_at, has_started, misses = loop.time(), True, 0
                continue
            misses += 1
            has_started = has_started or (child.part.ready is not None and getting_ready.done())
            limit = child.part.silent_seconds if has_started else self._start_seconds
            if misses >= MISSES_AT_MOST and loop.time() - heard_at >= limit:
                break
        return loop.time() - heard_at

    async def _probe(self, child: _Child) -> None:
        started = asyncio.get_running_loop().time()
        if child.part.ready is None:
            self._reporter.event(child.part.name, f"started (process {child.process.pid if child.process else '?'})")
            child.became_ready.set()
            return
        while not await child.part.ready():  # noqa: ASYNC110 - another process: nothing here could set an event
            await asyncio.sleep(READY_POLL_SECONDS)
        took = asyncio.get_running_loop().time() - started
        word = "running again" if child.became_ready.is_set() else "ready"
        self._reporter.event(child.part.name, f"{word} after {took:.1f} s")
        child.became_ready.set()

    def _hopeless(self, child: _Child) -> str | None:
        if child.became_ready.is_set() and child.part.ready is not None:
            return None
        said = "\n".join(child.log.last_lines)
        return next((text for sign, text in child.part.hopeless.items() if sign in said), None)

    def _give_up(self, reason: PartFailed) -> None:
        if not self.failed.done():
            self.failed.set_result(reason)

    # -- the guardian ----------------------------------------------------------------------------------------------
    async def _start_guardian(self) -> None:
        self._guardian = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            guardian.__file__,
            self.mark,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        for child in self._children.values():
            if child.group is not None:
                self.tell_guardian("+", child.group)
        self._guardian_keeper = asyncio.create_task(self._keep_guardian(self._guardian))

    async def _keep_guardian(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        await asyncio.sleep(self._first_delay)
        if not self._stopping:
            await self._start_guardian()

    async def _stop_guardian(self) -> None:
        if self._guardian_keeper is not None:
            self._guardian_keeper.cancel()
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.close()
            await self._guardian.wait()
            self._guardian = None

    def tell_guardian(self, sign: str, group: int) -> None:
        if self._guardian is not None and self._guardian.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._guardian.stdin.write(f"{sign}{group}\n".encode())

    def child_env(self, part: Part) -> dict[str, str]:
        return {**part.env, guardian.MARK: self.mark}

    def report_output(self, part: str, line: str) -> None:
        self._reporter.output(part, line)


class _Child:
    """A part's current process, if any."""

    def __init__(
        self, part: Part, owner: Supervisor, log: PartLog, *, on_line: Callable[[str], None] | None = None
    ) -> None:
        self.part = part
        self.log = log
        self.process: asyncio.subprocess.Process | None = None
        self.group: int | None = None
        self.keeper: asyncio.Task[None] | None = None
        self.became_ready = asyncio.Event()
        self._owner = owner
        self._on_line = on_line
        self._reader: asyncio.Task[None] | None = None
        self._launching: asyncio.Future[None] | None = None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def launch(self) -> None:
        # Shielded: a start that is cancelled half-way must not leave a process that nobody knows of.
        self._launching = asyncio.ensure_future(self._launch())
        await asyncio.shield(self._launching)

    async def _launch(self) -> None:
        # A pipe of our own: asyncio's would make `wait` wait for every grandchild that holds the other end.
        our_end, its_end = os.pipe()
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.part.command,
                env=self._owner.child_env(self.part),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=its_end,
                stderr=its_end,
                start_new_session=True,
            )
        except BaseException:
            os.close(our_end)
            raise
        finally:
            os.close(its_end)
        self.group = self.process.pid
        self._owner.tell_guardian("+", self.group)
        self._reader = asyncio.create_task(self._read(our_end))

    async def wait(self) -> int:
        """The exit status, once the process has ended and its last words are in the log."""
        if self.process is None:
            raise RuntimeError(f"{self.part.name} was not launched")
        status = await self.process.wait()
        self.kill_group()  # what it left behind would hold its ports and do its work twice
        if self._reader is not None:
            # A grandchild in a group of its own may hold the pipe open for as long as it lives: do not wait for it.
            await asyncio.wait([self._reader], timeout=1.0)
            self._reader.cancel()
        return status

    async def end(self) -> bool:
        """Ends the process and everything in its group; False when it had to be killed."""
        quietly = True
        if self._launching is not None:
            await asyncio.wait([self._launching])
        if self.is_running:
            for _ in range(self.part.terms - 1):
                self._signal(signal.SIGTERM)
                await self._ended_within(min(1.0, self.part.stop_seconds))
            self._signal(signal.SIGTERM)
            quietly = await self._ended_within(self.part.stop_seconds)
        self.kill_group()
        if self.process is not None:
            await self.wait()
        return quietly

    def kill_group(self) -> None:
        if self.group is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.group, signal.SIGKILL)
        self._owner.tell_guardian("-", self.group)
        self.group = None

    async def _ended_within(self, seconds: float) -> bool:
        if self.process is None:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self.process.wait()
        except TimeoutError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        # To the leader alone: servers that have workers end them in their own order.
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def _read(self, descriptor: int) -> None:
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", buffering=0)
        )
        splitter = LineSplitter()
        try:
            while data := await stream.read(65536):
                self._write(splitter.push(data))
        finally:
            self._write(splitter.end())
            transport.close()

    def _write(self, lines: Sequence[str]) -> None:
        for line in lines:
            shown = self.log.write(line)
            self._owner.report_output(self.part.name, shown)
            if self._on_line is not None:
                self._on_line(shown)


def ending(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"
