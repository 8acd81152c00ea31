"""`manage.py up`: all of molts on this machine, with one command."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connections
from django.db.utils import DatabaseError

from molts.database import DatabaseUnavailable, check_writable, unavailable
from molts.env import read_env_file
from molts.errors import Unavailable
from molts.redact import Redactor
from molts.supervisor import stack as stack_of
from molts.supervisor.console import Console
from molts.supervisor.given import GivenEnvironment, Keys, write_private
from molts.supervisor.names import AGENT, AVATAR, CLOCK, JOBS, MEDIA, PART_NAMES, REDIS, RENDER, SPEECH, WEB
from molts.supervisor.process import Part, PartFailed, Supervisor
from molts.supervisor.stack import Stack
from projects.providers import providers_for
from projects.providers.base import Kind

REDIS_DEADLINE = 20.0
WORKER_DEADLINE = 300.0
CHECK_DEADLINE = 60.0
FETCH_DEADLINE = 6 * 3600.0
STILL_WAITING_SECONDS = 15.0


class CannotStart(Exception):
    """Why molts does not start, in one line that says how to mend it."""


class Command(BaseCommand):
    help = "Run all of molts on this machine and keep it running; ends everything on Ctrl-C."
    requires_system_checks = ()  # the web part runs them, and a stranger waits for every second here

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--without",
            action="append",
            default=[],
            metavar="PART",
            help=f"Leave a part out: {', '.join(PART_NAMES)}. May be repeated, or a comma list.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        os.umask(0o077)  # conversations and keys are in these files: whatever we make is for our user alone
        console = Console(sys.stdout, verbose=options["verbosity"] >= 2)
        try:
            without = parse_without(options["without"])
            with only_one_up(settings.MOLTS_DATA_DIR):
                status = run_up(console, without)
        except CannotStart as error:
            self.stderr.write(f"molts cannot start: {error}")
            sys.exit(1)
        sys.exit(status)


def run_up(console: Console, without: frozenset[str]) -> int:
    forget_last_run(settings.MOLTS_RUN_ENV)
    started = time.monotonic()
    console.event("molts", f"starting; data in {settings.MOLTS_DATA_DIR}")
    try:
        stack = plan(without)
    except PartFailed as error:
        raise CannotStart(str(error)) from error
    migrate(console)
    write_run_env(stack)
    try:
        return asyncio.run(Up(stack, console, started).run())
    finally:
        settings.MOLTS_RUN_ENV.unlink(missing_ok=True)


# -- Before anything runs --------------------------------------------------------------------------------------------
def parse_without(words: list[str]) -> frozenset[str]:
    names = {name.strip() for word in words for name in word.split(",") if name.strip()}
    unknown = sorted(names - set(PART_NAMES))
    if unknown:
        raise CannotStart(f"--without {unknown[0]}: there is no such part. Parts: {', '.join(PART_NAMES)}")
    return frozenset(names)


@contextmanager
def only_one_up(data_dir: Path) -> Iterator[None]:
    """Refuses when another `up` uses the same data folder. The lock goes with its process, however that ends."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise CannotStart(
                f"{holder} already runs on the data folder {data_dir}: use that one, stop it, "
                "or give this one a folder and a port of its own: MOLTS_DATA_DIR=... MOLTS_PORT=... make up"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield


def forget_last_run(run_env: Path) -> None:
    """Removes what a killed `up` left, and starts over: the settings have taken its ports for their defaults."""
    if run_env.exists():
        run_env.unlink()
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very command again


def given() -> GivenEnvironment:
    return GivenEnvironment({**read_env_file(settings.BASE_DIR / ".env"), **os.environ})


def plan(without: frozenset[str]) -> Stack:
    return stack_of.plan_stack(
        base_dir=settings.BASE_DIR,
        data_dir=settings.MOLTS_DATA_DIR,
        given=given(),
        keys=Keys(settings.LIVEKIT_API_KEY, settings.LIVEKIT_API_SECRET),
        host=settings.MOLTS_HOST,
        port=settings.MOLTS_PORT,
        public_url=settings.MOLTS_PUBLIC_URL,
        without=without,
    )


@dataclass
class Welcome:
    """What `seed_demo` has to say. The admin's password is shown once and kept nowhere."""

    links: list[dict[str, str]]
    admin: dict[str, str] | None

    def take_admin(self) -> dict[str, str] | None:
        admin, self.admin = self.admin, None
        return admin


def migrate(console: Console) -> None:
    changes = io.StringIO()
    try:
        check_writable()  # what is migrated already would be found out by the first visitor
        call_command("migrate", interactive=False, stdout=changes)
    except (DatabaseError, DatabaseUnavailable) as error:
        raise CannotStart(database_trouble(error)) from error
    finally:
        connections.close_all()
    applied = changes.getvalue().count("... OK")
    if applied:
        console.event("molts", f"database brought up to date ({applied} migrations)")


def seed_demo() -> Welcome:
    """Makes the demo agents and the first admin where they are missing. Raises PartFailed."""
    answer = io.StringIO()
    try:
        call_command("seed_demo", "--json", stdout=answer)
    except DatabaseError as error:
        raise PartFailed(database_trouble(error)) from error
    finally:
        connections.close_all()
    said = json.loads(answer.getvalue())
    return Welcome(said["links"], said["admin"])


def database_trouble(error: DatabaseError | DatabaseUnavailable) -> str:
    if away := unavailable(error):
        return f"the database does not work ({away.trouble}): {away.fix[:1].lower()}{away.fix[1:]}"
    reason = " ".join(str(error).split())
    return f"the database does not work ({reason}): check DATABASE_URL, its server and its rights"


def write_run_env(stack: Stack) -> None:
    """Lets `doctor` or a shell in another terminal talk to this copy. Readable by the owner alone."""
    ours = ("MOLTS_", "LIVEKIT_", "DATABASE_URL", "REDIS_URL", "AWS_")
    asked = given()
    values = {name: asked.text(name) for name in asked.values if name.startswith(ours) and not name.endswith("_FILE")}
    values |= stack.env
    values.pop("MOLTS_DATA_DIR")  # it is how this file is found
    write_private(
        stack.run_folder / "up.env",
        f"# Written by `manage.py up` (process {os.getpid()}), removed when it ends.\n"
        + "".join(f"{name}={value}\n" for name, value in sorted(values.items())),
    )


# -- While it runs ---------------------------------------------------------------------------------------------------
class Up:
    """One run: brings the parts up, proves that a conversation can be held, says so, waits for the end."""

    def __init__(self, stack: Stack, console: Console, started: float) -> None:
        self._stack = stack
        self._welcome = Welcome([], None)
        self._console = console
        self._started = started
        self._stop = asyncio.Event()
        self._tell_progress_at = 0.0

    async def run(self) -> int:
        """The exit status: 0 when asked to stop, 1 when a part can never run here."""
        redact = Redactor(stack_of.secrets_to_hide(self._stack, given(), settings.MOLTS_SECRETS_DIR))
        self._supervisor = Supervisor(log_folder=self._stack.log_folder, redact=redact, reporter=self._console)
        self._listen_to_signals()
        asked: asyncio.Future[Any] = asyncio.ensure_future(self._stop.wait())
        work = asyncio.create_task(self._bring_up())
        ends: list[asyncio.Future[Any]] = [asked, self._supervisor.failed]
        try:
            await asyncio.wait([*ends, work], return_when=asyncio.FIRST_COMPLETED)
            if work.done() and work.exception() is None:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            problem = self._problem(work)
            if problem:
                self._console.event("molts", problem, trouble=True)
            return 1 if problem else 0
        finally:
            asked.cancel()
            await self._end(work)

    def _problem(self, work: asyncio.Task[None]) -> str | None:
        if self._supervisor.failed.done():
            return f"cannot go on: {self._supervisor.failed.result()}"
        error = work.exception() if work.done() else None
        if isinstance(error, PartFailed):
            return f"cannot go on: {error}"
        if error is not None:
            raise error
        return None

    async def _end(self, work: asyncio.Task[None]) -> None:
        work.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await work
        self._show_admin()  # nobody could ever read it again
        self._console.event("molts", "stopping")
        await self._supervisor.stop()
        self._console.event("molts", "stopped")

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._console.event("molts", "asked again: killing what is left", trouble=True)
            self._supervisor.kill_everything()
        self._stop.set()

    # -- coming up -------------------------------------------------------------------------------------------------
    async def _bring_up(self) -> None:
        parts = {part.name: part for part in self._stack.parts}
        if redis := parts.pop(REDIS, None):
            await self._supervisor.start(redis)
            await self._supervisor.wait_ready(REDIS, deadline=REDIS_DEADLINE)
        # What the first conversation waits for goes first; on two cores the rest would only slow it down.
        for name in (MEDIA, AGENT, WEB, SPEECH):
            if name in parts:
                await self._supervisor.start(parts[name])
        self._welcome = await asyncio.to_thread(seed_demo)
        left_out = self._stack.cannot_talk_without
        # Loads what it needs while the others start, and waits for a worker by itself.
        check = None if left_out else asyncio.create_task(self._hold_a_conversation())
        try:
            await self._wait_for_all(parts)
            if check is not None:
                await check
        finally:
            if check is not None:
                check.cancel()
        if left_out:
            self._say_runs_without(left_out)
            return
        await self._offer_servers()
        self._say_ready()
        work = [self._fetch_models()]
        if AVATAR in parts:
            work.append(self._wait_for_worker(AVATAR))  # faces come a little later than words
        await asyncio.gather(*work)

    async def _wait_for_all(self, parts: dict[str, Part]) -> None:
        for name in (MEDIA, WEB, SPEECH):
            if name in parts:
                await self._wait_for(name)
        if AGENT in parts:
            await self._wait_for_worker(AGENT)
        for name in (JOBS, CLOCK, RENDER, AVATAR):
            if name in parts:
                await self._supervisor.start(parts[name])

    async def _wait_for(self, name: str) -> None:
        while True:
            try:
                await self._supervisor.wait_ready(name, deadline=STILL_WAITING_SECONDS)
            except PartFailed:
                self._console.event(name, f"not ready yet. Log: {self._stack.log_folder / name}.log", trouble=True)
            else:
                return

    async def _wait_for_worker(self, name: str) -> None:
        tell_at = time.monotonic() + STILL_WAITING_SECONDS
        while not await asyncio.to_thread(worker_beats, self._stack.redis_url, name):
            await asyncio.sleep(0.1)
            if time.monotonic() > tell_at:
                self._console.event(name, f"not ready yet. Log: {self._stack.log_folder / name}.log", trouble=True)
                tell_at += STILL_WAITING_SECONDS
        self._console.event(name, "ready")

    async def _hold_a_conversation(self) -> None:
        """Returns once this copy has talked with itself: dispatched, joined, greeted, heard."""
        check = Part(
            "check",
            self._stack.command("check_conversation", "--wait", f"{WORKER_DEADLINE:.0f}"),
            env={**given().values, **self._stack.env},
            stop_seconds=2,
        )
        delay, told, tell_again_at = 0.5, "", 0.0
        while True:
            status, said = await self._supervisor.run_once(check, deadline=WORKER_DEADLINE + CHECK_DEADLINE)
            last_line = next((line for line in reversed(said) if line.strip()), "no reason given")
            if status == 0:
                self._console.event("check", last_line)
                return
            reason = "took too long" if status == 124 else last_line.removeprefix("CommandError: ").rstrip(".")
            if reason != told or time.monotonic() > tell_again_at:
                self._console.event(
                    "check",
                    f"no conversation yet: {reason}; trying on. Logs: {self._stack.log_folder}",
                    trouble=True,
                )
                told, tell_again_at = reason, time.monotonic() + 2 * STILL_WAITING_SECONDS
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _offer_servers(self) -> None:
        """Whoever runs a language model here already should not have to look for the place to say so."""
        for provider in providers_for(Kind.LLM):
            found = await asyncio.to_thread(provider.find_here) if provider.looks_here else None
            if found is not None:
                models = ", ".join(found.models) or f"no models yet ({found.first_model})"
                self._console.event(
                    "molts",
                    f"found {provider.label} on this machine, with {models}: "
                    "put it first in an agent's pipeline to use it",
                )

    # -- speech models, beside everything else ---------------------------------------------------------------------
    async def _fetch_models(self) -> None:
        """Fetches what is chosen and not here. Nobody waits for it: the last rung of each chain serves meanwhile."""
        if settings.MOLTS_OFFLINE or AGENT in self._stack.without:
            return
        fetch = Part("models", self._stack.command("fetch_models", "--json"), env={**given().values, **self._stack.env})
        await self._supervisor.run_once(fetch, deadline=FETCH_DEADLINE, on_line=self._show_fetching)

    def _show_fetching(self, line: str) -> None:
        try:
            said = json.loads(line)
            name, state, text = said["name"], said["state"], said["text"]
        except (ValueError, KeyError, TypeError):
            return  # a library's own words; they are in the log
        if state != "progress":
            self._console.event("models", f"{name}: {text}", trouble=state == "failed")
        elif self._console.is_terminal or time.monotonic() >= self._tell_progress_at:
            self._console.progress("models", f"{name} {text}")
            self._tell_progress_at = time.monotonic() + STILL_WAITING_SECONDS

    # -- saying so ---------------------------------------------------------------------------------------------------
    def _say_ready(self) -> None:
        self._console.event(
            "molts", f"held a conversation with itself {time.monotonic() - self._started:.1f} s after the start"
        )
        self._show_links()
        self._show_admin()
        self._console.line(f"molts is ready: {self._stack.public_url}")

    def _say_runs_without(self, left_out: list[str]) -> None:
        names = " and ".join(left_out)
        self._show_links()
        self._show_admin()
        self._console.event("molts", f"conversations wait: {names} is left out (--without)")
        self._console.line(f"molts runs without {names}: {self._stack.public_url}")

    def _show_links(self) -> None:
        for link in self._welcome.links:
            self._console.line(f"demo room: {link['url']} ({link['agent']})")

    def _show_admin(self) -> None:
        admin = self._welcome.take_admin()
        if admin:
            login, address = f"{admin['username']} / {admin['password']}", f"{self._stack.public_url}/admin/"
            self._console.line(f"admin login: {login}  ({address}; shown only this once)")


def worker_beats(redis_url: str, part: str) -> bool:
    """Whether the worker of this part of molts (AGENT or AVATAR) is registered and says so."""
    from molts import beats

    settings.REDIS_URL = redis_url  # chosen after the settings were read
    try:
        return bool(beats.workers(beats.WorkerKind.AVATAR if part == AVATAR else beats.WorkerKind.AGENT))
    except Unavailable:
        return False
