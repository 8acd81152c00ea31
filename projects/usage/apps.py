from django.apps import AppConfig


class UsageConfig(AppConfig):
    name = "projects.usage"
    verbose_name = "Usage"
