"""Every kind of admin page, on a house with something in all its lists, and what can be wrong with how one looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page

from avatars.models import Agent, AgentAnswer, AgentRevision, Avatar, PipelineStep, Voice
from avatars.services import save_agent_revision
from projects.audit import record_action
from projects.choices import MemberRole
from projects.models import ApiKey, AuditEntry, Project, ProviderKey
from projects.services import add_member, create_api_key, create_project
from projects.usage.models import UsageRecord
from sessions.models import LiveSession, Participant, RoomLink, Segment, SessionNotice, Turn
from tests.forms import admin_url

AGENT_TABS = ("who", "pipeline", "turns", "knowledge", "limits", "links", "revisions")
KNOWLEDGE = "# Opening hours\nThe kitchen is open from noon to ten.\n\n# Tables\nTables are held for fifteen minutes."
LONG_ANSWER = (
    "We serve vegetarian and vegan dishes every day. Tell the waiter about allergies, please: the kitchen keeps a list "
    "of what is in each dish and changes it on request. On Sundays there is a tasting menu of five courses."
)


@dataclass(frozen=True)
class House:
    """One project with one object of everything, as a restaurant would have it."""

    project: Project
    user: User
    key: ProviderKey
    api_key: ApiKey
    voice: Voice
    avatar: Avatar
    agent: Agent
    first_revision: AgentRevision
    link: RoomLink
    running: LiveSession
    ended: LiveSession


def furnish(owner: User) -> House:
    """Names are as long as people make them, and some rows are of the unusual kind."""
    project = create_project(name="Harbour House Restaurant and Guest Rooms", owner=owner)
    create_project(name="House by the lake", owner=owner)  # so that lists say whose a row is
    user = User.objects.create_user("konstantin.papadopoulos", email="konstantin@harbour-house.example.org")
    add_member(project=project, user=user, role=MemberRole.EDITOR)
    key = ProviderKey(
        project=project,
        name="Kitchen language model",
        provider="openai_compatible",
        base_url="https://models.harbour-house.example.org:8443/v1",
    )
    key.set_secret("sk-of-the-house-0123456789")
    key.save()
    api_key, _ = create_api_key(project=project, name="Table reservation service", created_by=owner)
    voice = Voice.objects.create(project=project, name="Evening voice, warm and calm", provider="espeak")
    avatar = Avatar.objects.create(
        project=project, name="Mira at the door", engine="puppet", options={"character": "mira"}
    )
    agent = _agent(project, owner, key=key, voice=voice, avatar=avatar)
    link = RoomLink.objects.create(
        project=project, agent=agent, name="Front page", allowed_origins=["https://www.harbour-house.example.org"]
    )
    RoomLink.objects.create(project=project, agent=agent, name="Spring fair", revoked_at=timezone.now())
    running = _talk(agent, link, name="Grace", state="active")
    ended = _talk(agent, link, name="Wolfeschlegelsteinhausenbergerdorff", state="ended")
    _talk(agent, link, name="", state="failed")
    for obj, text in ((key, "Tested the connection: language model works, voice failed."), (agent, "Changed name.")):
        record_action(request_user=owner, obj=obj, text=text)
    return House(
        *(project, user, key, api_key, voice, avatar, agent),
        *(agent.revisions.get(number=1), link, running, ended),
    )


def _agent(project: Project, owner: User, *, key: ProviderKey, voice: Voice, avatar: Avatar) -> Agent:
    agent = Agent.objects.create(
        project=project,
        name="Nora of the reception desk",
        slug="nora",
        description="Takes reservations, knows the menu and the way from the station.",
        greeting="Good evening, this is Nora.",
        avatar=avatar,
    )
    save_agent_revision(agent=agent, user=owner)
    agent.knowledge, agent.voice = KNOWLEDGE, voice
    agent.instructions = "You are Nora. You are friendly, brief, and you never promise what the house cannot keep."
    agent.save()
    AgentAnswer.objects.create(
        agent=agent, position=1, question="Do you have vegan dishes?\nWhat can vegans eat?", answer=LONG_ANSWER
    )
    for place, model in enumerate(("mistral-small-24b-instruct", "llama-3.3-70b"), start=1):
        PipelineStep.objects.create(
            agent=agent,
            kind="llm",
            position=place,
            provider="openai_compatible",
            provider_key=key,
            options={"model": model},
        )
    PipelineStep.objects.create(agent=agent, kind="stt", position=1, provider="faster_whisper")
    save_agent_revision(agent=agent, user=owner)
    return agent


def _talk(agent: Agent, link: RoomLink, *, name: str, state: str) -> LiveSession:
    begin = timezone.now() - timedelta(minutes=12)
    over = state != "active"
    talk = LiveSession.objects.create(
        project=agent.project,
        agent=agent,
        revision=agent.revisions.first(),
        link=link,
        room_name=f"molts-{state}-0123456789abcdef0123456789",
        visitor_identity="visitor-1",
        visitor_name=name,
        state=state,
        reason={"ended": "ended_by_api", "failed": "agent_lost"}.get(state, ""),
        agent_state="listening",
        spec={"name": agent.name, "limits": {}},
        last_seq=4,
        max_seconds=1800,
        created_at=begin,
        active_at=begin,
        ended_at=begin + timedelta(minutes=3) if over else None,
    )
    Participant.objects.create(session=talk, identity="visitor-1", kind="visitor", name=name, joined_at=begin)
    Participant.objects.create(session=talk, identity="agent-AJ_0123456789", kind="agent", joined_at=begin)
    said = ("Good evening, this is Nora.", "Do you have vegan dishes?", LONG_ANSWER, "Thank you!")
    for seq, text in enumerate(said, start=1):
        role = "user" if seq % 2 == 0 else "agent"
        Segment.objects.create(
            session=talk,
            seq=seq,
            segment_id=f"s{seq}",
            role=role,
            text=text,
            start_ms=seq * 9000,
            end_ms=seq * 9000 + 4000,
            interrupted=seq == 3,
        )
    for index in (1, 2):
        Turn.objects.create(
            **{"session": talk, "index": index, "endpointing_ms": 310, "stt_ms": 140, "llm_ms": 1420, "tts_ms": 180},
            total_ms=2050,
        )
    for kind, provider, unit in (
        ("llm", "openai_compatible", "tokens_out"),
        ("tts", "espeak", "characters"),
        ("stt", "faster_whisper", "audio_seconds"),
    ):
        UsageRecord.objects.create(
            project=talk.project,
            owner=talk,
            source_id=kind,
            kind=kind,
            provider=provider,
            model="mistral-small-24b-instruct" if kind == "llm" else "",
            unit=unit,
            quantity=1234,
        )
    SessionNotice.objects.create(
        session=talk,
        level="warning",
        code="llm_fallback",
        text="Kitchen language model did not answer: llama-3.3-70b took over.",
    )
    return talk


def pages(house: House) -> Iterator[tuple[str, str]]:
    """Name and address of every kind of page."""
    yield "start", reverse("admin:index")
    yield "password change", reverse("admin:password_change")
    yield "password changed", reverse("admin:password_change_done")
    for model in (Agent, Voice, Avatar, ProviderKey, RoomLink, ApiKey, Project, User):
        yield f"list of {model.__name__}", admin_url(model, "changelist")
        yield f"add {model.__name__}", admin_url(model, "add")
    for kept in (LiveSession, AuditEntry, AgentRevision):
        yield f"list of {kept.__name__}", admin_url(kept, "changelist")
    for obj in (house.voice, house.avatar, house.key, house.link, house.api_key, house.project, house.user):
        name = type(obj).__name__
        yield f"change {name}", admin_url(type(obj), "change", obj.pk)
        yield f"history of {name}", admin_url(type(obj), "history", obj.pk)
        yield f"delete {name}", admin_url(type(obj), "delete", obj.pk)
    for tab in AGENT_TABS:
        yield f"agent, {tab}", f"{admin_url(Agent, 'change', house.agent.pk)}#{tab}"
    yield "delete Agent", admin_url(Agent, "delete", house.agent.pk)
    yield "a revision", admin_url(AgentRevision, "change", house.first_revision.pk)
    yield "roll back", reverse("admin:avatars_agentrevision_roll_back", args=[house.first_revision.pk])
    yield "versions", f"{admin_url(Avatar, 'change', house.avatar.pk)}#versions"
    yield "password of a user", reverse("admin:auth_user_password_change", args=[house.user.pk])
    entry = AuditEntry.objects.order_by("created_at").first()
    assert entry is not None
    yield "an audit entry", admin_url(AuditEntry, "change", entry.pk)
    yield "a running conversation", admin_url(LiveSession, "change", house.running.pk)
    yield "an ended conversation", admin_url(LiveSession, "change", house.ended.pk)
    yield "history of a conversation", admin_url(LiveSession, "history", house.ended.pk)
    yield "erase a conversation", admin_url(LiveSession, "delete", house.ended.pk)
    yield "nothing found", f"{admin_url(Agent, 'changelist')}?q=nobody+is+called+so"


def split(pages: Iterator[tuple[str, str]], *, rest: bool) -> list[tuple[str, str]]:
    """One page of each kind, or the rest. The last word of a name of several says what a page of that kind is about."""
    first: dict[str, tuple[str, str]] = {}
    others = []
    for name, url in pages:
        of_a_kind = name.startswith(("list of ", "add ", "history of ", "delete ", "no "))
        kind = name.rpartition(" ")[0] if of_a_kind else name
        if first.setdefault(kind, (name, url)) != (name, url):
            others.append((name, url))
    return others if rest else list(first.values())


def empty_pages() -> Iterator[tuple[str, str]]:
    """The same lists before anything is in them."""
    yield "start, empty", reverse("admin:index")
    for model in (Agent, Voice, Avatar, ProviderKey, RoomLink, ApiKey, Project, LiveSession, AuditEntry, AgentRevision):
        yield f"no {model.__name__}", admin_url(model, "changelist")


def settle(page: Page) -> None:
    """Until fonts are there and what is drawn by scripts has been drawn."""
    page.evaluate("document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => done())))")


# What people see as broken. Words are broken only where they could not fit any line (addresses, ids); what scrolls
# sideways on purpose says so; what ends in an ellipsis shows all of itself on pointing.
FAULTS = """() => {
  const faults = [];
  const shown = (element) => {
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) return false;
    const box = element.getBoundingClientRect();
    const aside = element.closest(".sr-only, .m-hidden, .material-symbols-outlined, .skip");
    return box.width > 4 && box.height > 4 && !aside;
  };
  const name = (element) => `${element.tagName.toLowerCase()}.${element.className?.baseVal ?? element.className}`;
  const scrolls = (element) => element.closest("pre, .lane-scroll, .scroll, .waits .table-scroll, .m-frame");

  const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (over > 1) faults.push(`the page is ${over} pixels wider than the screen`);

  const range = document.createRange();
  const lines = (node, from, to) => {
    range.setStart(node, from);
    range.setEnd(node, to);
    return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const element = node.parentElement;
    if (!node.data.trim() || !shown(element) || element.closest("pre, code, svg, script, style, template")) continue;
    for (const run of node.data.matchAll(/[^\\s]+/g)) {
      if (/[/@]/.test(run[0])) continue; // an address
      for (const found of run[0].matchAll(/[\\p{L}\\p{N}’']+/gu)) {
        const at = run.index + found.index;
        if (found[0].length <= 18 && lines(node, at, at + found[0].length) > 1)
          faults.push(`“${found[0]}” is broken in two`);
      }
    }
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    const text = node.data.trim();
    const ending = element.closest(".truncate, .short, .m-url") ?? element;
    const dotted = getComputedStyle(ending).textOverflow === "ellipsis";
    const clipped = scrolls(element) || dotted;
    if (box.right > innerWidth + 1 && !clipped) faults.push(`“${text.slice(0, 40)}” leaves the screen`);
    const edge = element.closest("td, th, dd, li, label, p, .card, .panel")?.getBoundingClientRect().right ?? box.right;
    if (box.right > edge + 2 && !clipped) faults.push(`“${text.slice(0, 40)}” leaves its box`);
    const short = text.length <= 18 && element.closest("td, th, dd");
    if (short && lines(node, 0, node.data.length) > 2) faults.push(`“${text}” stands on three lines`);
  }

  for (const element of document.querySelectorAll("body *")) {
    if (!shown(element)) continue;
    const style = getComputedStyle(element);
    const sideways = element.scrollWidth - element.clientWidth;
    if (/(auto|scroll)/.test(style.overflowX) && sideways > 1 && !scrolls(element))
      faults.push(`${name(element)} must be scrolled ${sideways} pixels sideways`);
    const cuts = style.overflowX === "hidden" && style.textOverflow !== "ellipsis" && sideways > 2;
    const words = element.innerText?.trim() && !element.querySelector("img, svg, video");
    if (cuts && words) faults.push(`${name(element)} is cut`);
    if (element.tagName === "TEXTAREA" && element.scrollHeight > element.clientHeight + 2)
      faults.push(`${element.name} hides ${element.scrollHeight - element.clientHeight} pixels of its text`);
  }

  for (const label of document.querySelectorAll("label")) {
    const field = label.control;
    if (!field || !shown(label) || !shown(field) || label.contains(field)) continue;
    const [one, two] = [label.getBoundingClientRect(), field.getBoundingClientRect()];
    const gap = Math.max(two.left - one.right, one.left - two.right, two.top - one.bottom, one.top - two.bottom);
    if (gap < 3) faults.push(`the label “${label.innerText.trim()}” touches its field`);
  }
  return [...new Set(faults)];
}"""


def faults_of(page: Page) -> list[str]:
    found: list[str] = page.evaluate(FAULTS)
    return found
