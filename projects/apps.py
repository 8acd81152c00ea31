from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class ProjectsConfig(AppConfig):
    name = "projects"
    verbose_name = "Settings"
    default = True


class ScopedAdminConfig(admin_apps.AdminConfig):
    """Django's admin on a site of our own; settings name it in place of `django.contrib.admin`."""

    default = False
    default_site = "projects.scoped_admin.ScopedAdminSite"
