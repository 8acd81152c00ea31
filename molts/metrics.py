"""What `/metrics` tells, in the terms of prometheus_client, which writes the text format.

What molts counts lies where all processes reach it: in the database, in Redis, in the speech server. It is read when
somebody asks, so every web process gives the same answer, and a process that ends leaves no file of counters behind.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Count
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from avatars.videos.choices import LIVE_STATES as VIDEO_STATES
from avatars.videos.models import VideoJob
from molts import beats
from molts.admin.speech_figures import SpeechServerFigures, read_figures
from molts.beats import WorkerKind
from molts.errors import MoltsError
from projects.providers.faster_whisper.state import SpeechServerSilent
from sessions import presence
from sessions.choices import LIVE_STATES
from sessions.models import LiveSession

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

AVATAR_SUMS = {
    "joins": "Faces that joined a conversation.",
    "join_seconds": "Seconds from the call for a face to its picture, over all joins.",
    "lost": "Faces that were lost in a conversation.",
    "missed": "Calls for a face that none answered.",
    "answers": "Answers that a face spoke.",
    "playback_seconds": "Seconds that faces took to begin an answer, over all answers.",
}
# (metric without its prefix, field of the state, help)
_SPEECH = (
    ("streams", "streams", "Conversations that are connected."),
    ("waiting", "waiting", "Decodes that wait for the model."),
    ("utterances_total", "utterances", "Utterances that got their final words."),
    ("heard_seconds_total", "speech_seconds", "Sound of utterances, which Whisper hears."),
    ("silence_seconds_total", "silence_seconds", "Silence between them, kept from Whisper."),
    ("refused_total", "refused", "Requests refused because there was too much to do."),
    ("agreed_words_total", "agreed_words", "Words shown as agreed while somebody spoke."),
    ("revised_words_total", "revised_words", "Agreed words that the final words corrected."),
    ("work_seconds_total", "busy_seconds", "Time that the model worked."),
)
_LADDER = (
    ("sizes_below_chosen", "below", "Sizes that the model in use is below the chosen one."),
    ("model_changes_total", "moves", "Changes of the model's size."),
    ("load", "load", "Load of the machine that the size follows, 0 to 1."),
)


class MoltsCollector(Collector):
    """Reads the metrics of the whole installation anew each time."""

    def collect(self) -> Iterator[Metric]:
        yield session_metric()
        yield from agent_metrics()
        yield from avatar_metrics()
        yield from video_metrics()
        yield from speech_metrics()


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(MoltsCollector())


def session_metric() -> Metric:
    # All that ever were would be a scan of the table.
    live = LiveSession.objects.filter(state__in=LIVE_STATES).order_by()
    counts = dict(live.values_list("state").annotate(count=Count("pk")))
    metric = GaugeMetricFamily("molts_sessions", "Running conversations by state.", labels=["state"])
    for state in LIVE_STATES:
        metric.add_metric([state.value], counts.get(state, 0))
    return metric


def agent_metrics() -> Iterator[Metric]:
    """Without Redis the workers are unknown, which is not the same as none."""
    try:
        workers = beats.workers()
        clock = presence.clock_beats()
    except MoltsError:
        yield _metric("molts_redis_up", "Redis answers.", 0)
        return
    yield _metric("molts_redis_up", "Redis answers.", 1)
    yield _metric("molts_clock_up", "The reconciler ran lately.", clock)
    yield _metric("molts_agent_workers", "Agent workers that beat.", len(workers))
    slots, used = beats.slots_of(workers)
    yield _metric("molts_agent_slots", "Conversations that the workers can hold.", slots)
    yield _metric("molts_agent_slots_used", "Conversations that the workers hold.", used)


def avatar_metrics() -> Iterator[Metric]:
    """What avatars count and measure of themselves: the slowest and the sum, over those in conversations now."""
    try:
        workers, faces, sums = beats.workers(WorkerKind.AVATAR), presence.avatar_figures(), presence.avatar_sums()
    except MoltsError:
        return

    def worst(name: str) -> float:
        return max((face.get(name, 0.0) for face in faces), default=0.0)

    def total(name: str) -> float:
        return sum(face.get(name, 0.0) for face in faces)

    slots, used = beats.slots_of(workers)
    yield _metric("molts_avatar_workers", "Avatar workers that beat.", len(workers))
    yield _metric("molts_avatar_slots", "Faces that the workers can show.", slots)
    yield _metric("molts_avatar_slots_used", "Faces that the workers show.", used)
    yield _metric("molts_avatars", "Faces in conversations.", len(faces))
    yield _metric("molts_avatar_frame_interval_p99_ms", "Between frames, worst face.", worst("interval_p99_ms"))
    yield _metric("molts_avatar_skew_p99_ms", "Lips behind the voice when sent, worst face.", worst("skew_p99_ms"))
    yield _metric("molts_avatar_frames", "Frames sent by these faces.", total("frames"))
    yield _metric("molts_avatar_frames_dropped", "Frames that came too late.", total("dropped"))
    yield _metric("molts_avatar_audio_gaps", "Gaps in their voices.", total("gaps"))
    for name, text in AVATAR_SUMS.items():
        yield _metric(f"molts_avatar_{name}_total", text, sums.get(name, 0.0))


def video_metrics() -> Iterator[Metric]:
    live = VideoJob.objects.filter(state__in=VIDEO_STATES).order_by()
    counts = dict(live.values_list("state").annotate(count=Count("pk")))
    jobs = GaugeMetricFamily("molts_video_jobs", "Videos and previews that are not over, by state.", labels=["state"])
    for state in VIDEO_STATES:
        jobs.add_metric([state.value], counts.get(state, 0))
    yield jobs
    try:
        workers = beats.workers(WorkerKind.RENDER)
    except MoltsError:
        return
    slots, used = beats.slots_of(workers)
    yield _metric("molts_render_workers", "Workers of videos that beat.", len(workers))
    yield _metric("molts_render_slots", "Videos that the workers can make at once.", slots)
    yield _metric("molts_render_slots_used", "Videos that the workers make.", used)


def speech_metrics() -> Iterator[Metric]:
    """A server that is away is 0 in `molts_speech_up`, and nothing is said of its figures."""
    try:
        state = read_figures()
    except SpeechServerSilent:
        yield _metric("molts_speech_up", "The speech server answers.", 0)
        return
    if state is None:
        return
    yield _metric("molts_speech_up", "The speech server answers.", 1)
    yield _metric("molts_speech_ready", "It has a model.", state.ready)
    yield _speech_model(state)
    known = [(name, text, getattr(state, field)) for name, field, text in _SPEECH]
    known += [(name, text, getattr(state.ladder, field)) for name, field, text in _LADDER if state.ladder]
    for name, text, value in known:
        if value is not None:
            yield _metric(f"molts_speech_{name}", text, value)
    yield from _speech_lags(state)


def _speech_model(state: SpeechServerFigures) -> Metric:
    labels = {"model": state.model, "chosen": state.wanted, "device": state.device}
    metric = GaugeMetricFamily("molts_speech_model", "The model in use, and the chosen one.", labels=list(labels))
    metric.add_metric(list(labels.values()), 1)
    return metric


def _speech_lags(state: SpeechServerFigures) -> Iterator[Metric]:
    text = "From the end of speech to the final words, of the last 1000 utterances."
    metric = GaugeMetricFamily("molts_speech_final_lag_seconds", text, labels=["quantile"])
    for quantile, lag in (("0.5", state.final_lag_p50_ms), ("0.95", state.final_lag_p95_ms)):
        if lag is not None:
            metric.add_metric([quantile], lag / 1000)
    if metric.samples:
        yield metric


def _metric(name: str, text: str, value: float) -> Metric:
    """A metric without labels: a counter when its name ends in `_total`, else a gauge."""
    family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return family(name, text, value=value)
