"""What one visitor may not do to another, what a link that is over says, and that no secret leaves its place."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_urlsafe
from textwrap import dedent
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from livekit import api
from playwright.sync_api import expect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.e2e.conftest import Enter
from tests.e2e.rooms import MEETING, Rooms
from tests.e2e.stack import Molts, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

SLICE = 8  # letters of a secret that must not be found anywhere
HEX_SLICE = 12  # ... in a world full of other hexadecimal numbers
ADMIN_PAGES = 120


# -- visitors among themselves ----------------------------------------------------------------------------------------
class Caller:
    """A visitor without a browser: cookies, CSRF token, one conversation."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.http = httpx2.Client(timeout=15, base_url="{0.scheme}://{0.netloc}".format(urlsplit(room)))
        assert self.http.get(room).status_code == 200
        started = self.post(f"{room}/start", {})
        assert started.status_code == 201
        self.session = str(started.json()["session"]["id"])
        self.entry = started.json()

    def post(self, url: str, body: dict[str, Any]) -> httpx2.Response:
        return self.http.post(url, json=body, headers=self._csrf)

    def delete(self, url: str) -> httpx2.Response:
        return self.http.delete(url, headers=self._csrf)

    @property
    def _csrf(self) -> dict[str, str]:
        return {"X-CSRFToken": self.http.cookies["csrftoken"]}

    def base(self, session: str) -> str:
        return f"{self.room}/sessions/{session}/"

    def first_message(self, session: str, *, origin: str) -> dict[str, Any]:
        """The first event of a session's WebSocket. Raises ConnectionClosed; InvalidStatus for a refused handshake."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        address = origin_of(self.room).replace("http", "ws", 1)
        url = f"{address}/ws/sessions/{session}/"
        with connect(url, origin=Origin(origin), additional_headers={"Cookie": cookies}, open_timeout=10) as websocket:
            message: dict[str, Any] = json.loads(websocket.recv(timeout=10))
            return message


def origin_of(url: str) -> str:
    return "/".join(url.split("/")[:3])


def test_a_visitors_cookie_opens_nothing_of_another_visitor(molts: Molts, rooms: Rooms) -> None:
    mine, other = Caller(rooms.quiet), Caller(rooms.quiet)
    foreign = other.base(mine.session)
    assert other.http.get(f"{foreign}transcript?format=json").status_code == 404
    assert other.post(f"{foreign}say", {"text": "hello"}).status_code == 404
    assert other.post(f"{foreign}end", {}).status_code == 404
    assert other.delete(foreign).status_code == 404
    assert other.post(f"{rooms.quiet}/start", {"resume": mine.session}).status_code == 404
    with pytest.raises(ConnectionClosed) as closed:
        other.first_message(mine.session, origin=molts.url)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401

    assert mine.first_message(mine.session, origin=molts.url)["session"]["id"] == mine.session
    assert mine.http.get(f"{mine.base(mine.session)}transcript?format=json").status_code == 200
    for caller in (mine, other):
        assert caller.post(f"{caller.base(caller.session)}end", {}).json()["state"] == "ended"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_origin_gets_no_socket(molts: Molts, rooms: Rooms, origin: str) -> None:
    caller = Caller(rooms.quiet)
    with pytest.raises(InvalidStatus) as refused:
        caller.first_message(caller.session, origin=origin)
    assert refused.value.response.status_code == 403
    caller.post(f"{caller.base(caller.session)}end", {})


@pytest.mark.soak
def test_a_link_that_is_over_says_so(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    page = enter().page
    for url, title in ((rooms.expired, "This link has expired"), (rooms.revoked, "This link is no longer in use")):
        page.goto(url)
        expect(page.locator("#blocked-title")).to_have_text(title)
        expect(page.locator("#talk")).to_be_hidden()
    taken = Caller(rooms.full)
    page.goto(rooms.full)
    expect(page.locator(".notice .title")).to_have_text("Everyone is busy")
    page.click("#talk")
    expect(page.locator(".notice .title")).to_have_text("Everyone is busy")
    link = molts.session(taken.session)["link_id"]
    assert len(molts.query("SELECT id FROM live_sessions_livesession WHERE link_id = ?", link)) == 1
    taken.post(f"{taken.base(taken.session)}end", {})


# -- secrets ----------------------------------------------------------------------------------------------------------
class Vendor:
    """A provider that refuses every key and repeats it in its answer, as some do."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                vendor.asked.add(self.path.rsplit("/", 1)[-1])
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                body = json.dumps({"error": {"message": f"Incorrect API key provided: {key}", "code": "bad_key"}})
                self.send_response(401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST  # noqa: N815 - the name is the base class's

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class RedisWatch:
    """Every command that anybody sends to Redis while it is open."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname, place.port), timeout=5)
        self._socket.sendall(f"AUTH {place.password}\r\nMONITOR\r\n".encode())
        self._socket.settimeout(None)
        self._seen = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):
            while data := self._socket.recv(65_536):
                self._seen += data

    def close(self) -> str:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()
        return self._seen.decode(errors="replace")


@dataclass(frozen=True)
class Planted:
    """An agent whose three providers hold secrets, and a program's key."""

    room: str
    project: str
    secrets: dict[str, str]


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    vendor = Vendor()
    yield vendor
    vendor.close()


def plant(molts: Molts, vendor: Vendor) -> Planted:
    keys = {kind: token_urlsafe(36) for kind in ("stt", "llm", "tts")}
    code = f"""
        from avatars.services import save_agent_revision
        from projects.services import create_api_key, save_provider_key
        project = Project.objects.get(name="Demo")
        agent = Agent.objects.create(project=project, name="Vera", slug="vera", greeting="Hello, this is Vera.")
        AgentAnswer.objects.create(agent=agent, question={MEETING[0]!r}, answer={MEETING[1]!r})
        for kind, secret in {keys!r}.items():
            key = ProviderKey(project=project, name=kind, provider="openai_compatible", base_url={vendor.url!r})
            save_provider_key(key=key, secret=secret)
            for position, (provider, chosen) in enumerate((("openai_compatible", key), (LAST[kind], None))):
                options = dict(model="large") if chosen else dict()
                PipelineStep.objects.create(
                    agent=agent, kind=kind, position=position, provider=provider, provider_key=chosen, options=options
                )
        save_agent_revision(agent=agent)
        _, plain = create_api_key(project=project, name="Program")
        link = RoomLink.objects.create(project=project, agent=agent)
        result = dict(room=link.url, project=str(project.pk), plain=plain)
    """
    last = 'LAST = {"stt": "pocketsphinx", "llm": "scripted", "tts": "espeak"}\n'
    made = molts.shell(last + dedent(code))
    named = {f"provider key {kind}": secret for kind, secret in keys.items()}
    return Planted(made["room"], made["project"], {**named, "API key": made["plain"]})


def test_no_secret_leaves_its_place(bare: Molts, secrets_given: dict[str, str], vendor: Vendor, enter: Enter) -> None:
    planted = plant(bare, vendor)
    field_keys = secrets_given["MOLTS_FIELD_KEYS"].split(",")
    secrets = {
        **{name: value for name, value in secrets_given.items() if name not in ("LIVEKIT_API_KEY", "MOLTS_FIELD_KEYS")},
        **{f"field key {number}": key for number, key in enumerate(field_keys)},
        **planted.secrets,
        "Redis password": urlsplit(bare.setting("REDIS_URL")).password or "",
        "admin password": bare.admin[1],
    }
    assert len(secrets) == 12
    watch = RedisWatch(bare.setting("REDIS_URL"))
    seen: dict[str, str] = {}

    visitor = enter((6, MEETING[0]))
    session = visitor.talk(planted.room)
    wait_for("words that were heard", lambda: [row for row in bare.rows(session) if row.role == "user"], seconds=30)
    visitor.wait_for_chip("listening", seconds=20)
    visitor.type(MEETING[0])
    visitor.wait_for_line("agent", MEETING[1], seconds=20)
    assert {"completions", "speech", "transcriptions"} <= vendor.asked
    seen |= {f"media server: {name}": text for name, text in media_server_knows(bare, session).items()}
    seen["processes' arguments"] = "\n".join(" ".join(process.cmdline()) for process in bare.processes())
    seen["the page"] = visitor.page.content()
    seen["the page's state"] = json.dumps(visitor.page.evaluate("window.molts.state()"))
    seen["WebSocket"] = json.dumps([socket.events for socket in visitor.sockets])
    visitor.leave()

    caller = Caller(planted.room)
    seen["start"] = json.dumps(caller.entry) + claims(caller.entry["participant_token"])
    seen |= api_answers(bare, planted.secrets["API key"], session)
    seen |= pages(bare)
    caller.post(f"{caller.base(caller.session)}end", {})
    seen["Redis"] = watch.close()
    assert "reconcile" in seen["Redis"], "Celery's messages are among them"
    seen |= {log.name: log.read_text(errors="replace") for log in (bare.folder / "logs").glob("*.log")}
    seen["terminal"] = re.sub(r"(?m)^admin login: .*$", "", bare.up.output)
    stored = b"".join(path.read_bytes() for path in bare.folder.glob("molts.sqlite3*"))
    seen["database"] = stored.decode("latin-1")

    assert all(text for place, text in seen.items() if not place.endswith(".log"))
    found = [(secret, place) for place, text in seen.items() for secret, value in secrets.items() if holds(text, value)]
    assert not found


def holds(text: str, secret: str) -> bool:
    """Whether any slice of `secret` is in `text`. A project key's first letters are its name and may be shown."""
    secret = secret[10:] if secret.startswith("molts_") else secret
    size = HEX_SLICE if re.fullmatch(r"[0-9a-f]+", secret) else SLICE
    return any(secret[at : at + size] in text for at in range(len(secret) - size + 1))


def claims(token: str) -> str:
    body = token.split(".")[1]
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()


def media_server_knows(molts: Molts, session: str) -> dict[str, str]:
    room = molts.session(session)["room_name"]

    async def ask(server: api.LiveKitAPI) -> dict[str, str]:
        dispatches = await server.agent_dispatch.list_dispatch(room)
        # The server keeps one without a name for every room: for agents that would come uncalled.
        assert {dispatch.metadata for dispatch in dispatches if dispatch.agent_name} == {session}
        people = await server.room.list_participants(api.ListParticipantsRequest(room=room))
        return {
            "dispatches": str(dispatches),
            "rooms": str(await server.room.list_rooms(api.ListRoomsRequest())),
            "participants": str(people),
        }

    answer: dict[str, str] = molts.ask_media_server(ask)
    return answer


def api_answers(molts: Molts, key: str, session: str) -> dict[str, str]:
    with httpx2.Client(
        base_url=f"{molts.url}/api/v1/", headers={"Authorization": f"Bearer {key}"}, timeout=15
    ) as client:
        agents = client.get("agents")
        started = client.post("sessions", json={"agent": "vera"})
        assert (agents.status_code, started.status_code) == (200, 201)
        mine = started.json()["id"]
        answers = [
            agents,
            started,
            client.get(f"agents/{agents.json()['results'][0]['id']}"),
            client.get("sessions"),
            client.get(f"sessions/{session}"),
            client.get(f"sessions/{session}/transcript"),
            client.post(f"sessions/{mine}/end"),
            client.post("sessions", json={"agent": "nobody"}),
            client.get("sessions", headers={"Authorization": f"Bearer {key[:-1]}x"}),
            client.get("nowhere"),
        ]
    return {f"API {answer.request.method} {answer.url.path}": str(answer.headers) + answer.text for answer in answers}


def pages(molts: Molts) -> dict[str, str]:
    """The public pages, and every page of the admin that a click can reach."""
    name, password = molts.admin
    with httpx2.Client(base_url=molts.url, timeout=15, follow_redirects=True) as client:
        found = {path: client.get(path).text for path in ("/", "/readyz", "/metrics", "/api/schema/", "/api/docs/")}
        client.get("/admin/login/")
        form = {"username": name, "password": password, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        entered = client.post("/admin/login/?next=/admin/", data=form, headers={"Referer": f"{molts.url}/admin/login/"})
        assert "Log out" in entered.text
        waiting, known = ["/admin/"], {"/admin/"}
        while waiting and len(found) < ADMIN_PAGES:
            path = waiting.pop(0)
            found[path] = client.get(path).text
            for link in re.findall(r'href="(/admin/[^"?#]*)"', found[path]):
                if link not in known and not re.search(r"logout|jsi18n|/r/|delete", link):
                    known.add(link)
                    waiting.append(link)
    assert any("providerkey" in path and path.endswith("/change/") for path in found)
    return {f"page {path}": text for path, text in found.items()}
