"""ASGI application: pages, admin, REST and WebSockets in one process (`uvicorn molts.asgi:application`)."""

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")
http = get_asgi_application()  # before anything that imports models

from django.db import connections  # noqa: E402

import molts.urls  # noqa: E402, F401 - now, and not while the first visitor waits
from sessions.origins import OriginGuard  # noqa: E402
from sessions.routing import websocket_urlpatterns  # noqa: E402

# Somebody waits for each answer here: rather told to come again than kept waiting for another writer.
if connections.settings["default"]["ENGINE"].endswith("sqlite3"):
    connections.settings["default"]["OPTIONS"]["timeout"] = 4

application = ProtocolTypeRouter(
    {"http": http, "websocket": OriginGuard(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)))}
)
