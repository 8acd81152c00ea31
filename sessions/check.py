"""The check of the visitor's side: can this browser talk from here, and if not, who has to mend what?

The page runs every test in the browser. The server gives it a room of its own on the media server for a minute, where
nobody is and nothing can be said, and a WebSocket that says one word.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from sessions import rooms
from sessions.catalog import page_words
from sessions.throttling import check_check_rate
from sessions.tokens import check_token
from sessions.views import answers_json

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@method_decorator(never_cache, name="dispatch")
class CheckPage(View):
    """`/check`: needs no link and no account; linked from wherever a conversation fails."""

    def get(self, request: HttpRequest) -> HttpResponse:
        boot = {
            "token_url": reverse("check-token"),
            "ws_path": "/ws/check/",
            "media_url": settings.LIVEKIT_PUBLIC_URL,
            "media_is_local": urlsplit(settings.LIVEKIT_PUBLIC_URL).hostname in LOOPBACK,
            "stun_servers": settings.MOLTS_STUN_SERVERS,
            "udp_port": settings.MOLTS_MEDIA_UDP_PORT,
            "tcp_port": settings.MOLTS_MEDIA_TCP_PORT,
        }
        get_token(request)  # the page's script posts
        return render(request, "check.html", {"boot": boot, "catalog": page_words()})


@method_decorator(answers_json, name="dispatch")
class CheckToken(View):
    """`POST /check/token`: the way into an empty room that closes by itself."""

    def post(self, request: HttpRequest) -> HttpResponse:
        check_check_rate(request)
        room_name = rooms.new_check_room_name()
        async_to_sync(rooms.open_check_room)(room_name)
        token = check_token(room_name=room_name, identity=f"check-{secrets.token_urlsafe(9)}")
        return JsonResponse({"server_url": settings.LIVEKIT_PUBLIC_URL, "participant_token": token}, status=201)


class CheckConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """`/ws/check/`: opens, says one word and closes. Reaching it proves the way; it tells nothing."""

    async def connect(self) -> None:
        await self.accept()
        await self.send(text_data='{"type": "hello"}')
        await self.close()
