"""A visitor's browser speaks with this site and its media server, and with nobody else."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Request, WebSocket, expect

from tests.e2e.conftest import Join
from tests.e2e.page_harness import RoomServer, talk

pytestmark = pytest.mark.slow

# What reaches the browser's own peer connections, by any way in.
CONFIGURED = """
  window.configured = [];
  const Native = RTCPeerConnection;
  const note = (config) => window.configured.push(...(config?.iceServers ?? []).flatMap((server) => server.urls));
  window.RTCPeerConnection = class extends Native {
    constructor(config) { super(config); note(config); }
    setConfiguration(config) { note(config); super.setConfiguration(config); }
  };
  window.made = () => window.configured;
"""


def conversation(page: Page, room: RoomServer, join: Join) -> list[str]:
    """Every host that the page asked in a whole conversation."""
    hosts: list[str] = []

    def note(asked: Request | WebSocket) -> None:
        hosts.append(urlsplit(asked.url).netloc)

    page.on("request", note)
    page.on("websocket", note)
    page.add_init_script(CONFIGURED)
    talk(page, room)
    join()
    room.become("listening")
    expect(page.locator("#speaker audio")).to_have_count(1)
    page.click("#leave")
    expect(page.locator("#summary")).to_be_visible()
    return hosts


def test_it_asks_nobody_else(page: Page, room: RoomServer, join: Join) -> None:
    hosts = conversation(page, room, join)
    assert set(hosts) - {""} == {f"127.0.0.1:{room.port}", urlsplit(room.media_url).netloc}
    assert page.evaluate("configured") == [], "this media server knows no STUN server, so it names public ones"


def test_it_asks_the_stun_servers_of_the_operator(page: Page, room: RoomServer, join: Join) -> None:
    room.stun_servers = ["127.0.0.1:9", "[::1]:9"]
    conversation(page, room, join)
    assert set(page.evaluate("configured")) == {"stun:127.0.0.1:9", "stun:[::1]:9"}
