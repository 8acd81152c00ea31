from channels.security.websocket import WebsocketDenier
from django.urls import path, re_path

from sessions.consumers import SessionConsumer

websocket_urlpatterns = [
    path("ws/sessions/<uuid:session_id>/", SessionConsumer.as_asgi()),
    re_path("", WebsocketDenier.as_asgi()),  # anything else is refused without a traceback
]
