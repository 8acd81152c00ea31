from django.db import models


class PipelineKind(models.TextChoices):
    """Mirrors `projects.providers.base.Kind`."""

    STT = "stt", "Speech recognition"
    LLM = "llm", "Language model"
    TTS = "tts", "Voice"
