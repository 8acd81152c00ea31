"""The frame around every admin page: colours, sidebar, search. Settings import this before any app is loaded.

What needs the database or the site's addresses is asked by functions that unfold calls when it shows a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.templatetags.static import static
from django.urls import reverse_lazy

if TYPE_CHECKING:
    from django.http import HttpRequest

HERE = "molts.admin.frame"
DOCS_URL = "/docs/"
CHECK_URL = "/check"


def palette(request: HttpRequest) -> str:
    """The colours of all pages, as the admin's own switch for the dark has them."""
    return static("dist/palette.css")


def styles(request: HttpRequest) -> str:
    return static("src/admin/frame.css")


def scripts(request: HttpRequest) -> str:
    return static("src/admin/frame.js")


def icon(request: HttpRequest) -> str:
    return static("src/room/icon.svg")


def environment(request: HttpRequest) -> list[str] | None:
    """A label that tells copies apart: a debugging one above all, else the name of one that was given a name."""
    from django.conf import settings

    if settings.DEBUG:
        return ["Debug", "danger"]
    return None if settings.MOLTS_INSTANCE == "molts" else [settings.MOLTS_INSTANCE, "info"]


def is_member(request: HttpRequest) -> bool:
    """Whether there is anything to see for whoever is signed in."""
    from projects.choices import Action
    from projects.scoped_admin import may_do

    return may_do(request, Action.VIEW)


def is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)


def search_pages(request: HttpRequest, term: str) -> list[Any]:
    """Pages of the sidebar whose title holds `term`."""
    from django.contrib import admin
    from unfold.dataclasses import SearchResult

    groups: Any = admin.site.get_sidebar_list(request)  # type: ignore[attr-defined]  # unfold's site
    items = [(item, group["title"] or "Page") for group in groups for item in group["items"]]
    return [
        SearchResult(item["title"], group, str(item["link"]), item["icon"])
        for item, group in items
        if item["has_permission"] and term in item["title"].lower()
    ]


def _page(title: str, icon: str, url_name: str, *, permission: str = "is_member") -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(url_name),
        "permission": f"{HERE}.{permission}",
    }


SIDEBAR = [
    {"title": None, "items": [{"title": "Start", "icon": "home", "link": reverse_lazy("admin:index")}]},
    {
        "title": "Build",
        "items": [
            _page("Agents", "smart_toy", "admin:avatars_agent_changelist"),
            _page("Voices", "graphic_eq", "admin:avatars_voice_changelist"),
            _page("Avatars", "face", "admin:avatars_avatar_changelist"),
            _page("Provider keys", "key", "admin:projects_providerkey_changelist"),
            _page("Videos", "movie", "admin:videos_videojob_changelist"),
        ],
    },
    {
        "title": "Talk",
        "items": [
            _page("Links", "link", "admin:live_sessions_roomlink_changelist"),
            _page("Conversations", "forum", "admin:live_sessions_livesession_changelist"),
        ],
    },
    {
        "title": "Settings",
        "items": [
            _page("Projects and members", "groups", "admin:projects_project_changelist"),
            _page("API keys", "terminal", "admin:projects_apikey_changelist"),
            _page("Webhooks", "webhook", "admin:webhooks_webhookendpoint_changelist"),
            _page("Users", "person", "admin:auth_user_changelist", permission="is_superuser"),
            _page("Audit trail", "history", "admin:projects_auditentry_changelist"),
        ],
    },
    {
        "title": "Help",
        "items": [
            {"title": "Documentation", "icon": "menu_book", "link": DOCS_URL},
            {"title": "Check this browser", "icon": "network_check", "link": CHECK_URL},
            {"title": "REST API", "icon": "api", "link": reverse_lazy("api-docs")},
        ],
    },
]

# The room page's paper, ink and green, as the steps that unfold's components ask for.
PAPER = {
    "50": "#f7f3ec",
    "100": "#f1ece3",
    "200": "#e5ddd0",
    "300": "#d0c6b7",
    "400": "#a89d90",
    "500": "#6a6259",
    "600": "#544d45",
    "700": "#433d37",
    "800": "#332f2a",
    "900": "#1d1b18",
    "950": "#141311",
}
GREEN = {
    "50": "#f0f7f4",
    "100": "#e3efe9",
    "200": "#c4dfd4",
    "300": "#9fcbb9",
    "400": "#8ad7bf",
    "500": "#6cc7ac",
    "600": "#1f6b58",
    "700": "#185747",
    "800": "#16473b",
    "900": "#16392f",
    "950": "#0c211b",
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "molts",
    "SITE_HEADER": "molts",
    "SITE_SUBHEADER": "Agents and conversations",
    "SITE_URL": "/",
    "SITE_ICON": f"{HERE}.icon",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": f"{HERE}.icon"}],
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "ENVIRONMENT": f"{HERE}.environment",
    "DASHBOARD_CALLBACK": "molts.admin.start_page.start_page",
    "STYLES": [f"{HERE}.palette", f"{HERE}.styles"],
    "SCRIPTS": [f"{HERE}.scripts"],
    "BORDER_RADIUS": "10px",
    "COLORS": {"base": PAPER, "primary": GREEN},
    "SIDEBAR": {"show_search": True, "command_search": True, "navigation": SIDEBAR},
    "COMMAND": {
        "search_callback": f"{HERE}.search_pages",
        "search_models": [
            "avatars.agent",
            "avatars.voice",
            "avatars.avatar",
            "live_sessions.roomlink",
            "projects.providerkey",
            "projects.project",
            "projects.apikey",
            "webhooks.webhookendpoint",
            "auth.user",
            "live_sessions.livesession",
        ],
    },
}
