"""What holds an object and keeps it from being deleted, with links to where that is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.contrib import admin
from django.db import models
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst

HOLDS = (models.RESTRICT, models.PROTECT, models.SET_NULL)


def uses_of(objs: Iterable[models.Model]) -> list[SafeString]:
    """What holds these objects, and what uses that in turn: of a key its agents, and its voices with their agents."""
    found = dict.fromkeys(holder for obj in objs for holder in _holders(obj, (models.RESTRICT, models.PROTECT)))
    return [_described(holder) for holder in sorted(found, key=lambda each: (each._meta.model_name or "", str(each)))]


def _holders(obj: models.Model, kinds: tuple[object, ...]) -> Iterator[models.Model]:
    for relation in obj._meta.related_objects:
        if relation.on_delete in kinds and isinstance(relation, models.ManyToOneRel):
            rows = relation.related_model._default_manager.filter(**{relation.field.name: obj.pk})
            yield from filter(None, map(_with_page, rows))


def _with_page(row: models.Model) -> models.Model | None:
    """The row itself, or whatever it is a part of, where that has a page: a row of a pipeline is of its agent."""
    if not admin.site.is_registered(type(row)):
        part_of: str = getattr(row, "project_path", "").split("__")[0]
        row = getattr(row, part_of, row)
    return row if admin.site.is_registered(type(row)) else None


def _described(holder: models.Model) -> SafeString:
    users = sorted(dict.fromkeys(_holders(holder, HOLDS)), key=str)
    used = format_html_join(", ", "{}", ((_link(user),) for user in users))
    text = format_html(", used by {}", used) if users else ""
    return format_html("{}: {}{}", capfirst(holder._meta.verbose_name), _link(holder), text)


def _link(obj: models.Model) -> SafeString:
    address = reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[obj.pk])
    return format_html('<a class="m-link" href="{}">{}</a>', address, obj)
