"""Forms of one rung (a provider with its key and options) whose options are fields of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms

from avatars.explain import option_label
from avatars.services import validate_rung
from molts.errors import BadConfiguration, BadInput
from projects.models import ProviderKey
from projects.providers import get_provider, providers_for
from projects.providers.base import Kind, Options, Provider

if TYPE_CHECKING:
    RungFormBase = forms.ModelForm[Any]
else:
    RungFormBase = object

PREFIX = "option_"
INPUT, SELECT, CHECK = {"class": "m-input"}, {"class": "m-input m-select"}, {"class": "m-check"}
CHOOSE = "Choose a provider"


# -- From a provider's schema to fields -------------------------------------------------------------------------------
def option_fields(provider: Provider, kind: Kind) -> dict[str, forms.Field]:
    """One form field for each option of the provider, by its name with PREFIX. Empty means: the default."""
    schema = provider.options.get(kind, Options).model_json_schema().get("properties", {})
    defaults = provider.defaults(kind)
    return {f"{PREFIX}{name}": schema_field(name, spec, defaults.get(name)) for name, spec in schema.items()}


def schema_field(name: str, spec: Mapping[str, Any], taken: str | None) -> forms.Field:
    """The field for one option of a JSON schema; `taken` is what is taken when it stays empty."""
    # "number or nothing" is a number that may be left empty.
    spec = {**spec, **next((part for part in spec.get("anyOf", ()) if part.get("type") != "null"), {})}
    default = taken or spec.get("default")
    placeholder = "" if default in (None, "") else str(default)
    given: dict[str, Any] = {"label": option_label(name), "help_text": _help(spec), "required": False}
    attrs = INPUT | {"placeholder": placeholder, "autocomplete": "off"}
    if "enum" in spec:
        named = [(value, value) for value in spec["enum"] if value != ""]
        empty = f"Usual ({placeholder})" if placeholder else "Usual"
        return forms.ChoiceField(choices=[("", empty), *named], widget=forms.Select(attrs=SELECT), **given)
    bounds: dict[str, Any] = {"min_value": spec.get("minimum"), "max_value": spec.get("maximum")}
    match spec.get("type"):
        case "boolean":
            return forms.BooleanField(initial=bool(default), widget=forms.CheckboxInput(attrs=CHECK), **given)
        case "integer":
            return forms.IntegerField(widget=forms.NumberInput(attrs=attrs), **bounds, **given)
        case "number":
            return forms.FloatField(widget=forms.NumberInput(attrs=attrs | {"step": "any"}), **bounds, **given)
        case _:
            longest = spec.get("maxLength")
            wide = longest is not None and longest >= 400
            widget: forms.Widget = forms.Textarea(attrs=attrs | {"rows": 2}) if wide else forms.TextInput(attrs=attrs)
            return forms.CharField(max_length=longest, widget=widget, **given)


def _help(spec: Mapping[str, Any]) -> str:
    """What the provider says of the option, and between which values it lies."""
    text = str(spec.get("description", ""))
    low, high = spec.get("minimum"), spec.get("maximum")
    span = f"{low:g} to {high:g}" if low is not None and high is not None else ""
    if not text:
        return f"{span.capitalize()}." if span else ""
    return text[:1].upper() + text[1:] + (f" ({span})." if span else ".")


def provider_choices(kind: Kind) -> list[tuple[str, Any]]:
    return [("", CHOOSE), *((provider.key, provider.label) for provider in providers_for(kind))]


def provider_facts() -> dict[str, dict[str, Any]]:
    """What the page's script must know of each provider."""
    return {
        provider.key: {"label": provider.label, "needsKey": provider.needs_key, "takesKey": provider.takes_key}
        for kind in Kind
        for provider in providers_for(kind)
    }


# -- The form ---------------------------------------------------------------------------------------------------------
class KeySelect(forms.Select):
    """Says with each key whose it is, so that the page can offer the chosen provider's keys alone."""

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option = super().create_option(name, value, *args, **kwargs)
        key = getattr(value, "instance", None)
        if isinstance(key, ProviderKey):
            option["attrs"] |= {"data-provider": key.provider, "data-project": str(key.project_id)}
        return option


class RungMixin(RungFormBase):
    """Mixed into the form of a pipeline step or voice: options as fields, checked by the provider that takes them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "provider_key" not in self.fields:
            return  # may only be looked at
        self._choose_widgets()
        provider, kind = self.chosen_provider, self.kind
        self._options = option_fields(provider, kind) if provider and kind in provider.kinds else {}
        stored = self.instance.options if provider and self.instance.provider == provider.key else {}
        for name, field in self._options.items():
            self.fields[name] = field
            if (value := stored.get(name.removeprefix(PREFIX))) is not None:
                self.initial[name] = value

    @property
    def kind(self) -> Kind:
        """What the rung is for."""
        raise NotImplementedError

    @property
    def chosen_provider(self) -> Provider | None:
        """The posted provider, else the stored one."""
        posted = self.data.get(self.add_prefix("provider")) if self.is_bound else None
        try:
            return get_provider(str(posted if posted is not None else self.instance.provider or ""))
        except BadConfiguration:
            return None

    @property
    def option_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in getattr(self, "_options", ())]

    @property
    def has_option_errors(self) -> bool:
        return any(name in self.errors for name in getattr(self, "_options", ()))

    @property
    def shows_key(self) -> bool:
        """Whether the field for the key means anything to the chosen provider."""
        provider = self.chosen_provider
        return bool(provider and provider.takes_key) or bool(self["provider_key"].errors)

    def _choose_widgets(self) -> None:
        provider, key = self.fields["provider"], self.fields["provider_key"]
        assert isinstance(provider, forms.ChoiceField)
        assert isinstance(key, forms.ModelChoiceField)
        provider.widget = forms.Select(attrs=SELECT | {"data-provider-select": ""})
        provider.widget.choices = provider.choices
        key.empty_label = "No key"
        key.widget = KeySelect(attrs=SELECT | {"data-key-select": ""})
        key.widget.choices = key.choices

    def chosen_options(self) -> dict[str, Any]:
        """What was filled in; a checkbox counts when it differs from its default."""
        chosen = {}
        for name, field in self._options.items():
            value = self.cleaned_data.get(name)
            if value != field.initial if isinstance(field, forms.BooleanField) else value not in (None, ""):
                chosen[name.removeprefix(PREFIX)] = value
        return chosen

    def check_rung(self, *, project_id: Any) -> None:
        """Check provider, options and key together, and show what to mend at its field."""
        if self.errors:
            return
        self.instance.options = self.chosen_options()
        try:
            validate_rung(
                project_id=project_id,
                kind=self.kind,
                provider=self.cleaned_data["provider"],
                options=self.instance.options,
                provider_key=self.cleaned_data.get("provider_key"),
            )
        except BadInput as error:
            name = (error.attr or "").replace("options.", PREFIX)
            self.add_error(name if name in self.fields else None, error.detail)


def option_templates(*kinds: Kind) -> list[dict[str, Any]]:
    """The option fields of every provider, unfilled, for the page to swap in when another one is chosen."""
    return [
        {"kind": kind.value, "provider": provider.key, "fields": list(_blank(provider, kind))}
        for kind in kinds
        for provider in providers_for(kind)
    ]


def _blank(provider: Provider, kind: Kind) -> forms.Form:
    form = forms.Form(prefix="__prefix__")
    form.fields.update(option_fields(provider, kind))
    return form
