"""Agents: the list, and the editor in tabs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST
from unfold.widgets import UnfoldAdminSelectWidget

from avatars.admin.editor import chains, faces, place, tabs
from avatars.admin.pages import ago, answers_json, at_most, page_media, picture, save_revisions
from avatars.admin.revisions import changes_of, may_roll_back
from avatars.admin.rungs import INPUT, option_templates, provider_facts
from avatars.admin.steps import AnswerInline, StepInline
from avatars.languages import language_choices
from avatars.models import Agent, AgentRevision, PipelineStep
from avatars.services import duplicate_agent, edited_since, free_slug, keep_default_rungs
from avatars.turn_taking import CUSTOM, FIELDS, PRESETS, preset_of, preset_values
from molts.errors import BadInput
from projects.audit import record_action
from projects.choices import Action
from projects.providers import provider_label
from projects.providers.base import Kind, Persona
from projects.providers.scripted.rehearsal import rehearse
from projects.scoped_admin import ScopedAdmin, ScopedForm, ScopedRelatedFilter, counted, may_do
from sessions.admin.parts import conversations_url
from sessions.models import LiveSession, RoomLink
from sessions.services import end_sessions_of_agents
from sessions.troubles import recent_troubles

LONGEST = {"instructions": 20_000, "greeting": 2_000, "knowledge": 200_000}
SHOWN_REVISIONS = 10
SHOWN_LINKS = 20
MOST_ANSWERS = 500
RECENT_DAYS = 7
ROWS_CHANGED = "Rows of this agent were changed elsewhere meanwhile. Nothing is saved: load the page again."
GREETING = "Hello! How can I help you today?"


def preset_choices() -> list[tuple[str, str]]:
    return [*((preset.key, preset.label) for preset in PRESETS), (CUSTOM, "Custom")]


class RevisionField(forms.IntegerField):
    """The number of a revision, which travels with the form and is no part of the agent."""

    widget = forms.HiddenInput(attrs={"autocomplete": "off"})

    def has_changed(self, initial: Any, data: Any) -> bool:
        return False


class AgentForm(ScopedForm):
    seen_revision = RevisionField(required=False)  # the newest one when the page was opened
    overwrite = RevisionField(required=False)  # the one that may be overwritten, once that was asked
    conflict: AgentRevision | None = None
    turn_preset = forms.ChoiceField(
        choices=preset_choices, required=False, label="Preset", widget=forms.RadioSelect, initial="balanced"
    )
    language = forms.ChoiceField(choices=language_choices, initial="en", widget=UnfoldAdminSelectWidget)

    class Meta:
        model = Agent
        exclude = ()
        widgets = {
            "greeting": forms.Textarea(attrs=INPUT | {"rows": 2}),
            "instructions": forms.Textarea(attrs=INPUT | {"rows": 8}),
            "knowledge": forms.Textarea(attrs=INPUT | {"rows": 12}),
        }
        labels = {
            "end_of_turn_model": "Judge by meaning",
            "min_endpointing_ms": "Shortest wait (ms)",
            "max_endpointing_ms": "Longest wait (ms)",
            "allow_interruptions": "Visitors may interrupt",
            "max_minutes": "Longest conversation (minutes)",
            "silence_seconds": "End after silence (seconds)",
            "slug": "Name for programs",
        }
        help_texts = {
            "slug": "How programs name it, for example in POST /api/v1/token. Empty: made from the name.",
            "instructions": "Who it is and how it should behave. A language model reads this before every answer.",
            "knowledge": "What it knows, in plain sentences; a heading may start a line with #.",
            "voice": "Empty: the best voice that this server has.",
            "avatar": "Empty: the first letter of its name.",
            "min_endpointing_ms": "Silence after the visitor's last word before the agent answers.",
            "max_endpointing_ms": "Silence it waits for at most when the sentence seems unfinished.",
            "end_of_turn_model": "Ask a small model whether the visitor has finished, not the silence alone.",
            "allow_interruptions": "It stops speaking when the visitor starts.",
            "max_minutes": "The conversation is ended after this time. A link may allow less.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "slug" in self.fields:
            self.fields["slug"].required = not self.instance._state.adding and bool(self.instance.slug)
        for name, limit in LONGEST.items():
            if name in self.fields:
                self.fields[name].validators.append(at_most(limit))
        if self.instance._state.adding:
            self.initial.setdefault("greeting", GREETING)
        if isinstance(field := self.fields.get("language"), forms.ChoiceField):
            field.choices = language_choices(self.instance.language)
        for name in ("voice", "avatar"):
            if isinstance(field := self.fields.get(name), forms.ModelChoiceField):
                field.empty_label = {"voice": "The usual voice", "avatar": "No picture"}[name]
        if not self.instance._state.adding:
            newest = self.instance.revisions.values_list("number", flat=True).first()
            self.initial["seen_revision"] = newest or 0
        self.initial["turn_preset"] = preset_of({name: getattr(self.instance, name) for name in FIELDS})

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        # Choosing a preset sets the values; otherwise the values are what was typed, whatever the preset says.
        if "turn_preset" in self.changed_data and (values := preset_values(cleaned.get("turn_preset", ""))):
            for name in FIELDS:
                self.errors.pop(name, None)
            cleaned |= values
        shortest, longest = cleaned.get("min_endpointing_ms"), cleaned.get("max_endpointing_ms")
        if shortest and longest and longest < shortest:
            self.add_error("max_endpointing_ms", "The longest wait must not be shorter than the shortest.")
        project = cleaned.get("project")
        if "slug" in self.fields and not cleaned.get("slug") and "slug" not in self.errors and project:
            cleaned["slug"] = free_slug(project_id=project.pk, name=cleaned.get("name", ""))
        self._check_conflict(cleaned)
        return cleaned

    def _check_conflict(self, cleaned: dict[str, Any]) -> None:
        """Refuse to undo unseen what someone else saved meanwhile."""
        seen = cleaned.get("seen_revision")
        if self.instance._state.adding or seen is None:
            return
        self.conflict = edited_since(agent=self.instance, number=max(seen, cleaned.get("overwrite") or 0))
        if self.conflict:
            who = self.conflict.created_by or "Someone"
            self.add_error(
                None,
                f"{who} saved this agent as r{self.conflict.number} {ago(self.conflict.created_at)}, while it was open "
                "here. Nothing of yours is saved yet. Load the page again to see it, or tick “Save mine anyway”.",
            )


@admin.register(Agent)
class AgentAdmin(ScopedAdmin):
    form = AgentForm
    list_display = ("face", "project", "language_name", "voice", "last_talk", "talks_in_a_week", "doors")
    list_display_links = None
    list_filter = (("project", ScopedRelatedFilter), "language")
    list_select_related = ("project", "voice", "avatar")
    search_fields = ("name", "slug", "description", "greeting", "instructions", "knowledge")
    search_help_text = "Search in names and in what they say and know."
    empty_text = (
        "An agent is who visitors talk to: a name, a voice, a face and what it knows. A name is enough to begin."
    )
    actions = ("duplicate",)
    inlines = (StepInline, AnswerInline)
    change_form_template = "admin/avatars/agent/change_form.html"
    fieldsets = (
        (
            "who",
            {
                "classes": ("tab",),
                "fields": (
                    "project",
                    "name",
                    "description",
                    "language",
                    "voice",
                    "avatar",
                    "greeting",
                    "instructions",
                    "slug",
                ),
            },
        ),
        (
            "turns",
            {
                "classes": ("tab",),
                "fields": ("min_endpointing_ms", "max_endpointing_ms", "end_of_turn_model", "allow_interruptions"),
            },
        ),
        ("knowledge", {"classes": ("tab",), "fields": ("knowledge",)}),
        ("limits", {"classes": ("tab",), "fields": ("max_minutes", "silence_seconds")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if self.has_change_permission(request, obj):
            return fieldsets
        shown = {"language": "language_name"}  # without a form nothing turns the code into a name
        return [
            (title, part | {"fields": [shown.get(str(name), name) for name in part["fields"]]})
            for title, part in fieldsets
        ]

    @property
    def media(self) -> forms.Media:
        copying = forms.Media(js=["admin/copy.js"])
        return super().media + page_media("agents", "agents-rungs", "agents-face", "avatars-clips") + copying

    # -- Deleting -----------------------------------------------------------------------------------------------------
    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[Any], list[Any]]:
        """Conversations go with their agent, so an agent that has some is deleted by whoever may erase them. They are
        counted and not listed: they may be too many."""
        agents = list(objs)
        held = dict(LiveSession.objects.filter(agent__in=agents).order_by().values_list("agent").annotate(Count("pk")))
        if not held:
            return super().get_deleted_objects(agents, request)
        refused = {str(self.opts.verbose_name) for agent in agents if not self.has_delete_permission(request, agent)}
        kept = sum(held.get(agent.pk, 0) for agent in agents if not may_do(request, Action.MANAGE, agent.project_id))
        if kept:
            refused.add(f"{conversation_count(kept)}: only an owner of the project may erase them")
        text = f"{conversation_count(sum(held.values()))} will be erased"
        return [*map(str, agents), text], {"agents": len(agents), "conversations": sum(held.values())}, refused, []

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        if request.method == "POST":
            # Before the page's transaction: ending calls the media server, and nothing may wait for that with locks.
            agent = self.get_object(request, unquote(object_id))
            if not self.get_deleted_objects([agent], request)[2]:
                end_sessions_of_agents(agent_ids=[agent.pk])
        return super().delete_view(request, object_id, extra_context)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        end_sessions_of_agents(agent_ids=list(queryset.values_list("pk", flat=True)))
        super().delete_queryset(request, queryset)

    # -- The list -----------------------------------------------------------------------------------------------------
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        agents: QuerySet[Any] = super().get_queryset(request)
        if request.resolver_match is None or request.resolver_match.url_name != "avatars_agent_changelist":
            return agents
        of_agent = LiveSession.objects.filter(agent=OuterRef("pk")).order_by("-created_at")
        held = LiveSession.objects.held_by_visitors().filter(agent=OuterRef("pk"))
        recent = held.filter(created_at__gte=recent_since()).order_by().values("agent")
        usable = RoomLink.objects.filter(_open_links()).order_by("-created_at")
        listed: QuerySet[Any] = agents.annotate(
            last_talk_at=Subquery(of_agent.values("created_at")[:1]),
            recent_talks=Coalesce(Subquery(recent.annotate(number=Count("pk")).values("number")), 0),
        ).prefetch_related(Prefetch("room_links", queryset=usable, to_attr="open_links"))
        return listed

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        for agent in changes.result_list:
            agent.may_edit = self.has_change_permission(request, agent)  # for the column of doors
        return changes

    @admin.display(description="agent", ordering="name")
    def face(self, agent: Agent) -> SafeString:
        return format_html(
            '<a class="m-agent" href="{}">{}<span><b>{}</b><small>{}</small></span></a>',
            reverse("admin:avatars_agent_change", args=[agent.pk]),
            picture(agent.avatar, name=agent.name),
            agent.name,
            agent.description,
        )

    @admin.display(description="language", ordering="language")
    def language_name(self, agent: Agent) -> str:
        return dict(language_choices(agent.language))[agent.language]

    @admin.display(description="last conversation", ordering="last_talk_at")
    def last_talk(self, agent: Any) -> str:
        return ago(agent.last_talk_at) if agent.last_talk_at else "never"

    @admin.display(description="in 7 days", ordering="recent_talks")
    def talks_in_a_week(self, agent: Any) -> SafeString | str:
        if not agent.recent_talks:
            return "0"
        since = f"{recent_since():%Y-%m-%d}"
        url = conversations_url(agent__id__exact=agent.pk, held="visitors", created_at_from=since)
        return format_html('<a class="m-link" href="{}">{}</a>', url, agent.recent_talks)

    @admin.display(description="talk")
    def doors(self, agent: Any) -> SafeString:
        talk = reverse("admin:avatars_agent_change", args=[agent.pk])
        trial = format_html('<a class="m-link" href="{}" data-talk-link>Talk</a> ', talk) if agent.may_edit else ""
        link = (
            format_html('<a class="m-link" href="{}">Open link</a>', agent.open_links[0].get_absolute_url())
            if agent.open_links
            else format_html('<span class="m-quiet">{}</span>', "no open link")
        )
        return format_html('<span class="m-doors">{}{}</span>', trial, link)

    @admin.action(description="Duplicate selected agents", permissions=["change"])
    def duplicate(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        made = [self._duplicate(request, agent) for agent in self.may_change(request, queryset)]
        if made:
            messages.success(request, f"Made: {', '.join(agent.name for agent in made)}.")

    def _duplicate(self, request: HttpRequest, agent: Agent) -> Agent:
        assert request.user.is_authenticated
        copy = duplicate_agent(agent=agent, user=request.user)
        record_action(request_user=request.user, obj=copy, text=f"Made as a copy of {agent.name}.")
        return copy

    # -- The editor ---------------------------------------------------------------------------------------------------
    def get_urls(self) -> list[Any]:
        def door(view: Any) -> Any:
            return self.admin_site.admin_view(view)

        return [
            path("ask/", door(self.ask), name="avatars_agent_ask"),
            path("<path:object_id>/newest/", door(self.newest), name="avatars_agent_newest"),
            path("<path:object_id>/duplicate/", door(self.duplicate_one), name="avatars_agent_duplicate"),
            *super().get_urls(),
        ]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        agent: Agent = form.instance
        before = kinds_with_rows(agent)
        super().save_related(request, form, formsets, change)
        kept = keep_default_rungs(agent=agent, kinds=kinds_with_rows(agent) - before)
        if kept:
            names = ", ".join(provider_label(step.provider) for step in kept)
            messages.info(request, f"What served until now stays below as the fallback: {names}.")
        save_revisions(request, [agent])

    def response_add(self, request: HttpRequest, obj: Agent, post_url_continue: str | None = None) -> HttpResponse:
        if "_addanother" in request.POST or "_popup" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        messages.success(request, f"{obj.name} was added successfully. Talk to it, or go on describing it.")
        return HttpResponseRedirect(f"{reverse('admin:avatars_agent_change', args=[obj.pk])}?made=1")

    def response_change(self, request: HttpRequest, obj: Agent) -> HttpResponse:
        if "_talk" not in request.POST:
            return super().response_change(request, obj)
        return HttpResponseRedirect(reverse("admin:avatars_agent_change", args=[obj.pk]))  # its script opens the trial

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> Any:
        steps, answers = context["inline_admin_formsets"]
        form = context["adminform"].form
        may_edit = self.has_change_permission(request, obj) if obj else True
        context |= {
            "tabs": tabs(context["adminform"], steps.formset, answers.formset, saved=obj is not None),
            "may_edit": may_edit,
            "presets": [asdict(preset) | {"summary": preset.summary} for preset in PRESETS],
            "preset_field": form["turn_preset"] if may_edit else None,
            "preset_now": preset_of({name: getattr(obj, name) for name in FIELDS}) if obj else "",
            "preset_values": {preset.key: dict(preset.values) for preset in PRESETS},
            "rows_error": [ROWS_CHANGED] if any(each.formset.changed_elsewhere for each in (steps, answers)) else [],
            "seen_revision": form["seen_revision"] if obj and "seen_revision" in form.fields else None,
            "conflict": form.conflict,
            "steps": steps,
            "answers": answers,
            "answer_rows": sorted(answers.formset.forms, key=place) if may_edit else [],
            "chains": chains(steps.formset, obj, may_edit=may_edit, troubles=recent_troubles(agent=obj) if obj else {}),
            "option_templates": option_templates(*Kind) if may_edit else [],
            "provider_facts": provider_facts(),
            "ask_url": reverse("admin:avatars_agent_ask"),
            "agent_faces": faces(form.fields.get("avatar")),
            **(self._saved_context(request, obj) if obj else {}),
        }
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _saved_context(self, request: HttpRequest, agent: Agent) -> dict[str, Any]:
        revisions = list(agent.revisions.select_related("created_by", "agent")[: SHOWN_REVISIONS + 1])
        before: list[AgentRevision | None] = [*revisions[1:], None]
        newest = revisions[0] if revisions else None
        links = agent.room_links.filter(_open_links())[:SHOWN_LINKS]
        return {
            "revisions": [
                {
                    "revision": revision,
                    "ago": ago(revision.created_at),
                    "changes": changes_of(revision, earlier),
                    "is_first": earlier is None,
                    "is_newest": revision is newest,
                }
                for revision, earlier in list(zip(revisions, before, strict=True))[:SHOWN_REVISIONS]
            ],
            "newest": newest,
            "newest_ago": ago(newest.created_at) if newest else "",
            "revisions_url": f"{reverse('admin:avatars_agentrevision_changelist')}?agent__id__exact={agent.pk}",
            "may_roll_back": may_roll_back(request, agent),
            "links": links,
            "links_url": f"{reverse('admin:live_sessions_roomlink_changelist')}?agent__id__exact={agent.pk}",
            "add_link_url": f"{reverse('admin:live_sessions_roomlink_add')}?agent={agent.pk}",
            "newest_url": reverse("admin:avatars_agent_newest", args=[agent.pk]),
            "trial_url": reverse("trial-link", args=[agent.pk]),
        }

    @method_decorator(require_GET)
    def newest(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Which revision answers now; someone else may have saved since the page was opened."""
        agent = self.get_object(request, object_id)
        if not self.has_view_permission(request, agent):
            raise PermissionDenied
        newest = agent.revisions.first()
        return JsonResponse({"number": newest.number, "saved": ago(newest.created_at)} if newest else {})

    @method_decorator(require_POST)
    def duplicate_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        agent = self.get_object(request, object_id)
        if not self.has_change_permission(request, agent):
            raise PermissionDenied
        copy = self._duplicate(request, agent)
        messages.success(request, f"This is {copy.name}. Give it a name of its own.")
        return HttpResponseRedirect(reverse("admin:avatars_agent_change", args=[copy.pk]))

    @method_decorator(require_POST)
    @method_decorator(answers_json)
    def ask(self, request: HttpRequest) -> HttpResponse:
        """What the scripted model would answer with the posted texts; nothing of a project is read."""
        if not may_do(request, Action.VIEW):
            raise PermissionDenied
        question = request.POST.get("question", "").strip()[:300]
        if not question:
            raise BadInput("Write a question.", attr="question")
        pairs = zip(request.POST.getlist("asked"), request.POST.getlist("answered"), strict=False)
        persona = Persona(
            name=request.POST.get("name", "")[:100],
            language=request.POST.get("language", "")[:12] or "en",
            greeting=request.POST.get("greeting", ""),
            knowledge=request.POST.get("knowledge", "")[:50_000],
            answers=tuple((asked, said) for asked, said in pairs if asked.strip() and said.strip())[:MOST_ANSWERS],
        )
        return JsonResponse(asdict(rehearse(persona=persona, question=question, now=timezone.localtime())))


def conversation_count(number: int) -> str:
    return counted(number, "conversation")


def recent_since() -> datetime:
    """The first of the last seven days, today among them, as the admin's first page counts."""
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=RECENT_DAYS - 1)


def kinds_with_rows(agent: Agent) -> set[Kind]:
    kinds = PipelineStep.objects.filter(agent=agent).order_by().values_list("kind", flat=True)
    return {Kind(kind) for kind in kinds}


def _open_links() -> Q:
    """Those to hand out: not the doors to one conversation or of one editor."""
    handed_out = Q(revoked_at=None, one_session=False, trial_by=None)
    return handed_out & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
