from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin import apps as admin_apps
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class ProjectsConfig(AppConfig):
    name = "projects"
    verbose_name = "Settings"
    default = True


class ScopedAdminConfig(admin_apps.SimpleAdminConfig):
    """Django's admin on a site of our own; settings name it in place of `django.contrib.admin`.

    Its pages are found by `molts.urls` and by the checks. Of all processes the web one alone serves them; in the others
    they would cost a second of computing at each start, and 55 MB.
    """

    default = False
    default_site = "projects.scoped_admin.ScopedAdminSite"

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_pages, checks.Tags.admin)


def check_pages(app_configs: Any, **kwargs: Any) -> list[Any]:
    """Django's own checks of the admin, on all of its pages."""
    admin.autodiscover()
    return check_admin_app(app_configs, **kwargs)
