from channels.security.websocket import WebsocketDenier
from django.urls import path, re_path

from sessions.check import CheckConsumer
from sessions.consumers import SessionConsumer

websocket_urlpatterns = [
    path("ws/sessions/<uuid:session_id>/", SessionConsumer.as_asgi()),
    path("ws/check/", CheckConsumer.as_asgi()),
    re_path("", WebsocketDenier.as_asgi()),  # anything else is refused without a traceback
]
