import logging

from django.apps import AppConfig
from django.conf import settings

from molts.redact import guard_logs, remember_own_secrets
from molts.refusals import PlainAccess


class MoltsConfig(AppConfig):
    name = "molts"
    verbose_name = "molts"

    def ready(self) -> None:
        """Every process of molts passes here, after its logging was set up."""
        for name in filter(str.isupper, dir(settings)):
            remember_own_secrets(name, getattr(settings, name))
        guard_logs()
        logging.getLogger("uvicorn.access").addFilter(PlainAccess())
