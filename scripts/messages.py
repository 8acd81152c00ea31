"""The texts of the visitors' pages in every language: `locale/<language>/LC_MESSAGES/*.po`, and .mo made from them.

Without arguments it reads every text from the sources, renews the .po files (new texts stand there with an empty
translation, those that are gone are dropped) and compiles them. `--check` changes nothing and names what is missing.

Two catalogs: `django` for templates and Python, `djangojs` for what the pages' scripts say with `t("English text")`.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "locale"
LANGUAGES = ("de", "ar")
# What visitors see. The admin speaks English, and what Django and its theme translate themselves.
TEMPLATES = ("templates/*.html", "templates/room/*.html")
PYTHON = ("molts/views.py", "sessions/views.py", "sessions/check.py", "sessions/summary.py")
SCRIPTS = ("static/src/room/*.ts", "static/src/shared/*.ts", "static/src/check/*.ts")
IN_TEMPLATE = re.compile(r"""(?:\bgettext|\b_)\(u?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\)""")
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w+\}")


def sources(patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(ROOT.glob(pattern))


def texts(domain: str) -> dict[str, set[str]]:
    """Every text of this catalog, with the files that say it."""
    found: dict[str, set[str]] = {}

    def add(text: str, path: Path) -> None:
        found.setdefault(text, set()).add(path.relative_to(ROOT).as_posix())

    if domain == "djangojs":
        for path in sources(SCRIPTS):
            for text in in_code("javascript", path, "t"):
                add(text, path)
        return found
    for path in sources(TEMPLATES):
        for match in IN_TEMPLATE.finditer(templatize(path.read_text(encoding="utf-8"), origin=str(path))):
            add(ast.literal_eval(match[1]), path)
    for path in sources(PYTHON):
        for text in in_code("python", path, "gettext", "_"):
            add(text, path)
    return found


def in_code(language: str, path: Path, *functions: str) -> Iterator[str]:
    with path.open("rb") as file:
        for _, text, _, _ in extract(language, file, keywords=dict.fromkeys(functions)):
            yield text if isinstance(text, str) else text[0]


def po_path(language: str, domain: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / f"{domain}.po"


def read_catalog(language: str, domain: str) -> Catalog:
    path = po_path(language, domain)
    if not path.exists():
        return Catalog(locale=language, domain=domain)
    with path.open("rb") as file:
        return read_po(file, locale=language, domain=domain)


def renewed(language: str, domain: str) -> Catalog:
    """The catalog with exactly the texts of the sources, each with the translation it had."""
    known = {message.id: str(message.string) for message in read_catalog(language, domain) if message.id}
    header = f"# {language}: the texts of the visitors' pages ({domain}). Renew: python scripts/messages.py"
    # A fixed date: the same texts make the same files.
    catalog = Catalog(locale=language, domain=domain, project="molts", version="1", header_comment=header)
    for text, files in sorted(texts(domain).items()):
        flags = {"python-format"} if "%(" in text else set()
        catalog.add(text, known.get(text, ""), locations=[(file, 0) for file in sorted(files)], flags=flags)
    return catalog


def as_po(catalog: Catalog) -> bytes:
    out = io.BytesIO()
    write_po(out, catalog, width=120, sort_output=True, include_lineno=False, omit_header=True)
    header = (
        f'{catalog.header_comment}\nmsgid ""\nmsgstr ""\n"Language: {catalog.locale}\\n"\n"MIME-Version: 1.0\\n"\n'
        '"Content-Type: text/plain; charset=utf-8\\n"\n"Content-Transfer-Encoding: 8bit\\n"\n\n'
    )
    return header.encode() + out.getvalue()


def as_mo(catalog: Catalog) -> bytes:
    """GNU's .mo: a header, a table of texts, a table of translations, then both, each ended by a zero byte.

    Written here because libraries put dates and their own version into it: the same texts shall make the same file.
    """
    header = f"Language: {catalog.locale}\nContent-Type: text/plain; charset=utf-8\n"
    pairs = {"": header} | {str(each.id): str(each.string) for each in catalog if each.id and each.string}
    ordered = sorted((text.encode(), words.encode()) for text, words in pairs.items())
    tables_end = 28 + 16 * len(ordered)
    data, tables = b"", []
    for column in (0, 1):
        for pair in ordered:
            tables.append(struct.pack("<II", len(pair[column]), tables_end + len(data)))
            data += pair[column] + b"\0"
    start = struct.pack("<7I", 0x950412DE, 0, len(ordered), 28, 28 + 8 * len(ordered), 0, tables_end)
    return start + b"".join(tables) + data


def faults(message: Message) -> Iterator[str]:
    """What is wrong with one translation."""
    if not message.string:
        yield "is not translated"
    elif set(PLACEHOLDER.findall(str(message.id))) != set(PLACEHOLDER.findall(str(message.string))):
        yield f"has other placeholders than its translation {message.string!r}"


def check() -> list[str]:
    """One line for each thing to mend."""
    problems = []
    for language in LANGUAGES:
        for domain in ("django", "djangojs"):
            path = po_path(language, domain)
            name = path.relative_to(ROOT)
            catalog = renewed(language, domain)
            po = as_po(catalog)
            problems += [f"{name}: {m.id!r} {fault}" for m in catalog if m.id for fault in faults(m)]
            if not path.exists() or path.read_bytes() != po:
                problems.append(f"{name} does not fit the sources. Run: python scripts/messages.py")
            compiled = path.with_suffix(".mo")
            if not compiled.exists() or compiled.read_bytes() != as_mo(catalog):
                problems.append(f"{name.with_suffix('.mo')} is out of date. Run: python scripts/messages.py")
    return problems


def write() -> None:
    for language in LANGUAGES:
        for domain in ("django", "djangojs"):
            path = po_path(language, domain)
            path.parent.mkdir(parents=True, exist_ok=True)
            catalog = renewed(language, domain)
            po = as_po(catalog)
            path.write_bytes(po)
            path.with_suffix(".mo").write_bytes(as_mo(catalog))
            missing = sum(1 for message in catalog if message.id and not message.string)
            print(f"{path.relative_to(ROOT)}: {len(catalog)} texts, {missing} without translation")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something is missing")
    if not parser.parse_args().check:
        write()
        return 0
    problems = check()
    print("\n".join(problems) or "every text is there in every language")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
