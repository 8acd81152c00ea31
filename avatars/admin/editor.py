"""What the agent's editor shows beside its fields: tabs, faces, and the rows of each chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms

from avatars.admin.pages import moving_url
from avatars.admin.steps import ADDS, StepForm, StepFormSet
from avatars.explain import ChainState, describe_rung, explain_pipeline, key_names
from avatars.models import Agent
from avatars.portraits import portrait_url
from avatars.services import snapshot_agent
from projects.providers.base import PIPELINE


@dataclass(frozen=True)
class Tab:
    """One tab of the editor: its fields, and how many of them are to be mended."""

    key: str
    title: str
    fieldset: Any = None
    errors: int = 0


def tabs(adminform: Any, steps: Any, answers: Any, *, saved: bool) -> list[Tab]:
    fieldsets = {fieldset.name: fieldset for fieldset in adminform}
    titles = {
        "who": "Who it is",
        "pipeline": "Pipeline",
        "turns": "Turn-taking",
        "knowledge": "Knowledge",
        "limits": "Limits",
    }
    rows = {"pipeline": steps, "knowledge": answers}
    tabs = []
    for key, title in titles.items():
        fieldset, formset = fieldsets.get(key), rows.get(key)
        errors = sum(name in adminform.form.errors for name in _names(fieldset)) + (
            _row_errors(formset) if formset else 0
        )
        tabs.append(Tab(key, title, fieldset, errors))
    return tabs + ([Tab("links", "Links"), Tab("revisions", "Revisions")] if saved else [])


def _names(fieldset: Any) -> Sequence[str]:
    return fieldset.fields if fieldset else ()


def _row_errors(formset: Any) -> int:
    return sum(map(len, formset.errors)) + len(formset.non_form_errors()) if formset.is_bound else 0


def faces(field: Any) -> dict[str, dict[str, str]]:
    """Still and moving picture of each face that the form offers, by its id."""
    if not isinstance(field, forms.ModelChoiceField) or field.queryset is None:
        return {}
    return {
        str(avatar.pk): {"picture": portrait_url(avatar) or "", "clip": moving_url(avatar)} for avatar in field.queryset
    }


def chains(
    formset: StepFormSet, agent: Agent | None, *, may_edit: bool, troubles: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The rows of each kind, and what they come to on this server right now. `troubles` says, by kind, what went wrong
    lately."""
    explained: dict[str, ChainState] = {}
    if agent is not None:
        explained = {chain.kind: chain for chain in explain_pipeline(agent=agent)}
    rows = sorted(formset.forms, key=place)
    names = key_names(project_id=agent.project_id) if agent and not may_edit else {}
    shown = snapshot_agent(agent) if agent and not may_edit else None
    return [
        {
            "kind": kind.value,
            "label": kind.label,
            "add": ADDS[kind],
            "rows": [row for row in rows if isinstance(row, StepForm) and row.kind == kind.value] if may_edit else [],
            "blank": formset.blank(kind) if may_edit else None,
            "now": explained.get(kind.value),
            "trouble": troubles.get(kind.value, ""),
            "texts": [describe_rung(kind, rung, names) for rung in shown.steps(kind)] if shown else [],
        }
        for kind in PIPELINE
    ]


def place(form: Any) -> int:
    """Rows keep the order in which they were posted, also when something is to be mended."""
    try:
        return int(form["position"].value() or 10_001)
    except (KeyError, ValueError):
        return 10_001
