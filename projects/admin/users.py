"""People who may sign in. Superusers add them here; what they see is decided by their memberships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.admin import ModelAdmin
from unfold.forms import (
    AdminPasswordChangeForm,
    UnfoldReadOnlyPasswordHashWidget,
    UserChangeForm,
    UserCreationForm,
)

from projects.audit import Audited
from projects.list_lookups import DeclaredLookups
from projects.scoped_admin import say_what_was_lost
from projects.services import projects_that_need

if TYPE_CHECKING:
    UserAdminBase = DjangoUserAdmin[User]
    UserFormBase = forms.ModelForm[User]
else:

    class UserAdminBase(DjangoUserAdmin, ModelAdmin):
        pass

    UserFormBase = UserChangeForm


HELP = {
    "is_active": "Take this away instead of deleting somebody: their name stays in histories.",
    "is_superuser": "Sees every project and adds users. Everybody else needs a membership in a project.",
}


class PasswordState(UnfoldReadOnlyPasswordHashWidget):  # type: ignore[misc]  # untyped
    """Whether there is a password. By which numbers and letters it is kept helps nobody."""

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        if len(context["summary"]) > 1:
            context["summary"] = [{"label": "A password is set."}]
        return context


class UserForm(UserFormBase):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password"].widget = PasswordState()
        change = reverse("admin:auth_user_password_change", args=[self.instance.pk])
        self.fields["password"].help_text = format_html(
            'Nobody can read it. <a class="m-link" href="{}">Set another one</a>', change
        )
        for name, text in HELP.items():
            if name in self.fields:  # one's own are for reading only
                self.fields[name].help_text = text

    def clean_is_active(self) -> bool:
        active: bool = self.cleaned_data["is_active"]
        needed = [] if active or not self.initial.get("is_active") else projects_that_need(users=[self.instance])
        if needed:
            names = ", ".join(project.name for project in needed)
            raise forms.ValidationError(f"Nobody else owns {names}. Make another member an owner there first.")
        return active


class UserAdmin(DeclaredLookups, Audited, UserAdminBase):
    form = UserForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "roles", "is_active", "is_superuser", "last_login")
    list_filter = ("is_active", "is_superuser")
    search_help_text = "Search in names and e-mail addresses."
    filter_horizontal = ()
    readonly_fields = ("roles", "last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password", ("first_name", "last_name"), "email")}),
        ("What they may do", {"fields": ("roles", "is_active", "is_superuser")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("memberships__project")

    # Whoever may edit users may become anybody: no permission of Django's opens this, only being a superuser.
    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)

    has_change_permission = has_view_permission

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request) and obj != request.user

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        say_what_was_lost(context["adminform"].form)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Nobody locks themselves out."""
        return (*self.readonly_fields, "is_active", "is_superuser") if obj == request.user else self.readonly_fields

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[Any], list[Any]]:
        """Whom a project needs is kept, as what is protected by another row is."""
        to_delete, counts, refused, protected = super().get_deleted_objects(objs, request)
        needed = [f"{project.name} (make another member its owner first)" for project in projects_that_need(users=objs)]
        return to_delete, counts, refused, [*protected, *needed]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.is_staff = obj.is_staff or obj.is_superuser  # else they could not sign in
        super().save_model(request, obj, form, change)

    @admin.display(description="projects")
    def roles(self, user: Any) -> SafeString | str:
        shown = format_html_join(
            mark_safe("<br>"),
            '<a href="{}">{}</a> ({})',
            (
                (
                    reverse("admin:projects_project_change", args=[member.project_id]),
                    member.project.name,
                    member.get_role_display().lower(),
                )
                for member in user.memberships.all()
            ),
        )
        return (
            format_html("<span>{}</span>", shown)
            if shown
            else format_html(
                '<span>none: <a href="{}">add them to a project</a></span>',
                reverse("admin:projects_project_changelist"),
            )
        )


# Importing Django's own pages registered them; ours take their place, and groups decide nothing here.
admin.site.unregister(User)
admin.site.unregister(Group)
admin.site.register(User, UserAdmin)
