"""Pages in the visitor's language: what the browser asks for, or what was chosen on the page."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import Client

from sessions.models import RoomLink

PAGES = ("/", "/check", "/r/{link}", "/r/unknown", "/nothing-here")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("asked", "spoken", "direction"), [("de-AT", "de", "ltr"), ("ar", "ar", "rtl")])
def test_a_page_speaks_what_the_browser_asks_for(
    client: Client, link: RoomLink, page: str, asked: str, spoken: str, direction: str
) -> None:
    answer = client.get(page.format(link=link.public_id), headers={"accept-language": asked, "accept": "text/html"})
    assert f'<html lang="{spoken}" dir="{direction}">' in answer.content.decode()
    assert answer["Content-Language"] == spoken
    assert "Accept-Language" in answer["Vary"]


def test_what_is_not_spoken_here_is_english(client: Client, link: RoomLink) -> None:
    answer = client.get(f"/r/{link.public_id}", headers={"accept-language": "fr, ja;q=0.8"})
    assert '<html lang="en" dir="ltr">' in answer.content.decode()
    assert answer.context["catalog"] == {}


def test_the_room_page_carries_its_scripts_words(client: Client, link: RoomLink) -> None:
    answer = client.get(f"/r/{link.public_id}", headers={"accept-language": "de"})
    assert answer.context["catalog"]["Listening"] == "Hört zu"
    assert "Sprechen Sie mit Ada" in answer.content.decode()


def test_a_choice_is_remembered_and_wins(client: Client, link: RoomLink) -> None:
    chosen = client.post("/language", {"language": "ar", "next": f"/r/{link.public_id}"})
    assert (chosen.status_code, chosen["Location"]) == (302, f"/r/{link.public_id}")
    cookie = chosen.cookies[settings.LANGUAGE_COOKIE_NAME]
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", 31_536_000)
    page = client.get(f"/r/{link.public_id}", headers={"accept-language": "de"}).content.decode()
    assert '<html lang="ar" dir="rtl">' in page
    assert 'value="ar" lang="ar" aria-current="true"' in page


@pytest.mark.parametrize("language", ["xx", "", "fr", "../../etc"])
def test_a_language_that_is_not_here_changes_nothing(client: Client, language: str) -> None:
    client.post("/language", {"language": language, "next": "/"})
    page = client.get("/check", headers={"accept-language": "de"}).content.decode()
    assert '<html lang="de" dir="ltr">' in page


def test_the_choice_leads_to_no_other_site(client: Client) -> None:
    chosen = client.post("/language", {"language": "de", "next": "https://elsewhere.example/"})
    assert chosen["Location"] == "/"


@pytest.mark.django_db
def test_the_choice_is_offered_on_every_page_for_visitors(client: Client, link: RoomLink) -> None:
    for page in PAGES:
        text = client.get(page.format(link=link.public_id), headers={"accept": "text/html"}).content.decode()
        for name in ("English", "Deutsch", "العربيّة"):
            assert name in text, page
