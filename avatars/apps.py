from django.apps import AppConfig
from django.conf import settings


class AvatarsConfig(AppConfig):
    name = "avatars"
    verbose_name = "Agents"

    def ready(self) -> None:
        # Engines know no Django: they are told where they may keep things.
        from avatars.engines.cache import keep_in
        from avatars.engines.config import EngineConfig, configure

        keep_in(settings.MOLTS_DATA_DIR / "faces")
        configure(
            EngineConfig(
                run_dir=settings.MOLTS_DATA_DIR / "run" / "engines",
                addresses=settings.MOLTS_ENGINE_ADDRESSES,
                secret=settings.MOLTS_ENGINE_SECRET,
                wav2lip_model=settings.MOLTS_WAV2LIP_MODEL,
                wav2lip_threads=settings.MOLTS_WAV2LIP_THREADS,
            )
        )
