"""`/api/v1/`: one line an operation."""

from django.urls import path

from avatars import api as avatars
from avatars.videos import api as videos
from projects.webhooks import api as webhooks
from sessions import api as sessions

endpoint = "webhook-endpoints/<uuid:endpoint_id>"

urlpatterns = [
    path("token", sessions.TokenView.as_view(), name="api-token"),
    path("agents", avatars.AgentList.as_view(), name="api-agents"),
    path("agents/<uuid:agent_id>", avatars.AgentDetail.as_view(), name="api-agent"),
    path("agents/<uuid:agent_id>/videos", videos.AgentVideoList.as_view(), name="api-agent-videos"),
    path("videos", videos.VideoList.as_view(), name="api-videos"),
    path("videos/<uuid:video_id>", videos.VideoDetail.as_view(), name="api-video"),
    path("videos/<uuid:video_id>/cancel", videos.VideoCancel.as_view(), name="api-video-cancel"),
    path("sessions", sessions.SessionList.as_view(), name="api-sessions"),
    path("sessions/<uuid:session_id>", sessions.SessionDetail.as_view(), name="api-session"),
    path("sessions/<uuid:session_id>/transcript", sessions.SessionTranscript.as_view(), name="api-session-transcript"),
    path("sessions/<uuid:session_id>/end", sessions.SessionEnd.as_view(), name="api-session-end"),
    path("sessions/<uuid:session_id>/say", sessions.SessionSay.as_view(), name="api-session-say"),
    path("webhook-endpoints", webhooks.EndpointList.as_view(), name="api-webhook-endpoints"),
    path("webhook-endpoints/callback-secret", webhooks.CallbackSecret.as_view(), name="api-webhook-callback-secret"),
    path(endpoint, webhooks.EndpointDetail.as_view(), name="api-webhook-endpoint"),
    path(f"{endpoint}/rotate-secret", webhooks.EndpointSecret.as_view(), name="api-webhook-rotate-secret"),
    path(f"{endpoint}/test", webhooks.EndpointTest.as_view(), name="api-webhook-test"),
    path(f"{endpoint}/deliveries", webhooks.DeliveryList.as_view(), name="api-webhook-deliveries"),
    path(
        f"{endpoint}/deliveries/<uuid:delivery_id>/replay",
        webhooks.DeliveryReplay.as_view(),
        name="api-webhook-replay",
    ),
]
