"""The app's config: after `migrate` in development the documents are published."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class LegalConfig(AppConfig):
    name = "legal"
    verbose_name = _("Документы")

    def ready(self) -> None:
        from legal import checks, development  # noqa: F401 - registers the checks

        post_migrate.connect(development.publish_after_migrate, sender=self)
