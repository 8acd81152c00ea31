"""What the speech server does, for the admin's first page and for Prometheus.

It is asked when somebody looks, and has half a second to answer: a page never waits longer for it.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from pydantic import BaseModel, ConfigDict, ValidationError

from molts.admin.figures import Card
from projects.providers.faster_whisper.state import SpeechServerSilent, read_state

ANSWER_SECONDS = 0.5


class LadderFigures(BaseModel):
    """Which size of the model is in use, and why."""

    below: int = 0
    moves: int = 0
    load: float | None = None
    reason: str = ""
    error: str = ""


class SpeechServerFigures(BaseModel):
    """What is read of the server's state; it may be of another version, and say more or less."""

    model_config = ConfigDict(protected_namespaces=())

    model: str
    wanted: str = ""
    ready: bool = False
    device: str = ""
    compute_type: str = ""
    uptime_seconds: float = 0.0
    streams: int = 0
    waiting: int = 0
    utterances: int = 0
    speech_seconds: float = 0.0
    silence_seconds: float = 0.0
    silence_share: float | None = None
    refused: int = 0
    agreed_words: int = 0
    revised_words: int = 0
    busy_seconds: float = 0.0
    final_lag_p50_ms: float | None = None
    final_lag_p95_ms: float | None = None
    ladder: LadderFigures | None = None


def read_figures() -> SpeechServerFigures | None:
    """The speech server's state; None where there is none. Raises SpeechServerSilent."""
    if not settings.MOLTS_SPEECH_URL:
        return None
    state = read_state(settings.MOLTS_SPEECH_URL, secret=settings.MOLTS_SPEECH_SECRET, timeout=ANSWER_SECONDS)
    if "model" not in state:
        raise SpeechServerSilent("it refuses our secret")
    try:
        return SpeechServerFigures.model_validate(state)
    except ValidationError as error:
        raise SpeechServerSilent(f"it says what cannot be read: {error.errors()[0]['loc']}") from error


# -- The admin -------------------------------------------------------------------------------------------------------
def speech_context() -> dict[str, Any]:
    """For the start page of whoever runs the installation: cards, or one line that says why there are none."""
    try:
        state = read_figures()
    except SpeechServerSilent as error:
        return {
            "speech_problem": f"The speech server does not answer ({error}). Conversations load a model for themselves "
            "meanwhile, which takes memory and shows no words while somebody speaks. `manage.py doctor` says more."
        }
    if state is None:
        return {}
    if not state.ready:
        return {"speech_problem": f"The speech server has no model yet: it waits for {state.wanted}."}
    return {"speech_cards": speech_cards(state)}


def speech_cards(state: SpeechServerFigures) -> list[Card]:
    corrected = state.revised_words / state.agreed_words if state.agreed_words else None
    return [
        _model_card(state, state.ladder or LadderFigures()),
        Card("Conversations", f"{state.streams:,}", f"connected; {state.waiting:,} decodes wait"),
        _share_card("Kept from Whisper", state.silence_share, f"silence; it has run for {_span(state.uptime_seconds)}"),
        Card(
            "Final words",
            _or_dash(state.final_lag_p95_ms, "{:,.0f} ms"),
            f"95 % come within; half within {_or_dash(state.final_lag_p50_ms, '{:,.0f} ms')}",
        ),
        Card("Busy", f"{state.refused:,}", "requests refused", bad=state.refused > 0),
        _share_card("Corrected words", corrected, f"{state.revised_words:,} of {state.agreed_words:,} agreed words"),
    ]


def _model_card(state: SpeechServerFigures, ladder: LadderFigures) -> Card:
    notes = [
        f"instead of {state.wanted}: {ladder.reason}" if ladder.reason else "",
        f"{ladder.moves} {'change' if ladder.moves == 1 else 'changes'} of size" if ladder.moves else "",
        f"the last one failed: {ladder.error}" if ladder.error else "",
        f"{state.device}, {state.compute_type}",
    ]
    return Card("Model", state.model, "; ".join(note for note in notes if note), bad=bool(ladder.reason))


def _share_card(title: str, share: float | None, note: str) -> Card:
    return Card(title, _or_dash(None if share is None else 100 * share, "{:.1f} %"), note)


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _span(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes / 60:.0f} h" if minutes >= 120 else f"{minutes:.0f} min"
