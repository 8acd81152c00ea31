from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.i18n import set_language
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from avatars.videos.views import signed_file
from molts import docs, health
from molts.files import send_file
from sessions.livekit_webhooks import livekit_webhook

admin.autodiscover()
admin.site.site_header = "molts"
admin.site.site_title = "molts"
admin.site.index_title = "Start"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="api-docs"),
    path("api/v1/", include("molts.api_urls")),
    path("docs/", docs.page, {"path": "index.html"}, name="docs"),
    path("docs/<path:path>", docs.page),
    path("llms.txt", docs.page, {"path": "llms.txt"}),
    path("language", set_language, name="set-language"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("webhooks/livekit", livekit_webhook, name="livekit-webhook"),
    # Uploaded portraits are re-encoded when they come in. Everything else under the media folder is private.
    path("media/portraits/<path:path>", send_file, {"folder": settings.MEDIA_ROOT / "portraits"}),
    path("media/signed/<str:token>/<str:shown_as>", signed_file, name="signed-file"),
    path("", include("sessions.urls")),
]

handler400 = "molts.views.bad_request"
handler403 = "molts.views.forbidden"
handler404 = "molts.views.not_found"
handler500 = "molts.views.server_error"
