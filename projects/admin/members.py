"""The members of a project: a table in its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth import get_user_model
from django.http import HttpRequest

from projects import services
from projects.choices import Action, MemberRole
from projects.models import Member, Project
from projects.scoped_admin import ScopedTabularInline, dress

if TYPE_CHECKING:
    MemberFormBase = forms.ModelForm[Member]
    MemberFormSetBase = forms.BaseInlineFormSet[Member, Project, "MemberForm"]
else:
    MemberFormBase = forms.ModelForm
    MemberFormSetBase = forms.BaseInlineFormSet


class MemberForm(MemberFormBase):
    """A member is named by sign-in name: a list to choose from would show every tenant's people."""

    username = forms.CharField(label="User name", max_length=150)

    class Meta:
        model = Member
        fields = ("role",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.fields["username"].initial = self.instance.user.get_username()
            self.fields["username"].disabled = True
        dress(self)

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]
        if self.instance._state.adding:
            user = get_user_model()._default_manager.filter(username=name, is_active=True).first()
            if user is None:
                raise forms.ValidationError("There is no user of this name. An administrator can add one under Users.")
            if Member.objects.filter(project_id=self.instance.project_id, user_id=user.pk).exists():
                raise forms.ValidationError("This user is a member already.")
            self.instance.user_id = user.pk
        return name


class MemberFormSet(MemberFormSetBase):
    def clean(self) -> None:
        super().clean()
        kept = [form for form in self.forms if form.cleaned_data and not form.cleaned_data.get("DELETE")]
        names = [form.cleaned_data.get("username") for form in kept]
        if len(set(names)) < len(names):
            raise forms.ValidationError("Name each user once.")
        if kept and not any(form.cleaned_data.get("role") == MemberRole.OWNER for form in kept):
            raise forms.ValidationError("A project needs an owner: make another member one first.")
        if self.initial_forms and not kept:
            raise forms.ValidationError("A project needs an owner: it cannot do without all its members.")

    def save_new(self, form: MemberForm, commit: bool = True) -> Member:
        role = MemberRole(form.cleaned_data["role"])
        return services.add_member(project=self.instance, user=form.instance.user, role=role)


class MemberInline(ScopedTabularInline):
    model = Member
    form = MemberForm
    formset = MemberFormSet  # type: ignore[assignment]  # the stubs want it for any model
    fields = ("username", "role", "created_at")
    readonly_fields = ("created_at",)
    verbose_name_plural = "members"
    add_action = change_action = delete_action = Action.MANAGE

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("username", "role")  # a new project's members have joined at no time yet
        # Without the right to change there is no form, so the name comes from the row itself.
        return self.fields if self.has_change_permission(request, obj) else ("user", "role", "created_at")
