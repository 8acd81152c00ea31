from django.apps import AppConfig


class SessionsConfig(AppConfig):
    """The label avoids Django's own `sessions` app."""

    name = "sessions"
    label = "live_sessions"
    verbose_name = "Talk"
