from django.urls import path

from sessions import check, summary, views

one = "r/<str:public_id>/sessions/<uuid:session_id>"

urlpatterns = [
    path("", views.start_page, name="start"),
    path("check", check.CheckPage.as_view(), name="check"),
    path("check/token", check.CheckToken.as_view(), name="check-token"),
    path("r/<str:public_id>", views.RoomPage.as_view(), name="room"),
    path("embed.js", views.embed_script, name="embed-script"),
    path("r/<str:public_id>/embed", views.EmbedView.as_view(), name="room-embed"),
    path("agents/<uuid:agent_id>/talk", views.open_trial, name="trial-link"),
    path("r/<str:public_id>/start", views.StartView.as_view(), name="room-start"),
    path(f"{one}/end", views.EndView.as_view(), name="room-end"),
    path(f"{one}/transcript", views.TranscriptView.as_view(), name="room-transcript"),
    path(f"{one}/say", views.SayView.as_view(), name="room-say"),
    path(f"{one}/summary", summary.SummaryPage.as_view(), name="room-summary"),
    path(f"{one}/", views.OwnSessionView.as_view(), name="room-session"),
]
