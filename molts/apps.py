from django.apps import AppConfig


class MoltsConfig(AppConfig):
    name = "molts"
    verbose_name = "molts"
