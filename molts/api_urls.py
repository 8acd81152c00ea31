"""`/api/v1/`: one line an operation."""

from django.urls import path

from avatars import api as avatars
from avatars.videos import api as videos
from sessions import api as sessions

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
]
