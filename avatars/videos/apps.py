from django.apps import AppConfig


class VideosConfig(AppConfig):
    name = "avatars.videos"
    verbose_name = "Videos"
