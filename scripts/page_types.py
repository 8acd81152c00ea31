"""Writes static/src/shared/events.ts, what the server tells a page as the page's types, from sessions/events.py.

python -m scripts.page_types            renews it
python -m scripts.page_types --check    exit status 1 when it is out of date
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel

from sessions import events

PAGE = Path(__file__).resolve().parent.parent / "static" / "src" / "shared" / "events.ts"
WIDTH = 120  # of a line, as in biome.json
PLAIN = {str: "string", int: "number", float: "number", bool: "boolean", datetime: "string", UUID: "string"}
HEAD = "/** What the server tells a page, as types. Made by `make exports` from sessions/events.py: edit that. */\n"
EVENTS = get_args(get_args(events.SessionEvent)[0])


def render() -> str:
    """The whole file."""
    models = list(dict.fromkeys(part for event in EVENTS for part in (*_parts(event), event)))
    enums = {kind.__name__: [member.value for member in kind] for kind in _enums(models)}
    types = [f"export {_union(f'type {name} =', map(json.dumps, values))}" for name, values in enums.items()]
    return "\n".join(
        [
            HEAD,
            *types,
            "",
            *(f"{_interface(model)}\n" for model in models),
            f"export {_union('type ServerEvent =', (event.__name__ for event in EVENTS))}",
            "",
            "/** The `type` of each of them. */",
            'export const EVENT_TYPES: ReadonlySet<string> = new Set<ServerEvent["type"]>([',
            *(f"  {_type(event.model_fields['type'].annotation)}," for event in EVENTS),
            "]);",
            "",
        ]
    )


def _interface(model: type[BaseModel]) -> str:
    text = inspect.cleandoc(model.__doc__ or "").replace("\n", "\n * ") if "__doc__" in vars(model) else ""
    note = f"/**\n * {text}\n */\n" if "\n" in text else f"/** {text} */\n" if text else ""
    fields = "".join(f"  {name}: {_type(field.annotation)};\n" for name, field in model.model_fields.items())
    return f"{note}export interface {model.__name__} {{\n{fields}}}"


def _union(start: str, names: Iterable[str]) -> str:
    """`start` and the names it may be, in one line where they fit."""
    names = list(names)
    line = f"{start} {' | '.join(names)};"
    return line if len("export ") + len(line) <= WIDTH else start + "".join(f"\n  | {name}" for name in names) + ";"


def _type(annotation: Any) -> str:
    if annotation in PLAIN:
        return PLAIN[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum | BaseModel):
        return annotation.__name__
    inner = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Literal:
            return " | ".join(map(json.dumps, inner))
        case origin if origin in (Union, UnionType):
            return " | ".join("null" if part is NoneType else _type(part) for part in inner)
        case origin if origin is list:
            return f"{_type(inner[0])}[]"
        case origin if origin is not None and hasattr(annotation, "__metadata__"):  # Annotated
            return _type(inner[0])
    raise TypeError(f"There is no type of the page for {annotation}.")


def _leaves(annotation: Any) -> Iterator[Any]:
    inner = get_args(annotation)
    if inner and get_origin(annotation) is not Literal:
        for part in inner:
            yield from _leaves(part)
    else:
        yield annotation


def _inside(model: type[BaseModel]) -> Iterator[type]:
    """Every class that fields of `model` name."""
    for field in model.model_fields.values():
        yield from (leaf for leaf in _leaves(field.annotation) if isinstance(leaf, type))


def _parts(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Models inside a model, innermost first."""
    for leaf in _inside(model):
        if issubclass(leaf, BaseModel):
            yield from _parts(leaf)
            yield leaf


def _enums(models: Iterable[type[BaseModel]]) -> Iterator[type[Enum]]:
    found = (leaf for model in models for leaf in _inside(model) if issubclass(leaf, Enum))
    yield from sorted(dict.fromkeys(found), key=lambda kind: kind.__name__)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="only say whether it is up to date")
    check, text = arguments.parse_args().check, render()
    if not check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("static/src/shared/events.ts is out of date. Run: make exports")
    return 1


if __name__ == "__main__":
    sys.exit(main())
