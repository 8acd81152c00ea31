from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "projects.webhooks"
    verbose_name = "Webhooks"
