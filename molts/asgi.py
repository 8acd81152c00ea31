"""ASGI application: pages, admin, REST and WebSockets in one process (`uvicorn molts.asgi:application`)."""

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")
http = get_asgi_application()  # before anything that imports models

from sessions.origins import OriginGuard  # noqa: E402
from sessions.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {"http": http, "websocket": OriginGuard(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)))}
)
