from django.apps import AppConfig


class AvatarsConfig(AppConfig):
    name = "avatars"
    verbose_name = "Agents"

    def ready(self) -> None:
        from django.conf import settings

        from avatars.engines.config import EngineConfig, configure

        configure(
            EngineConfig(
                run_dir=settings.MOLTS_DATA_DIR / "run" / "engines",
                addresses=settings.MOLTS_ENGINE_ADDRESSES,
                secret=settings.MOLTS_ENGINE_SECRET,
                wav2lip_model=settings.MOLTS_WAV2LIP_MODEL,
                wav2lip_threads=settings.MOLTS_WAV2LIP_THREADS,
            )
        )
