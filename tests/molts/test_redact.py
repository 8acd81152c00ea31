"""No secret gets into a line of a log, whoever writes it and in whatever form the secret stands there."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import logging
import os
import subprocess
import sys
import time
from contextvars import copy_context
from pathlib import Path
from urllib.parse import quote

import pytest

from molts import redact
from molts.errors import HIDDEN
from molts.redact import Redactor, SecretFilter, hide_secrets, remember_own_secrets, remember_secret
from projects.probes import KindProbe, probe_connection
from projects.providers.base import Credentials, Kind, ProbeResult
from projects.providers.espeak.provider import Espeak

SECRET = 'vk/9&"q+zz=Ä-canary-71'
USER = b"api:"


@pytest.mark.parametrize(
    "text",
    [
        f"bad key {SECRET}!",
        f"GET /v1/models?key={quote(SECRET, safe='')}",
        f"GET /v1/models?key={quote(SECRET, safe='').lower()}",
        f"Location: https://vendor/?next={quote(quote(SECRET, safe=''), safe='')}",
        json.dumps({"error": SECRET}),
        repr({"error": SECRET}),
        html.escape(f"<p>{SECRET}</p>"),
        "Basic " + base64.b64encode(SECRET.encode()).decode(),
        "Basic " + base64.b64encode(USER + SECRET.encode()).decode(),
        "Basic " + base64.b64encode(b"x:" + SECRET.encode() + b":y").decode(),
        "token " + base64.urlsafe_b64encode(b"ab" + SECRET.encode()).decode(),
        SECRET.encode().hex(),
    ],
)
def test_a_secret_is_found_in_every_form(text: str) -> None:
    shown = Redactor([SECRET])(text)
    assert HIDDEN in shown
    assert "canary" not in shown
    middle = base64.b64encode(SECRET.encode()).decode()[8:16]
    assert middle not in shown


TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "text",
    [TOKEN, f"?next=a%3D{TOKEN}&b", f"eyJshort.{TOKEN}", f"eyJlong-but-none {TOKEN}", f"x eyJ{TOKEN} y"],
)
def test_a_web_token_nobody_told_of_is_found(text: str) -> None:
    shown = Redactor()(text)
    assert HIDDEN in shown
    assert not {"c2lnbmF0dXJl", "eyJzdWIiOiJjYW5hcnkifQ"} & set(shown.replace(" ", ".").split("."))


def test_what_only_begins_like_a_web_token_stays() -> None:
    for text in ("eyJlong-but-none", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ", "eyJ.eyJ.eyJ"):
        assert Redactor()(text) == text


@pytest.mark.parametrize(
    "piece", ["eyJ", "eyJ" * 4 + ".", "eyJ.", "Bearer ", "sk-", "molts_", "://a:", "a:", "x@", "eyJaaaaaaaa.bbbbbbbb "]
)
def test_a_long_text_of_strangers_costs_no_more_than_it_is_long(piece: str) -> None:
    """An address of 30 KB that is logged stood all of the web part still for ten seconds."""
    redactor = Redactor()
    for text in (piece * (300_000 // len(piece)), "eyJ" * 50_000 + "." + piece * (150_000 // len(piece))):
        began = time.thread_time()
        redactor(text)
        assert time.thread_time() - began < 2, "minutes, where each beginning is followed to the end"


def test_each_line_of_a_long_secret_is_one() -> None:
    pem = (
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nqhkiG9w0BAQEFAASCBKcwggSj\n-----END PRIVATE KEY-----"
    )
    shown = Redactor([pem])('{"key": "' + pem.replace("\n", "\\n") + '"} and MIIEvQIBADANBgkqhkiG9w0BAQ')
    assert "MIIE" not in shown
    assert "qhki" not in shown


def test_it_knows_many_and_forgets_the_oldest() -> None:
    redactor = Redactor(f"secret-number-{number:05d}" for number in range(600))
    assert redactor("secret-number-00599") == HIDDEN
    assert redactor("secret-number-00001") == "secret-number-00001"
    redactor.add("abc")  # too short: it would black out words
    assert redactor("abc") == "abc"


def test_the_settings_own_secrets_are_not_forgotten_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may test a connection types as many keys as he likes."""
    monkeypatch.setattr(redact, "MOST_SECRETS", 20)
    monkeypatch.setattr(redact, "_live", Redactor())
    remember_own_secrets("SECRET_KEY", "own-canary-key")
    remember_own_secrets("REDIS_URL", "redis://:redis-canary-pw@127.0.0.1:6379/0")
    for number in range(30):
        remember_secret(f"typed-by-somebody-{number:02d}")
    shown = hide_secrets("own-canary-key redis-canary-pw typed-by-somebody-00 typed-by-somebody-29")
    assert shown == f"{HIDDEN} {HIDDEN} typed-by-somebody-00 {HIDDEN}"


WORDS: tuple[str, ...] = (
    "conversation",
    "conversation-started",
    "session not reconciled",
    "agent_runtime.entrypoint",
    "changeme123",
)
WORDS += ("2026-11-30T23:36:00", "ConversationStarted", "a line\nprovider availability changed", "2.3.4 2026-11-30")
KEYS: tuple[str, ...] = (
    "sk-proj-a8Fk20dLqpX91Zt",
    "0f8fad5bd9cb469fa16570867728950e",
    "f47ac10b-58cc-4372-a567-0e02b2c3d479",
)
KEYS += ("AIzaSyD4fG7hJ2kL9mN1pQ", "aKeYwiThOutAnyDiGitsInIt", "8812345678901234", "live-canary-4711")


@pytest.mark.parametrize("word", WORDS)
def test_nobody_blacks_out_a_word_for_others(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may save or try a key chooses it."""
    monkeypatch.setattr(redact, "_live", Redactor())

    def own() -> None:
        remember_secret(word)
        Credentials(api_key=word)
        assert hide_secrets(f"refused: {word}!") == f"refused: {HIDDEN}!"

    copy_context().run(own)
    for line in word.splitlines():
        assert hide_secrets(f"refused: {line}!") == f"refused: {line}!"


@pytest.mark.parametrize("key", KEYS)
def test_a_stored_key_is_known_everywhere(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_live", Redactor(looks=()))
    copy_context().run(remember_secret, key)
    assert hide_secrets(f"refused: {key}!") == f"refused: {HIDDEN}!"


@pytest.mark.parametrize("key", [*KEYS, "conversation"])
def test_a_key_that_is_tried_is_known_to_its_own_test(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_live", Redactor(looks=()))
    lines: list[str] = []

    class Echo(Espeak):
        kinds = frozenset({Kind.TTS})

        async def probe(self, kind: Kind, *, options: object, credentials: Credentials) -> ProbeResult:
            lines.append(await asyncio.to_thread(hide_secrets, f"vendor said {credentials.api_key}"))
            return ProbeResult(False, f"wrong key {credentials.api_key}")

    def test() -> list[KindProbe]:
        return probe_connection(provider=Echo(), credentials=Credentials(api_key=key))

    (tried,) = copy_context().run(test)
    assert tried.result.text == f"wrong key {HIDDEN}"
    assert lines == [f"vendor said {HIDDEN}"]
    assert hide_secrets(f"a {key} of somebody else") == f"a {key} of somebody else"


@pytest.mark.parametrize("typed", ["acme-7", "7-canary", "key-4711", "canary-key"])
def test_a_short_key_that_is_tried_uncovers_no_longer_one(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = "acme-7-canary-key-4711"
    monkeypatch.setattr(redact, "_live", Redactor([known]))

    def own() -> None:
        redact.remember_here(typed)
        assert hide_secrets(f"refused: {known}!") == f"refused: {HIDDEN}!"
        assert hide_secrets(f"refused: {typed}!") == f"refused: {HIDDEN}!"

    copy_context().run(own)


@pytest.mark.parametrize("typed", ["abcdef", "proj-1", "Bearer", "uvwxyz"])
def test_a_short_key_that_is_tried_uncovers_none_that_has_the_looks_of_one(typed: str) -> None:
    looks = "sk-proj-1abcdef0123uvwxyz"
    assert Redactor()(f"said {looks}!", also=[typed]) == f"said {HIDDEN}!"
    shown = Redactor()("Authorization: Bearer abcdef0123uvwxyz", also=[typed])
    assert not {"abcdef", "0123", "uvwxyz"} & {shown[at : at + size] for at in range(len(shown)) for size in (4, 6)}


def test_a_secret_that_overlaps_itself_is_hidden_to_its_end() -> None:
    assert Redactor(["abcabcabc"])("x abcabcabcabc x") == f"x {HIDDEN} x"


def test_secrets_that_overlap_are_hidden_to_their_ends() -> None:
    shown = Redactor(["first-canary-1234", "1234-second-canary"])("a first-canary-1234-second-canary b")
    assert shown == f"a {HIDDEN} b"


def test_the_settings_own_secrets_are_known() -> None:
    remember_own_secrets("REDIS_URL", "redis://:redis-canary-pw@127.0.0.1:6379/0")
    remember_own_secrets("DATABASES", {"default": {"NAME": "molts", "PASSWORD": "db-canary-pw"}})
    remember_own_secrets("MOLTS_FIELD_KEYS", ["field-canary-1", "field-canary-2"])
    remember_own_secrets("PASSWORD_HASHERS", ["django.contrib.auth.hashers.Argon2PasswordHasher"])
    assert hide_secrets("redis-canary-pw db-canary-pw field-canary-2 molts") == f"{HIDDEN} {HIDDEN} {HIDDEN} molts"
    assert hide_secrets("django.contrib.auth.hashers.Argon2PasswordHasher") != HIDDEN


class VendorError(Exception):
    def __init__(self, body: str) -> None:
        super().__init__("refused")
        self.body = body

    def __str__(self) -> str:
        return f"refused: {self.body}"


def record_of(caught: Exception | None = None, *args: object, **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("tests.redact")
    info = (type(caught), caught, caught.__traceback__) if caught else None
    return logger.makeRecord(logger.name, logging.ERROR, __file__, 1, "failed: %s", args or ("so",), info, extra=extra)


def test_the_filter_cleans_words_extra_fields_and_tracebacks() -> None:
    remember_secret(SECRET)
    try:
        raise RuntimeError("outer") from VendorError(SECRET)
    except RuntimeError as error:
        record = record_of(
            error,
            VendorError(SECRET),
            reason=SECRET,
            nested={"a": [SECRET.encode()]},
            thing=VendorError(SECRET),
            count=3,
        )
    assert SecretFilter().filter(record)
    shown = logging.Formatter("%(message)s %(reason)s %(nested)s %(thing)s %(count)d").format(record)
    assert "canary" not in shown
    assert "VendorError: refused: " + HIDDEN in shown
    assert "RuntimeError: outer" in shown
    assert shown.startswith(f"failed: refused: {HIDDEN} {HIDDEN} ")
    assert "canary" not in repr(record.__dict__)


def test_the_filter_leaves_a_clean_record_as_it_is_and_holds_none_back() -> None:
    try:
        raise ValueError("harmless")
    except ValueError as error:
        record = record_of(error, 7)
    before = dict(record.__dict__)
    assert SecretFilter().filter(record)
    assert record.__dict__ == before
    broken = record_of(None, "a", "b")  # more arguments than places
    assert SecretFilter().filter(broken)
    assert broken.getMessage() == "a line that cannot be read"


# Each process of molts: what it has of handlers by then, and what nobody catches. In a process of its own each.
PROGRAM = """
import logging, sys, threading, warnings
from uvicorn.config import Config
if {web}:
    Config("molts.asgi:application")  # brings handlers of its own, before the application is loaded
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")
import django
django.setup()
from molts import crypto
secret = crypto.decrypt(crypto.encrypt("live-" + "canary-4711"))
if {job}:
    from agent_runtime.job_logs import log_through_parent
    class Queue(logging.Handler):
        def emit(self, record):
            print("queue", self.format(record), record.__dict__, file=sys.stderr)
    logging.getLogger().addHandler(Queue())
    log_through_parent()
for name in ("molts", "uvicorn.error", "uvicorn.access", "celery", "livekit.agents", "openai", "django.request"):
    log = logging.getLogger(name)
    log.error("%s - '%s %s' %d", "1.2.3.4", "GET", secret, 200) if name != "uvicorn.access" else log.error(
        '%s - "%s %s HTTP/%s" %d', "1.2.3.4", "GET", "/?k=" + secret, "1.1", 200)
    try:
        raise OSError(secret)
    except OSError:
        if name != "uvicorn.access":
            log.exception("failed", extra={{"reason": secret}})
warnings.warn("deprecated " + secret)
thread = threading.Thread(target=lambda: 1 / len(secret[99:]) if secret[99:] else int(secret), name="worker")
thread.start(); thread.join()
print("said all", file=sys.stderr)
raise RuntimeError("uncaught " + secret)
"""


@pytest.mark.parametrize("kind", ["web", "job", "other"])
def test_no_process_prints_a_live_secret(kind: str, tmp_path: Path) -> None:
    program = PROGRAM.format(web=kind == "web", job=kind == "job")
    environment = {**os.environ, "MOLTS_DATA_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    printed = ran.stdout + ran.stderr
    assert "said all" in printed
    assert printed.count(HIDDEN) >= 14, printed
    assert "ValueError: invalid literal for int()" in printed  # of the thread
    assert f"uncaught {HIDDEN}" in printed
    assert f"deprecated {HIDDEN}" in printed
    assert "canary" not in printed
    assert ran.returncode == 1
