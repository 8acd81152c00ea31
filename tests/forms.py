"""Posting the admin's forms as a browser would."""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from django.urls import reverse


def admin_url(model: type[Model], page: str, *arguments: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)


def form_data(response: Any) -> dict[str, Any]:
    """What a browser would post if nothing was changed on the page."""
    assert response.status_code == 200
    formsets = [inline.formset for inline in response.context["inline_admin_formsets"]]
    forms = [response.context["adminform"].form]
    for formset in formsets:
        forms += [formset.management_form, *formset.forms]
    data: dict[str, Any] = {}
    for form in forms:
        for name, field in form.fields.items():
            value = form.get_initial_for_field(field, name)
            if value is not None and value is not False:
                data[form.add_prefix(name)] = field.prepare_value(value)
    return data


def form_errors(response: Any) -> dict[str, Any]:
    """Errors of the main form and of the inline rows that an admin page shows, by field name."""
    assert response.status_code == 200, "the form was accepted"
    errors = dict(response.context["adminform"].form.errors)
    for inline in response.context["inline_admin_formsets"]:
        for form in inline.formset.forms:
            errors |= {form.add_prefix(name): text for name, text in form.errors.items()}
        if inline.formset.non_form_errors():
            errors[inline.formset.prefix] = inline.formset.non_form_errors()
    return errors


def messages_of(response: Any) -> list[str]:
    """What an admin page tells at its top."""
    return [str(message) for message in response.context["messages"]]
