"""What the speech server does, for the admin's first page and for Prometheus.

It is asked when somebody looks, and has half a second to answer: a page never waits longer for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from pydantic import BaseModel, ConfigDict, ValidationError

from molts.admin.figures import Card
from projects.providers.speech_state import SpeechServerSilent, read_state

ANSWER_SECONDS = 0.5


class Ladder(BaseModel):
    """Which size of the model is in use, and why."""

    below: int = 0
    moves: int = 0
    load: float | None = None
    reason: str = ""
    error: str = ""


class State(BaseModel):
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
    ladder: Ladder | None = None


# (name without its prefix, type, help, field)
_PLAIN = (
    ("streams", "gauge", "Conversations that are connected.", "streams"),
    ("waiting", "gauge", "Decodes that wait for the model.", "waiting"),
    ("utterances_total", "counter", "Utterances that got their final words.", "utterances"),
    ("heard_seconds_total", "counter", "Sound of utterances, which Whisper hears.", "speech_seconds"),
    ("silence_seconds_total", "counter", "Silence between them, kept from Whisper.", "silence_seconds"),
    ("refused_total", "counter", "Requests refused because there was too much to do.", "refused"),
    ("agreed_words_total", "counter", "Words shown as agreed while somebody spoke.", "agreed_words"),
    ("revised_words_total", "counter", "Agreed words that the final words corrected.", "revised_words"),
    ("work_seconds_total", "counter", "Time that the model worked.", "busy_seconds"),
)
_LADDER = (
    ("sizes_below_chosen", "gauge", "Sizes that the model in use is below the chosen one.", "below"),
    ("model_changes_total", "counter", "Changes of the model's size.", "moves"),
    ("load", "gauge", "Load of the machine that the size follows, 0 to 1.", "load"),
)


@dataclass(frozen=True)
class Series:
    """One metric: samples are pairs of labels and value."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[str, float], ...]

    def lines(self) -> list[str]:
        """In Prometheus' text format."""
        head = [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} {self.kind}"]
        return head + [f"{self.name}{labels} {value}" for labels, value in self.samples]


def read_figures() -> State | None:
    """The speech server's state; None where there is none. Raises SpeechServerSilent."""
    if not settings.MOLTS_SPEECH_URL:
        return None
    state = read_state(settings.MOLTS_SPEECH_URL, secret=settings.MOLTS_SPEECH_SECRET, timeout=ANSWER_SECONDS)
    if "model" not in state:
        raise SpeechServerSilent("it refuses our secret")
    try:
        return State.model_validate(state)
    except ValidationError as error:
        raise SpeechServerSilent(f"it says what cannot be read: {error.errors()[0]['loc']}") from error


# -- Prometheus ------------------------------------------------------------------------------------------------------
def speech_series() -> list[Series]:
    """A server that is away is 0 in `molts_speech_up`, and nothing is said of its figures."""
    try:
        state = read_figures()
    except SpeechServerSilent:
        return [_series("up", "gauge", "The speech server answers.", 0)]
    if state is None:
        return []
    known = [(row, getattr(state, row[3])) for row in _PLAIN]
    known += [(row, getattr(state.ladder, row[3])) for row in _LADDER if state.ladder]
    return [
        _series("up", "gauge", "The speech server answers.", 1),
        _series("ready", "gauge", "It has a model.", int(state.ready)),
        Series(
            "molts_speech_model",
            "gauge",
            "The model in use, and the chosen one.",
            ((_labels(model=state.model, chosen=state.wanted, device=state.device), 1),),
        ),
        *(_series(name, kind, text, value) for (name, kind, text, _), value in known if value is not None),
        *_lags(state),
    ]


def _lags(state: State) -> list[Series]:
    lags = [("0.5", state.final_lag_p50_ms), ("0.95", state.final_lag_p95_ms)]
    samples = tuple((_labels(quantile=share), lag / 1000) for share, lag in lags if lag is not None)
    text = "From the end of speech to the final words, of the last 1000 utterances."
    return [Series("molts_speech_final_lag_seconds", "gauge", text, samples)] if samples else []


def _series(name: str, kind: str, text: str, value: float) -> Series:
    return Series(f"molts_speech_{name}", kind, text, (("", value),))


def _labels(**labels: str) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escaped(str(value))}"' for name, value in labels.items()) + "}"


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


def speech_cards(state: State) -> list[Card]:
    corrected = state.revised_words / state.agreed_words if state.agreed_words else None
    return [
        _model_card(state, state.ladder or Ladder()),
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


def _model_card(state: State, ladder: Ladder) -> Card:
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
