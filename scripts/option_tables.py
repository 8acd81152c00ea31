"""Writes the option tables of docs/providers.md from the option schemas, between marks that a reader does not see.

python scripts/option_tables.py            renews them
python scripts/option_tables.py --check    exit status 1 when one is out of date
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "providers.md"
sys.path.insert(0, str(ROOT))

from pydantic.fields import FieldInfo  # noqa: E402 - after the path is set

from projects.providers import PROVIDERS, get_provider  # noqa: E402
from projects.providers.base import PIPELINE, Kind, Options  # noqa: E402
from projects.providers.openai_compatible.provider import OpenAICompatible  # noqa: E402

# <!-- options: openai stt --> … <!-- end -->, and <!-- presets --> … <!-- end -->
TABLE = re.compile(r"(<!-- options: (\w+) (\w+) -->\n).*?(<!-- end -->)", re.S)
PRESETS = re.compile(r"(<!-- presets -->\n).*?(<!-- end -->)", re.S)
HEAD = "| option | default | values | meaning |\n|---|---|---|---|\n"
PRESETS_HEAD = "| provider | base URL | hears with | thinks with | speaks with |\n|---|---|---|---|---|\n"


def renew(text: str) -> str:
    """`text` with every marked table as the schemas are now."""
    text = TABLE.sub(lambda found: f"{found[1]}\n{table(found[2], found[3])}\n{found[4]}", text)
    return PRESETS.sub(lambda found: f"{found[1]}\n{presets()}\n{found[2]}", text)


def table(provider: str, kind: str) -> str:
    schema = get_provider(provider).options.get(Kind(kind), Options)
    rows = [_row(name, field) for name, field in schema.model_fields.items()]
    return HEAD + "".join(rows) if rows else "No options.\n"


def presets() -> str:
    """What each server of OpenAI's protocol uses when nothing else is said."""
    known = [provider for provider in map(get_provider, PROVIDERS) if isinstance(provider, OpenAICompatible)]
    return PRESETS_HEAD + "".join(_preset(provider) for provider in known)


def _preset(provider: OpenAICompatible) -> str:
    cells = [f"`{provider.default_base_url}`" if provider.default_base_url else "yours"]
    for kind in PIPELINE:
        model = provider.default_models.get(kind, "")
        voice = f", voice `{provider.default_voice}`" if kind is Kind.TTS else ""
        usual = f"`{model}`{voice}" if model else f"the model you name{voice}"
        cells.append(usual if kind in provider.kinds else "")
    return f"| `{provider.key}` | {' | '.join(cells)} |\n"


def _row(name: str, field: FieldInfo) -> str:
    default = "" if field.default in ("", None) else f"`{field.default}`"
    meaning = (field.description or "").replace("|", "\\|")
    return f"| `{name}` | {default} | {values(field)} | {meaning} |\n"


def values(field: FieldInfo) -> str:
    """What may be given, in words."""
    kind = _without_none(field.annotation)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind) if choice != "")
    limits: dict[str, Any] = {}
    for item in field.metadata:
        for limit in ("ge", "le", "max_length"):
            if (value := getattr(item, limit, None)) is not None:
                limits[limit] = value
    noun = {int: "whole number", float: "number", str: "text", bool: "yes or no"}.get(kind, "text")
    if {"ge", "le"} <= limits.keys():
        return f"{noun}, {limits['ge']:g} to {limits['le']:g}"
    if "ge" in limits:
        return f"{noun}, at least {limits['ge']:g}"
    return f"{noun}, at most {limits['max_length']} characters" if "max_length" in limits else noun


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        (kind,) = [part for part in get_args(kind) if part is not NoneType]
    return kind


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, say whether the tables are up to date")
    options = parser.parse_args()
    before = PAGE.read_text(encoding="utf-8")
    after = renew(before)
    if options.check and after != before:
        print(f"{PAGE.relative_to(ROOT)} is out of date. Run: make exports")
        return 1
    if after != before:
        PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
