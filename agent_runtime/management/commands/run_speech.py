"""`manage.py run_speech`: hear for every conversation on this machine, and for whoever else asks."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from molts.errors import MoltsError

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Run the speech server: one process that holds the recogniser's model for all conversations."
    requires_system_checks: tuple[str, ...] = ()  # they would import the whole web side

    def handle(self, *args: Any, **options: Any) -> None:
        from agent_runtime.speech.engine import Engine
        from agent_runtime.speech.http_api import UploadLimits
        from agent_runtime.speech.ladder import LadderSettings
        from agent_runtime.speech.places import ListeningPlaces
        from agent_runtime.speech.scheduler import DeviceFailedError
        from agent_runtime.speech.server import SpeechServer
        from agent_runtime.speech.stream import DecodingPace
        from projects.providers.faster_whisper.options import WhisperOptions, model_key

        logging.getLogger("faster_whisper").setLevel(logging.WARNING)
        name, device, compute_type, _ = model_key(WhisperOptions())
        try:
            server = SpeechServer(
                engine=Engine(device=device, compute_type=compute_type, threads=settings.MOLTS_SPEECH_THREADS),
                model=name,
                pace=DecodingPace(
                    seconds=settings.MOLTS_SPEECH_PARTIAL_MS / 1000,
                    partial_floor=settings.MOLTS_SPEECH_PARTIAL_WINDOW,
                    final_floor=settings.MOLTS_SPEECH_FINAL_WINDOW,
                ),
                secret=settings.MOLTS_SPEECH_SECRET,
                ladder_settings=LadderSettings.from_settings(),
                limits=UploadLimits.from_settings(),
            )
            asyncio.run(server.run(ListeningPlaces.parse(settings.MOLTS_SPEECH_LISTEN)))
        except KeyboardInterrupt:
            pass
        except DeviceFailedError as error:
            logger.critical("the speech server ends: %s", error)
            logging.shutdown()
            os._exit(1)  # the ordinary way out would wait for a thread that hangs
        except MoltsError as error:
            raise CommandError(error.detail) from error
        except OSError as error:
            raise CommandError(f"The speech server cannot start: {error.strerror or error}") from error
