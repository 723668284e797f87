"""The frame's own app config: loads every task module, so that a nudge finds its task."""

from importlib import import_module
from importlib.util import find_spec

from django.apps import AppConfig, apps
from django.contrib.admin.apps import AdminConfig


class FrameConfig(AppConfig):
    name = "plyrum"

    def ready(self) -> None:
        import_module("plyrum.checks")
        import_module("plyrum.celery")  # makes our app the one that nudges are sent through
        for config in apps.get_app_configs():
            if find_spec(f"{config.name}.tasks") is not None and "." not in config.name:
                import_module(f"{config.name}.tasks")


class BackOfficeConfig(AdminConfig):
    default_site = "plyrum.admin.BackOffice"
