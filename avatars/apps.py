from django.apps import AppConfig
from django.conf import settings


class AvatarsConfig(AppConfig):
    name = "avatars"
    verbose_name = "Agents"

    def ready(self) -> None:
        from avatars.engines.cache import keep_in

        keep_in(settings.MOLTS_DATA_DIR / "faces")
