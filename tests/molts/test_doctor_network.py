"""`manage.py doctor` on the way between visitors and molts."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from pytest_django import Settings

from molts.doctor_checks import network
from molts.doctor_checks.findings import Finding, Level
from sessions.rooms import Candidate, Offer
from tests.molts.test_doctor import CLOSED, nothing_runs  # noqa: F401 - a fixture


def test_it_tells_an_open_media_port_from_a_closed_one(settings: Settings) -> None:
    settings.LIVEKIT_URL = "ws://127.0.0.1:7880"
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as udp, closing(socket.socket()) as tcp:
        udp.bind(("127.0.0.1", 0))
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        settings.MOLTS_MEDIA_UDP_PORT, settings.MOLTS_MEDIA_TCP_PORT = udp.getsockname()[1], tcp.getsockname()[1]
        assert network.check_media_ports().level == Level.OK

        settings.MOLTS_MEDIA_TCP_PORT = 1
        assert "TCP 127.0.0.1:1" in network.check_media_ports().text

    settings.MOLTS_MEDIA_TCP_PORT = 0
    closed = network.check_media_ports()
    assert closed.level == Level.FAILED
    assert f"UDP 127.0.0.1:{settings.MOLTS_MEDIA_UDP_PORT}" in closed.text


def test_media_ports_of_another_ones_server_are_not_guessed(settings: Settings) -> None:
    settings.MOLTS_MEDIA_UDP_PORT = settings.MOLTS_MEDIA_TCP_PORT = 0

    found = network.check_media_ports()

    assert found.level == Level.WARNING
    assert "check_conversation" in found.fix


# -- the way of visitors ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "level", "word"),
    [
        ("https://talk.example", Level.OK, "encrypted"),
        ("http://127.0.0.1:8000", Level.OK, "this machine only"),
        ("http://localhost:8000", Level.OK, "this machine only"),
        ("http://192.168.1.5:8000", Level.WARNING, "no microphone"),
        ("http://talk.example", Level.WARNING, "no microphone"),
    ],
)
def test_it_says_where_browsers_give_no_microphone(settings: Settings, url: str, level: Level, word: str) -> None:
    settings.MOLTS_PUBLIC_URL = url
    found = network.check_public_address()
    assert (found.level, word in found.text) == (level, True)
    assert ("MOLTS_PUBLIC_URL" in found.fix) == (level != Level.OK)


@pytest.mark.parametrize(
    ("page", "media", "level", "fix"),
    [
        ("https://talk.example", "ws://127.0.0.1:7880", Level.FAILED, "MOLTS_HOST=0.0.0.0"),
        ("https://talk.example", "ws://media.example", Level.FAILED, "wss:// address"),
        ("http://127.0.0.1:8000", f"ws://{CLOSED}", Level.FAILED, "make up"),
        ("https://talk.example", "wss://127.0.0.2:1", Level.FAILED, "MOLTS_HOST=0.0.0.0"),
    ],
)
def test_the_media_address_must_fit_the_pages(
    settings: Settings, page: str, media: str, level: Level, fix: str
) -> None:
    settings.MOLTS_PUBLIC_URL, settings.LIVEKIT_PUBLIC_URL, settings.LIVEKIT_URL = page, media, f"ws://{CLOSED}"
    found = network.check_media_address()
    assert (found.level, fix in found.fix) == (level, True)


def test_a_media_address_that_answers_is_fine(settings: Settings) -> None:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        settings.LIVEKIT_PUBLIC_URL = f"ws://127.0.0.1:{server.getsockname()[1]}"
        settings.MOLTS_PUBLIC_URL = "http://127.0.0.1:8000"
        assert network.check_media_address().level == Level.OK


@pytest.mark.parametrize(
    ("page", "told", "node_ip", "level", "word"),
    [
        ("http://127.0.0.1:8000", ["127.0.0.1"], "", Level.OK, "this machine only"),
        ("https://talk.example", ["203.0.113.7", "8.8.8.8"], "", Level.OK, "8.8.8.8"),
        ("https://talk.example", ["127.0.0.1"], "", Level.FAILED, "their own machine"),
        ("https://talk.example", ["192.168.1.5"], "", Level.WARNING, "the same network only"),
        ("http://192.168.1.5:8000", ["192.168.1.5"], "", Level.OK, "192.168.1.5"),
        ("https://talk.example", ["192.168.1.5"], "8.8.8.8", Level.WARNING, "not MOLTS_NODE_IP=8.8.8.8"),
        ("https://talk.example", [], "", Level.FAILED, "no address"),
    ],
)
def test_it_judges_the_addresses_that_visitors_are_told(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    page: str,
    told: list[str],
    node_ip: str,
    level: Level,
    word: str,
) -> None:
    settings.MOLTS_PUBLIC_URL, settings.MOLTS_NODE_IP = page, node_ip
    candidates = tuple(Candidate("udp", address, 7882) for address in told)
    monkeypatch.setattr(network, "_offer", lambda: Offer(candidates, ()))
    found = network.check_node_ip()
    assert (found.level, word in found.text) == (level, True)


@pytest.mark.parametrize(
    ("page", "relays", "level"),
    [
        ("http://127.0.0.1:8000", (), Level.OK),
        ("https://talk.example", (), Level.WARNING),
        ("https://talk.example", ("turns:talk.example:443?transport=tcp",), Level.OK),
    ],
)
def test_it_says_what_a_missing_relay_means(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, page: str, relays: tuple[str, ...], level: Level
) -> None:
    settings.MOLTS_PUBLIC_URL = page
    monkeypatch.setattr(network, "_offer", lambda: Offer((), relays))
    assert network.check_turn().level == level


@pytest.mark.usefixtures("live_servers")
def test_it_asks_a_real_media_server_what_visitors_are_told(settings: Settings) -> None:
    settings.MOLTS_PUBLIC_URL = "http://127.0.0.1:8000"
    assert network.check_node_ip() == Finding(Level.OK, "visitors are told 127.0.0.1: this machine only")
    assert network.check_turn() == Finding(Level.OK, "not set up; not needed on this machine")


@pytest.mark.usefixtures("nothing_runs")
def test_a_websocket_that_nobody_answers_is_noticed() -> None:
    found = network.check_websocket()
    assert found.level == Level.FAILED
    assert "make up" in found.fix
