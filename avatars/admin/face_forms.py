"""The form of an avatar: an engine with its options as fields, a portrait, a key for hosted faces."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from django import forms
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import UploadedFile

from avatars.admin.rungs import PREFIX, SELECT, KeySelect, schema_field
from avatars.characters import CHARACTERS
from avatars.engines import ENGINES, STILL
from avatars.explain import option_label
from avatars.faces import (
    engine_label,
    find_engine,
    find_hosted,
    hosted_providers,
    local_portrait,
    validate_face,
)
from avatars.media import clean_portrait
from avatars.models import Avatar
from avatars.portraits import DEFAULT_CHARACTER, character_clip_url, character_url
from molts.errors import BadInput
from projects.providers.base import Kind, Options
from projects.scoped_admin import ScopedForm


# -- From an engine's schema to fields --------------------------------------------------------------------------------
def engine_option_fields(key: str) -> dict[str, forms.Field]:
    """One form field for each option of an engine or hosted service, by its name with PREFIX. Empty: the usual."""
    engine, provider = find_engine(key), find_hosted(key)
    if engine is not None:
        schema = engine.options.model_json_schema()
    elif provider is not None:
        schema = provider.options.get(Kind.AVATAR, Options).model_json_schema()
    else:
        return {}
    parts = schema.get("$defs", {})
    return {
        f"{PREFIX}{name}": _field(name, _resolved(spec, parts)) for name, spec in schema.get("properties", {}).items()
    }


def _resolved(spec: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of one option with what it refers to in place."""
    if "$ref" in spec:
        return {**parts[spec["$ref"].rsplit("/", 1)[-1]], **spec}
    return dict(spec)


def _field(name: str, spec: Mapping[str, Any]) -> forms.Field:
    if name == "character":
        return CharacterField()
    kinds = {spec.get("type"), *(part.get("type") for part in spec.get("anyOf", ()))}
    if kinds & {"array", "object"}:
        return MarksField(required=False)
    if spec.get("type") == "number" and {"minimum", "maximum", "default"} <= spec.keys():
        return SliderField(name, spec)
    return schema_field(name, spec, None)


class CharacterField(forms.ChoiceField):
    """The characters that are drawn for molts, to be chosen by their pictures."""

    widget = forms.RadioSelect

    def __init__(self) -> None:
        choices = [(key, info.label) for key, info in CHARACTERS.items()]
        super().__init__(choices=choices, initial=DEFAULT_CHARACTER, required=False, label="Character")

    @property
    def pictures(self) -> list[dict[str, str]]:
        return [
            {
                "key": key,
                "label": info.label,
                "description": info.description,
                "url": character_url(key),
                "clip": character_clip_url(key),
            }
            for key, info in CHARACTERS.items()
        ]


class SliderInput(forms.NumberInput):
    input_type = "range"


class SliderField(forms.FloatField):
    """A number between two limits, which stand at its ends. It is never empty: the default is where it begins."""

    def __init__(self, name: str, spec: Mapping[str, Any]) -> None:
        super().__init__(
            required=False,
            initial=spec["default"],
            min_value=spec["minimum"],
            max_value=spec["maximum"],
            label=option_label(name),
            help_text=spec.get("description", ""),
            widget=SliderInput(attrs={"class": "m-range", "step": "0.01", "data-slider": ""}),
        )


class PlainJSON(json.JSONDecoder):
    """What is nested too deeply, longer than a number can be, endless or half a character is no JSON for us either."""

    def decode(self, text: str, *args: Any) -> Any:
        try:
            value = super().decode(text, *args)
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError("not plain JSON", text, 0) from error
        return value


class MarksField(forms.JSONField):
    """What is marked on the picture: fractions, in a hidden field that the page's script fills in."""

    widget = forms.HiddenInput

    def __init__(self, **options: Any) -> None:
        super().__init__(decoder=PlainJSON, **options)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(super().has_changed(initial, data))


class OptionsForm(forms.Form):
    """The options of one engine, unfilled, for the page to swap in."""

    def __init__(self, fields: Mapping[str, forms.Field]) -> None:
        super().__init__()
        self.fields.update(fields)


def engine_options(key: str) -> list[forms.BoundField]:
    form = OptionsForm(engine_option_fields(key))
    return [form[name] for name in form.fields]


# -- The form ---------------------------------------------------------------------------------------------------------
def engine_choices() -> list[tuple[str, str]]:
    keys = [*(key for key in ENGINES if find_engine(key)), *(provider.key for provider in hosted_providers()), STILL]
    return [(key, engine_label(key)) for key in keys]


_cleaned: WeakKeyDictionary[UploadedFile[Any], ContentFile[bytes] | BadInput] = WeakKeyDictionary()


def clean_once(upload: UploadedFile[Any]) -> ContentFile[bytes] | BadInput:
    """The clean copy of an uploaded picture, or why there is none: decoded once, however often its form is checked."""
    if upload not in _cleaned:
        try:
            _cleaned[upload] = clean_portrait(upload)
        except BadInput as error:
            _cleaned[upload] = error
    return _cleaned[upload]


class AvatarForm(ScopedForm):
    engine = forms.ChoiceField(choices=engine_choices, widget=forms.RadioSelect, initial="puppet")
    portrait = forms.FileField(
        required=False,
        widget=forms.FileInput(attrs={"accept": "image/png,image/jpeg,image/webp", "class": "m-file"}),
        help_text="PNG, JPEG or WebP of at most 10 MB: one face, looking into the camera, well lit.",
    )

    class Meta:
        model = Avatar
        fields = ("project", "name", "engine", "provider_key", "portrait")
        help_texts = {"name": "How agents' editors find it."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options: dict[str, forms.Field] = {}
        if "provider_key" not in self.fields:
            return  # may only be looked at
        key = self.fields["provider_key"]
        assert isinstance(key, forms.ModelChoiceField)
        key.empty_label = "No key"
        key.widget = KeySelect(attrs=SELECT | {"data-key-select": ""})
        key.widget.choices = key.choices
        self._options = engine_option_fields(self.chosen_engine)
        stored = self.instance.options if self.instance.engine == self.chosen_engine else {}
        for name, field in self._options.items():
            self.fields[name] = field
            if (value := stored.get(name.removeprefix(PREFIX))) is not None:
                self.initial[name] = value

    @property
    def chosen_engine(self) -> str:
        """The posted engine, else the stored one."""
        posted = self.data.get(self.add_prefix("engine")) if self.is_bound else None
        return str(posted if posted is not None else self.initial.get("engine") or self.instance.engine)

    @property
    def option_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self._options]

    @property
    def has_option_errors(self) -> bool:
        return any(name in self.errors for name in self._options)

    @property
    def choice_renders(self) -> bool:
        return find_engine(self.cleaned_data["engine"]) is not None

    def clean_portrait(self) -> Any:
        upload = self.cleaned_data["portrait"]
        if not isinstance(upload, UploadedFile):
            return upload  # kept
        cleaned = clean_once(upload)
        if isinstance(cleaned, BadInput):
            raise forms.ValidationError(cleaned.detail)
        return cleaned

    def chosen_options(self) -> dict[str, Any]:
        """What was filled in; a checkbox or slider counts when it differs from its default."""
        chosen = {}
        for name, field in self._options.items():
            value = self.cleaned_data.get(name)
            usual = field.initial if isinstance(field, forms.BooleanField | SliderField) else None
            if value != usual and value not in (None, "", [], {}):
                chosen[name.removeprefix(PREFIX)] = value
        return chosen

    @contextmanager
    def portrait_file(self) -> Iterator[Path | None]:
        """The picture as it would be stored, as a file for as long as the context lasts."""
        chosen = self.cleaned_data.get("portrait")
        if not isinstance(chosen, ContentFile):
            yield local_portrait(self.instance.portrait.name or "")
            return
        with tempfile.TemporaryDirectory(prefix="molts-portrait-") as folder:
            file = Path(folder) / "portrait.png"
            chosen.seek(0)
            file.write_bytes(chosen.read())
            chosen.seek(0)
            yield file

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        project = cleaned.get("project")
        project_id = project.pk if project else self.instance.project_id
        if self.errors or "engine" not in cleaned or project_id is None:
            return cleaned
        if find_hosted(cleaned["engine"]) is None:
            cleaned["provider_key"] = None  # a field that is not shown for other faces
        self.instance.options = self.chosen_options()
        # The character's name goes where faces without engines had it: what shows stills reads it there.
        self.instance.builtin = self.instance.options.get("character", "") if cleaned["engine"] == "puppet" else ""
        try:
            with self.portrait_file() as portrait:
                validate_face(
                    project_id=project_id,
                    engine=cleaned["engine"],
                    options=self.instance.options,
                    provider_key=cleaned.get("provider_key"),
                    portrait=portrait,
                )
        except BadInput as error:
            name = (error.attr or "").replace("options.", PREFIX)
            shown = name in self.fields and not self.fields[name].widget.is_hidden
            self.add_error(name if shown else "portrait" if name.startswith(PREFIX) else None, error.detail)
        return cleaned


class PreviewForm(AvatarForm):
    """The face as it stands in the form, saved or not; it needs no name to be looked at."""

    name = forms.CharField(required=False)

    def _post_clean(self) -> None:
        """Nothing of it is stored."""
