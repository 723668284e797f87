"""The app's config: registers the launch checks and nothing else."""

from importlib import import_module

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = _("Деньги")

    def ready(self) -> None:
        import_module("billing.checks")
