"""How conversations went: cards, charts and tables for the admin's first page.

Counts are made by the database over the chosen time; percentiles need single turns, and are taken from the newest
conversations of that time. Everything ends at the projects of whoever looks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import Count, Exists, OuterRef, Q, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from molts.percentiles import percentile
from projects.models import Project
from projects.scoped_admin import MOST_TO_CHOOSE, chosen_project, my_projects
from sessions.choices import LIVE_STATES, PART_NAMES, TOLD, WARNINGS
from sessions.models import HELD_BY_VISITORS, LiveSession, SessionNotice, Turn
from sessions.services import failed_talks

MOST_CONVERSATIONS = 2_000
"""Of so many conversations the turns are read, for percentiles."""
MOST_AGENTS = 20


# -- The chosen time -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Range:
    """How far back to look, in buckets of an hour or a day."""

    key: str
    label: str
    buckets: int
    bucket: timedelta

    @property
    def is_hourly(self) -> bool:
        return self.bucket < timedelta(days=1)

    def starts(self, now: datetime) -> list[datetime]:
        """Where each bucket begins, oldest first; the last one is running."""
        last = now.replace(minute=0, second=0, microsecond=0)
        last = last if self.is_hourly else last.replace(hour=0)
        return [last - self.bucket * back for back in reversed(range(self.buckets))]

    def key_of(self, start: datetime) -> str:
        return f"{start:%Y-%m-%d %H}" if self.is_hourly else f"{start:%Y-%m-%d}"

    def name_of(self, start: datetime) -> str:
        return f"{start:%H:00}" if self.is_hourly else f"{start.day} {start:%b}"


RANGES = (
    Range("24h", "24 hours", 24, timedelta(hours=1)),
    Range("7d", "7 days", 7, timedelta(days=1)),
    Range("30d", "30 days", 30, timedelta(days=1)),
)
USUAL_RANGE = RANGES[1]


def chosen_range(request: HttpRequest) -> Range:
    return next((each for each in RANGES if each.key == request.GET.get("range")), USUAL_RANGE)


class BucketKey(models.Func):
    """The day or hour (UTC) of a moment, as text; the databases' own dates are many times slower on SQLite."""

    output_field = models.CharField()

    def __init__(self, expression: str, *, hourly: bool) -> None:
        super().__init__(expression)
        self.extra |= {"length": 13 if hourly else 10, "format": "YYYY-MM-DD HH24" if hourly else "YYYY-MM-DD"}

    template = "TO_CHAR(%(expressions)s, '%(format)s')"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="SUBSTR(%(expressions)s, 1, %(length)s)", **context)


class Seconds(models.Func):
    """Seconds from the second moment to the first."""

    output_field = models.FloatField()
    template = "EXTRACT(EPOCH FROM (%(expressions)s))"
    arg_joiner = " - "

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        (later, first), (earlier, second) = (compiler.compile(each) for each in self.get_source_expressions())
        return f"((JULIANDAY({later}) - JULIANDAY({earlier})) * 86400.0)", [*first, *second]


# -- What is shown ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Card:
    """One figure at the top."""

    title: str
    value: str
    note: str = ""
    url: str = ""
    bad: bool = False


@dataclass(frozen=True)
class Bar:
    """One bar of a chart in a box of 10 by 100 per bar; a part of it may be marked as failed."""

    name: str
    value: float
    shown: str
    failed: int
    x: float
    height: float
    failed_height: float

    @property
    def y(self) -> float:
        return 100 - self.height

    @property
    def failed_y(self) -> float:
        return 100 - self.failed_height


@dataclass(frozen=True)
class Chart:
    """Bars over time, with the same figures in words."""

    title: str
    unit: str
    summary: str
    top: str
    bars: Sequence[Bar]

    @property
    def width(self) -> int:
        return 10 * len(self.bars)

    @property
    def ticks(self) -> list[str]:
        """Names under the first, middle and last bar."""
        return [self.bars[at].name for at in sorted({0, len(self.bars) // 2, len(self.bars) - 1})]

    @property
    def any_failed(self) -> bool:
        return any(bar.failed for bar in self.bars)


@dataclass(frozen=True)
class LatencyFigures:
    """How long one part of an answer takes; the bars are hundredths of the slowest part."""

    name: str
    p50: int
    p95: int
    p50_width: float
    p95_width: float


@dataclass
class AgentFigures:
    """How the conversations of one agent went."""

    name: str
    url: str
    conversations: int = 0
    failed: int = 0
    seconds: float = 0.0
    totals: list[int] = field(default_factory=list)

    @property
    def minutes(self) -> str:
        return minutes(self.seconds)

    @property
    def p50(self) -> str:
        return _ms(percentile(self.totals, 50))

    @property
    def p95(self) -> str:
        return _ms(percentile(self.totals, 95))


def minutes(seconds: float) -> str:
    value = seconds / 60
    return f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _hundredths(value: float, of: float) -> float:
    return round(100 * value / of, 2)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{round(value):,} ms"


# -- Reading and counting --------------------------------------------------------------------------------------------
def in_scope(request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
    """Narrowed to the chosen project, or to one's own; ids are written out because indexes begin with them."""
    project = chosen_project(request)
    mine = my_projects(request)
    if project is not None:
        return queryset.filter(project=project.pk)
    if len(mine) < MOST_TO_CHOOSE:
        return queryset.filter(project__in=[each.pk for each in mine])
    return queryset.filter(project__in=Project.objects.for_actor(request.user).values("pk"))


def conversations(request: HttpRequest) -> models.QuerySet[LiveSession]:
    """Those that visitors held: neither the installation's talks with itself nor editors' trials."""
    return in_scope(request, LiveSession.objects.held_by_visitors().order_by())


def count_aside(request: HttpRequest, since: datetime) -> int:
    """Trials and self checks, which the list shows beside what visitors held."""
    return in_scope(request, LiveSession.objects.exclude(HELD_BY_VISITORS)).filter(created_at__gte=since).count()


def figures(request: HttpRequest, span: Range) -> dict[str, Any]:
    """Cards, charts and tables of the chosen time."""
    starts = span.starts(timezone.now())
    recent = conversations(request).filter(created_at__gte=starts[0])
    counts = list(count_conversations(recent, span))
    total = sum(row["number"] for row in counts)
    turns = recent_turns(recent)
    latencies = latency_by_part(turns)
    notices = count_notices(recent)
    warned = recent.filter(Exists(warnings().filter(session=OuterRef("pk")))).count() if notices else 0
    failed = sum(row["failed"] for row in counts)
    live = sum(row["live"] for row in counts)
    shown = list_query(span, starts[0])
    aside = count_aside(request, starts[0])
    for row in notices:
        row["url"] = list_url(shown, notices=row["code"])
    return {
        "ranges": [(each.key, each.label, each is span) for each in RANGES],
        "range": span,
        "cards": [
            conversation_card(total, live, aside, shown),
            *timing_cards(total, sum(row["seconds"] or 0 for row in counts), latencies),
            *trouble_cards(total, failed, notices, warned, shown),
        ],
        "charts": [
            conversation_chart(counts, span, starts),
            minutes_chart(counts, span, starts),
        ],
        "latencies": latencies,
        "turns_read": len(turns),
        "most_conversations": MOST_CONVERSATIONS if total > MOST_CONVERSATIONS else None,
        "notices": notices,
        "agents": figures_by_agent(counts, turns),
    }


def count_conversations(recent: models.QuerySet[LiveSession], span: Range) -> Iterable[Any]:
    """Conversations, failures and seconds by bucket and agent."""
    return (
        recent.annotate(bucket=BucketKey("created_at", hourly=span.is_hourly))
        .values("bucket", "agent_id", "agent__name")
        .annotate(
            number=Count("pk"),
            failed=Count("pk", filter=failed_talks()),
            live=Count("pk", filter=Q(state__in=LIVE_STATES)),  # none lasts longer than the shortest time to choose
            seconds=Sum(Seconds(models.F("ended_at"), models.F("active_at"))),
        )
    )


def recent_turns(recent: models.QuerySet[LiveSession]) -> list[dict[str, Any]]:
    """Turns of the newest of these conversations."""
    newest = recent.order_by("-created_at").values("pk")[:MOST_CONVERSATIONS]
    names = [f"{part}_ms" for part in PART_NAMES]
    turns = Turn.objects.filter(session__in=newest).order_by().values("session__agent_id", *names)
    return list(turns[: 50 * MOST_CONVERSATIONS])


def warnings() -> models.QuerySet[SessionNotice]:
    return SessionNotice.objects.filter(level__in=WARNINGS).order_by()


def count_notices(recent: models.QuerySet[LiveSession]) -> list[dict[str, Any]]:
    """What visitors of these conversations were warned of, most frequent first."""
    counted = warnings().filter(session__in=recent.values("pk")).values("code", "level").annotate(number=Count("pk"))
    rows = sorted(counted, key=lambda row: -row["number"])
    return [{**row, "text": TOLD.get(row["code"], row["code"])} for row in rows]


def list_query(span: Range, start: datetime) -> dict[str, str]:
    """By which the list of conversations shows the very ones that are counted here, in the names of its filters."""
    began = {"created_at__gte": start.isoformat()} if span.is_hourly else {"created_at_from": f"{start:%Y-%m-%d}"}
    return {"held": "visitors", **began}


def list_url(shown: dict[str, str], **more: str) -> str:
    return f"{reverse('admin:live_sessions_livesession_changelist')}?{urlencode({**more, **shown})}"


def conversation_card(total: int, live: int, aside: int, shown: dict[str, str]) -> Card:
    note = f"{live} now" if live else "none right now"
    if aside:
        note += f"; {aside:,} trial{'' if aside == 1 else 's'} or self check{'' if aside == 1 else 's'} not counted"
    return Card("Conversations", f"{total:,}", note, list_url(shown))


def timing_cards(total: int, seconds: float, latencies: Sequence[LatencyFigures]) -> list[Card]:
    whole = next((latency for latency in latencies if latency.name == PART_NAMES["total"]), None)
    return [
        Card("Minutes", minutes(seconds), f"{seconds / total / 60:.1f} on average" if total else ""),
        Card(
            "Time to answer",
            _ms(whole.p50) if whole else "–",
            f"{_ms(whole.p95)} at the 95th percentile" if whole else "no turn was measured",
        ),
    ]


def trouble_cards(
    total: int, failed: int, notices: Sequence[dict[str, Any]], warned: int, shown: dict[str, str]
) -> list[Card]:
    """Failures, and warnings with how many conversations had some: so many are behind the link."""
    told = sum(row["number"] for row in notices)
    where = f"told to visitors, in {warned:,} conversation{'' if warned == 1 else 's'}"
    return [
        Card(
            "Failed",
            f"{failed:,}",
            f"{100 * failed / total:.1f} % of all" if total else "",
            list_url(shown, state="failed") if failed else "",
            bad=failed > 0,
        ),
        Card(
            "Warnings",
            f"{told:,}",
            where if told else "told to visitors",
            list_url(shown, notices="any") if told else "",
            bad=told > 0,
        ),
    ]


def conversation_chart(counts: Sequence[dict[str, Any]], span: Range, starts: Sequence[datetime]) -> Chart:
    numbers: defaultdict[str, int] = defaultdict(int)
    failed: defaultdict[str, int] = defaultdict(int)
    for row in counts:
        numbers[row["bucket"]] += row["number"]
        failed[row["bucket"]] += row["failed"]
    values = [(span.name_of(start), float(numbers[span.key_of(start)]), failed[span.key_of(start)]) for start in starts]
    return _chart(f"Conversations per {'hour' if span.is_hourly else 'day'}", "conversations", values)


def minutes_chart(counts: Sequence[dict[str, Any]], span: Range, starts: Sequence[datetime]) -> Chart:
    seconds: defaultdict[str, float] = defaultdict(float)
    for row in counts:
        seconds[row["bucket"]] += row["seconds"] or 0
    values = [(span.name_of(start), round(seconds[span.key_of(start)] / 60, 1), 0) for start in starts]
    return _chart(f"Minutes per {'hour' if span.is_hourly else 'day'}", "minutes", values)


def _chart(title: str, unit: str, values: Sequence[tuple[str, float, int]]) -> Chart:
    top = max(value for _, value, _ in values) or 1.0
    best = max(values, key=lambda each: each[1])
    bars = [
        Bar(
            name, value, f"{value:,g}", failed, 10 * at + 1.5, round(100 * value / top, 2), round(100 * failed / top, 2)
        )
        for at, (name, value, failed) in enumerate(values)
    ]
    total = sum(value for _, value, _ in values)
    most = f"{title}: {_number(total)} in all, most at {best[0]} with {_number(best[1])}."
    return Chart(title, unit, most if total else f"{title}: none.", _number(top), bars)


def latency_by_part(turns: Sequence[dict[str, Any]]) -> list[LatencyFigures]:
    """Percentiles of each part that was measured."""
    found = []
    for part, name in PART_NAMES.items():
        values = [turn[f"{part}_ms"] for turn in turns if turn[f"{part}_ms"] is not None]
        p50, p95 = percentile(values, 50), percentile(values, 95)
        if p50 is not None and p95 is not None:
            found.append((name, round(p50), round(p95)))
    slowest = max((p95 for _, _, p95 in found), default=0) or 1
    return [
        LatencyFigures(name, p50, p95, round(100 * p50 / slowest, 2), round(100 * p95 / slowest, 2))
        for name, p50, p95 in found
    ]


def figures_by_agent(counts: Sequence[dict[str, Any]], turns: Sequence[dict[str, Any]]) -> list[AgentFigures]:
    """The busiest agents first."""
    agents: dict[Any, AgentFigures] = {}
    for row in counts:
        url = reverse("admin:avatars_agent_change", args=[row["agent_id"]])
        agent = agents.setdefault(row["agent_id"], AgentFigures(row["agent__name"], url))
        agent.conversations += row["number"]
        agent.failed += row["failed"]
        agent.seconds += row["seconds"] or 0
    for turn in turns:
        if turn["total_ms"] is not None and turn["session__agent_id"] in agents:
            agents[turn["session__agent_id"]].totals.append(turn["total_ms"])
    return sorted(agents.values(), key=lambda agent: -agent.conversations)[:MOST_AGENTS]
