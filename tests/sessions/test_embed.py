"""Conversations on other people's pages: who may show them, and what the frame is given."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from molts.errors import BadInput
from sessions.embed import clean_origin, clean_origins
from sessions.models import RoomLink
from sessions.services import end_session
from sessions.tokens import cookie_name, sign_cookie
from tests.sessions.factories import make_session

SHOP = "https://shop.example.org"
IN_A_FRAME = {"sec-fetch-dest": "iframe", "sec-fetch-site": "cross-site"}


@pytest.fixture(autouse=True)
def _no_media_server(settings: Settings) -> None:
    settings.LIVEKIT_URL = "ws://127.0.0.1:9"


@pytest.fixture
def shop_link(link: RoomLink) -> RoomLink:
    link.allowed_origins = [SHOP, "http://localhost:9000"]
    link.save()
    return link


# -- Origins ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://shop.example.org", SHOP),
        (" HTTPS://Shop.Example.ORG/ ", SHOP),
        ("https://shop.example.org:443", SHOP),
        ("http://localhost:9000", "http://localhost:9000"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://[::1]:8443/", "https://[::1]:8443"),
    ],
)
def test_a_site_is_written_as_browsers_spell_it(written: str, origin: str) -> None:
    assert clean_origin(written) == origin


@pytest.mark.parametrize(
    "written",
    [
        "shop.example.org",
        "ftp://shop.example.org",
        "javascript:alert(1)",
        "https://",
        "https://*.example.org",
        "https://shop.example.org/page",
        "https://shop.example.org?x",
        "https://user@shop.example.org",
        "https://shop.example.org:99999",
        "https://shop.example.org; script-src *",
        "https://a b.example.org",
        "https://shop..example.org",
        "https://[::1",
        "null",
        "*",
        "https://" + "a" * 64 + ".org",
    ],
)
def test_what_is_no_site_is_refused_by_name(written: str) -> None:
    with pytest.raises(BadInput, match="is not the address of a site"):
        clean_origin(written)


def test_sites_are_kept_once_and_not_without_end() -> None:
    assert clean_origins([SHOP, "", f"{SHOP}/", "  "]) == [SHOP]
    with pytest.raises(BadInput, match="At most 20"):
        clean_origins([f"https://s{number}.example.org" for number in range(21)])


# -- The page ---------------------------------------------------------------------------------------------------------
def ancestors(response: Any) -> str:
    policy: dict[str, str] = dict(part.split(" ", 1) for part in response["Content-Security-Policy"].split("; "))
    return policy["frame-ancestors"]


def test_only_the_links_own_sites_may_show_its_page(shop_link: RoomLink) -> None:
    response = Client().get(f"/r/{shop_link.public_id}")

    assert ancestors(response) == f"'self' {SHOP} http://localhost:9000"
    assert "X-Frame-Options" not in response


def test_a_page_of_ours_may_show_every_link(link: RoomLink) -> None:
    response = Client().get(f"/r/{link.public_id}")

    assert ancestors(response) == "'self'"
    assert response["X-Frame-Options"] == "SAMEORIGIN"


def test_no_other_page_can_be_framed(shop_link: RoomLink) -> None:
    for path in ("/", "/r/unknown", "/admin/login/", f"/r/{shop_link.public_id}/embed"):
        response = Client().get(path)
        assert ancestors(response) == "'none'", path
        assert response["X-Frame-Options"] == "DENY", path


# -- May this page? ---------------------------------------------------------------------------------------------------
def ask(link: RoomLink, origin: str | None) -> Any:
    headers = {} if origin is None else {"origin": origin}
    return Client().get(f"/r/{link.public_id}/embed", headers=headers)


@pytest.mark.parametrize("origin", [SHOP, "http://localhost:9000", "http://testserver", "http://127.0.0.1:8000", None])
def test_an_allowed_site_learns_the_agents_name(shop_link: RoomLink, settings: Settings, origin: str | None) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.MOLTS_PUBLIC_URL = "http://127.0.0.1:8000"
    response = ask(shop_link, origin)

    assert response.status_code == 200
    assert response.json() == {
        "agent": "Ada",
        "language": "en",
        "rtl": False,
        "words": {
            "label": "Talk to us",
            "title": "Conversation with Ada",
            "close": "Close the conversation",
        },
    }
    assert response["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in response


@pytest.mark.parametrize(
    ("language", "rtl", "close"), [("de-AT,de", False, "Gespräch schließen"), ("ar", True, "إغلاق المحادثة")]
)
def test_the_words_are_those_of_the_browsers_language(
    shop_link: RoomLink, language: str, rtl: bool, close: str
) -> None:
    headers = {"origin": SHOP, "accept-language": language}
    answer = Client().get(f"/r/{shop_link.public_id}/embed", headers=headers).json()

    assert (answer["language"], answer["rtl"]) == (language[:2], rtl)
    assert answer["words"]["close"] == close
    assert "Ada" in answer["words"]["title"]


@pytest.mark.parametrize("origin", ["https://other.example.org", "http://shop.example.org", f"{SHOP}:8443", "null"])
def test_another_site_is_told_why_not(shop_link: RoomLink, origin: str) -> None:
    response = ask(shop_link, origin)

    assert response.status_code == 403
    (error,) = response.json()["errors"]
    assert error["code"] == "origin_not_allowed"
    assert "may not show this conversation" in error["detail"]
    assert "Ada" not in response.content.decode()
    assert response["Access-Control-Allow-Origin"] == "*", "its script shall show the words"


def test_a_link_without_sites_is_for_our_own_pages(link: RoomLink) -> None:
    assert ask(link, SHOP).status_code == 403
    assert ask(link, "http://testserver").status_code == 200


def test_a_link_that_is_over_or_unknown_says_so(shop_link: RoomLink) -> None:
    shop_link.revoked_at = shop_link.created_at
    shop_link.save()
    assert ask(shop_link, SHOP).json()["errors"][0]["code"] == "link_revoked"
    shop_link.public_id = "unknown"
    assert ask(shop_link, SHOP).status_code == 404


def test_the_script_may_be_used_from_anywhere_and_is_asked_for_again_in_time(client: Client) -> None:
    response = client.get("/embed.js")
    body = response.content.decode()

    assert response["Content-Type"] == "text/javascript; charset=utf-8"
    assert "max-age=3600" in response["Cache-Control"]
    assert response["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert response["Access-Control-Allow-Origin"] == "*"
    assert "data-link" in body
    assert len(body) < 10_000
    again = client.get("/embed.js", headers={"if-none-match": response["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


# -- Cookies ----------------------------------------------------------------------------------------------------------
def flags(response: Any, name: str) -> str:
    return str(response.cookies[name].OutputString())


def test_a_frame_on_another_site_gets_cookies_that_work_there(shop_link: RoomLink) -> None:
    response = Client().get(f"/r/{shop_link.public_id}", headers=IN_A_FRAME)

    for name in ("csrftoken", "molts_frame"):
        assert "SameSite=None" in flags(response, name)
        assert "Secure" in flags(response, name)
        assert flags(response, name).endswith("; Partitioned")


@pytest.mark.parametrize(
    "headers",
    [{}, {"sec-fetch-dest": "document", "sec-fetch-site": "cross-site"}, {**IN_A_FRAME, "sec-fetch-site": "same-site"}],
)
def test_elsewhere_cookies_stay_on_our_own_pages(shop_link: RoomLink, headers: dict[str, str]) -> None:
    response = Client().get(f"/r/{shop_link.public_id}", headers=headers)

    assert "SameSite=Lax" in flags(response, "csrftoken")
    assert "Partitioned" not in flags(response, "csrftoken")
    assert "molts_frame" not in response.cookies


def test_a_link_of_no_site_gives_no_cookies_to_a_frame(link: RoomLink) -> None:
    client = Client()
    client.cookies["molts_frame"] = "1"
    response = client.get(f"/r/{link.public_id}", headers=IN_A_FRAME)

    assert "SameSite=Lax" in flags(response, "csrftoken")
    assert "molts_frame" not in response.cookies


def test_the_conversations_own_cookie_goes_into_the_frames_jar_and_out_of_it(shop_link: RoomLink) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.get(f"/r/{shop_link.public_id}", headers=IN_A_FRAME)
    session = make_session(shop_link.agent, link=shop_link)
    browser.cookies[cookie_name(session.pk)] = sign_cookie(session.pk)
    end_session(session_id=session.pk, reason="ended_by_user")

    token = browser.cookies["csrftoken"].value
    erased = browser.delete(f"/r/{shop_link.public_id}/sessions/{session.pk}/", headers={"x-csrftoken": token})

    assert erased.status_code == 204
    assert flags(erased, cookie_name(session.pk)).endswith("; Partitioned"), "else the browser would keep it"


def test_starting_in_a_frame_needs_the_token_as_everywhere(shop_link: RoomLink) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.get(f"/r/{shop_link.public_id}", headers=IN_A_FRAME)

    refused = browser.post(
        f"/r/{shop_link.public_id}/start", json.dumps({}), content_type="application/json", headers={"origin": SHOP}
    )

    assert refused.status_code == 403
    assert refused.json()["errors"][0]["code"] == "csrf"
