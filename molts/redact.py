"""Secrets kept out of texts: out of every line that any process logs, and of what is stored or shown.

What is secret is registered where it comes to light (`remember_secret`: settings, and each key that is decrypted or
saved; `remember_here`: one that is typed to be tried) and then blacked out wherever it appears, also as it stands in
URLs, in JSON, in HTML and in base64. Whatever has the looks of a key goes too.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

from molts.errors import HIDDEN

SHORTEST_SECRET = 6
SHORTEST_MIXED = 12
MOST_HERE = 20
"""Of what one request or task keeps out of its texts; a thread that lives on may do many tasks."""
MOST_SECRETS = 500
# What nobody told us about but what is a secret by its looks: bearer tokens, JSON web tokens, vendors' keys, passwords
# inside URLs. Strangers choose what is read: however long, it is gone through once. So what begins like a web token is
# taken to its end, and stays when the group after it found nothing; a pattern that fails there would begin anew at each
# "eyJ" inside.
LOOKS_SECRET = (
    r"eyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+)?",
    r"(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}",
    r"\bsk-[A-Za-z0-9_-]{12,}",
    r"\bmolts_[A-Za-z0-9_-]{12,}",
    r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",
)
# What every record has, apart from what was given with `extra`.
PLAIN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
SECRET_SETTINGS = ("SECRET", "SECRET_KEY", "SECRET_ACCESS_KEY", "PASSWORD", "FIELD_KEYS", "FALLBACKS", "TOKEN")
DEEPEST = 6


class Redactor:
    """Replaces secrets in text, in whichever form they stand there, and what has the looks of one."""

    def __init__(self, secrets: Iterable[str] = (), *, looks: Iterable[str] = LOOKS_SECRET) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._kept: set[str] = set()
        self._forms: frozenset[str] = frozenset()
        self._looks = [re.compile(pattern) for pattern in looks]
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str, *, keep: bool = False) -> None:
        """Know `secret` from now on. Of very many, those of which nothing was heard for longest are forgotten, unless
        they were to `keep`: anybody who may type a key can make others be forgotten."""
        if len(secret) < SHORTEST_SECRET:
            return
        with self._lock:
            if keep:
                self._kept.add(secret)
            if secret not in self._known:
                self._known[secret] = frozenset(_forms(secret))
                if len(self._known) - len(self._kept) > MOST_SECRETS:
                    del self._known[next(each for each in self._known if each not in self._kept)]
                self._forms = frozenset().union(*self._known.values())
            self._known.move_to_end(secret)

    def __call__(self, text: str, *, also: Iterable[str] = ()) -> str:
        """`text` without the secrets, nor those that `also` names."""
        forms = self._forms.union(*map(_forms_once, also))
        places = [(at, at + len(form)) for form in forms for at in _places(form, text)]
        looks = (found for pattern in self._looks for found in pattern.finditer(text))
        return _without(text, [*places, *(found.span() for found in looks if all(found.groups()))])


_live = Redactor()
_here: ContextVar[tuple[str, ...]] = ContextVar("secrets_here", default=())


def remember_secret(secret: str, *, keep: bool = False) -> None:
    """Keep `secret` out of every text from now on, in this process. `keep`: however many others follow.

    One that could be a word is kept out of this request's or task's texts alone, unless it is to be kept: whoever may
    save a key chooses it, and would black out that word for all others.
    """
    if keep or looks_random(secret):
        _live.add(secret, keep=keep)
    else:
        remember_here(secret)


def remember_here(secret: str) -> None:
    """Keep `secret` out of the texts of this request or task, and of what it starts from now on. For keys that are
    only tried, and where a key that came from elsewhere is about to be used."""
    if len(secret) >= SHORTEST_SECRET:
        _here.set((*(each for each in _here.get() if each != secret), secret)[-MOST_HERE:])


def looks_random(secret: str) -> bool:
    """Whether `secret` is more than words: something in it has letters and digits mixed, as keys have, or is a long
    number. No word, phrase, name or date is."""
    return any(_is_mixed(part) for part in secret.split())


def _is_mixed(part: str) -> bool:
    letters, digits = len(re.findall(r"[^\W\d_]", part)), len(re.findall(r"\d", part))
    if len(part) >= SHORTEST_MIXED and letters >= 4 and digits >= 2:
        return True
    return (part.isdigit() and digits >= 16) or any(map(_is_uneven, re.findall(r"[A-Za-z]{20,}", part)))


def _is_uneven(letters: str) -> bool:
    """Whether capitals come and go as in no word, and hardly in a name of several."""
    return len(re.findall(r"[a-z][A-Z]", letters)) >= len(letters) / 6


def remember_own_secrets(name: str, value: Any) -> None:
    """The same for what this installation itself has: a setting whose name says that it is secret, the password inside
    an address, and all such inside a setting of several values."""
    match value:
        case dict():
            for key, each in value.items():
                remember_own_secrets(str(key), each)
        case list() | tuple():
            for each in value:
                remember_own_secrets(name, each)
        case str() if "://" in value:
            remember_secret(_password(value), keep=True)
        case str() if name.endswith(SECRET_SETTINGS):
            remember_secret(value, keep=True)


def hide_secrets(text: str) -> str:
    """`text` without any secret that this process knows, or this request or task."""
    return _live(text, also=_here.get())


class SecretFilter(logging.Filter):
    """For handlers: what they are handed holds no secret, be it in words, in what was given beside them or in the
    traceback of an exception. Nothing is ever held back."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            self._clean(record)
        except Exception:  # a value that cannot be put into words: the line is worth less than a key
            record.__dict__.update(msg="a line that cannot be read", args=None, exc_info=None, exc_text=None)
        return True

    def _clean(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if (shown := hide_secrets(text)) != text:
            record.msg, record.args = shown, None
        told = record.exc_text or ""
        if record.exc_info and not told:
            told = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        if (shown := hide_secrets(told)) != told:
            # Formatters that make a text of their own out of the exception must not find it.
            record.exc_text, record.exc_info = shown, None
        if record.stack_info:
            record.stack_info = hide_secrets(record.stack_info)
        for name in record.__dict__.keys() - PLAIN_FIELDS:
            record.__dict__[name] = _cleaned(record.__dict__[name])


def guard_logs() -> None:
    """Put the filter on every handler that this process has by now, and have them print what nothing caught."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    for handler in {handler for logger in loggers for handler in getattr(logger, "handlers", ())}:
        if not any(isinstance(each, SecretFilter) for each in handler.filters):
            handler.addFilter(SecretFilter())
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("molts").critical("uncaught", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit or args.exc_value is None:
        return
    name = args.thread.name if args.thread else "a thread"
    logging.getLogger("molts").error(
        "uncaught in %s", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
    )


def _cleaned(value: Any, depth: int = 0) -> Any:
    """`value` with its texts freed of secrets; a thing of another kind stays itself unless its words hold one."""
    match value:
        case str():
            return hide_secrets(value)
        case None | bool() | int() | float():
            return value
        case dict() if depth < DEEPEST:
            return {_cleaned(name, depth + 1): _cleaned(each, depth + 1) for name, each in value.items()}
        case list() | tuple() | set() if depth < DEEPEST:
            return [_cleaned(each, depth + 1) for each in value]
        case bytes():
            text = value.decode("utf-8", "replace")
        case _:
            text = f"{value!r} {value}"
    return value if (shown := hide_secrets(text)) == text else shown


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """`text` with `spans` blacked out, also where one lies in another or overlaps it: to take one out first would leave
    the rest of the other to be read."""
    shown, end = [], 0
    for start, stop in sorted(spans):
        if start >= end:
            shown += [text[end:start], HIDDEN]
        end = max(end, stop)
    return "".join([*shown, text[end:]])


def _places(form: str, text: str) -> Iterator[int]:
    at = text.find(form)
    while at >= 0:
        yield at
        at = text.find(form, at + 1)


def _forms(secret: str) -> Iterator[str]:
    """`secret` as it may stand in a text."""
    for plain in {secret, *(line for line in map(str.strip, secret.splitlines()) if looks_random(line))}:
        yield plain
        for encoded in (quote(plain, safe=""), quote(plain), quote(quote(plain, safe=""), safe="")):
            yield encoded
            yield re.sub(r"%[0-9A-F]{2}", lambda found: found.group().lower(), encoded)
        yield from (json.dumps(plain)[1:-1], repr(plain)[1:-1], html.escape(plain))
        if len(plain) >= SHORTEST_SECRET * 2:
            yield from _in_base64(plain.encode("utf-8", "replace"))
            yield plain.encode("utf-8", "replace").hex()


@lru_cache(maxsize=MOST_HERE * 4)
def _forms_once(secret: str) -> frozenset[str]:
    return frozenset(_forms(secret))


def _in_base64(secret: bytes) -> Iterator[str]:
    """What `secret` is inside a longer base64 text, such as that of `user:secret`: it begins in one of three places of
    a group, and the letters at both ends depend on its neighbours."""
    for before in range(3):
        text = base64.b64encode(bytes(before) + secret).decode().rstrip("=")
        start = (0, 2, 3)[before]
        end = len(text) - (0 if (before + len(secret)) % 3 == 0 else 1)
        yield text[start:end]
        yield text[start:end].replace("+", "-").replace("/", "_")


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
