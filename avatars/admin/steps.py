"""Rows of an agent: its pipeline and its questions with their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms

from avatars.admin.pages import at_most
from avatars.admin.rungs import INPUT, RungMixin, provider_choices
from avatars.models import Agent, AgentAnswer, PipelineStep
from projects.providers.base import PIPELINE, Kind
from projects.scoped_admin import ScopedTabularInline, refuse_foreign_parts

if TYPE_CHECKING:
    PartFormSetBase = forms.BaseInlineFormSet[Any, Agent, forms.ModelForm[Any]]
    FormBase = forms.ModelForm[Any]
else:
    PartFormSetBase = forms.BaseInlineFormSet
    FormBase = forms.ModelForm

ADDS = {
    Kind.STT: "Add a recogniser",
    Kind.LLM: "Add a model",
    Kind.TTS: "Add a voice to fall back on",
}

MAX_ANSWER = 4_000
CHANGED_ELSEWHERE = "This row was changed elsewhere meanwhile: load the page again."


class PartFormSet(PartFormSetBase):
    """Rows of an agent; they may hold objects of its project only. A row without a place goes to the end."""

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        key = form.fields.get("id")
        if key is not None:
            key.error_messages = {**key.error_messages, "invalid_choice": CHANGED_ELSEWHERE}

    @property
    def changed_elsewhere(self) -> bool:
        """Whether a posted row is no longer there: going back to a revision, for one, makes all rows anew."""
        return self.is_bound and any("id" in errors for errors in self.errors)

    def clean(self) -> None:
        super().clean()
        last = 0
        for form in self.forms:
            assert isinstance(form, PartForm)
            if form.is_valid() and form.has_changed() and not form.cleaned_data.get("DELETE"):
                refuse_foreign_parts(form, self.instance.project_id)
                self.check_row(form)
                if form.instance._state.adding and not form.has_place:
                    form.instance.position = last + 1
            last = max(last, form.instance.position)

    def check_row(self, form: forms.BaseForm) -> None:
        """Add errors to one changed row."""


class PartForm(FormBase):
    """One row. Its place is a number without scripts, and the order on the page with them."""

    position = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=10_000,
        label="Place",
        widget=forms.NumberInput(attrs={"class": "m-input m-place", "data-place": ""}),
    )

    def clean_position(self) -> int:
        """An empty place keeps the stored one."""
        position: int | None = self.cleaned_data["position"]
        return self.instance.position if position is None else position

    @property
    def has_place(self) -> bool:
        return bool(self.data.get(self.add_prefix("position")))


class StepForm(RungMixin, PartForm):
    provider = forms.ChoiceField(choices=lambda: _all_choices())

    class Meta:
        model = PipelineStep
        fields = ("kind", "position", "provider", "provider_key")
        widgets = {"kind": forms.HiddenInput}

    def __init__(self, *args: Any, kind: Kind | None = None, **kwargs: Any) -> None:
        self._asked_kind = kind
        super().__init__(*args, **kwargs)
        if "provider_key" in self.fields:
            self.fields["kind"].widget = forms.HiddenInput()
            if kind:
                self.initial["kind"] = kind.value
            if self.kind:
                # Only what is offered; whether the provider fits is checked with a better text.
                self.fields["provider"].widget.choices = provider_choices(self.kind)

    @property
    def kind(self) -> Kind:
        posted = self.data.get(self.add_prefix("kind")) if self.is_bound else None
        value = posted or self.instance.kind or (self._asked_kind.value if self._asked_kind else "")
        return Kind(value) if value in PIPELINE else None  # type: ignore[return-value]


def _all_choices() -> list[tuple[str, Any]]:
    labels = {key: label for kind in PIPELINE for key, label in provider_choices(kind)}
    return list(labels.items())


class StepFormSet(PartFormSet):
    def check_row(self, form: forms.BaseForm) -> None:
        assert isinstance(form, StepForm)
        form.check_rung(project_id=self.instance.project_id)

    def blank(self, kind: Kind) -> StepForm:
        """An unfilled row of a kind, for the page to copy."""
        made: StepForm = self.form(  # type: ignore[call-arg, assignment]  # a StepForm, made for this page
            auto_id=self.auto_id,
            prefix=self.add_prefix("__prefix__"),
            empty_permitted=True,
            use_required_attribute=False,
            kind=kind,
            **self.get_form_kwargs(None),
        )
        self.add_fields(made, None)
        return made


class StepInline(ScopedTabularInline):
    model = PipelineStep
    form = StepForm
    formset = StepFormSet
    verbose_name = "pipeline row"


class AnswerForm(PartForm):
    question = forms.CharField(
        max_length=300,
        label="When asked",
        widget=forms.Textarea(attrs=INPUT | {"rows": 2}),
        help_text="Several wordings: one a line.",
    )
    answer = forms.CharField(
        label="It says", widget=forms.Textarea(attrs=INPUT | {"rows": 2}), validators=[at_most(MAX_ANSWER)]
    )

    class Meta:
        model = AgentAnswer
        fields = ("position", "question", "answer")


class AnswerInline(ScopedTabularInline):
    model = AgentAnswer
    form = AnswerForm
    formset = PartFormSet
