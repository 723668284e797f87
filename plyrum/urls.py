"""Every path of the site and of the ordinary API, in one place. The lean paths stand in `plyrum/asgi.py`."""

from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView
from django.views.i18n import set_language

from plyrum import clock, health, pages
from plyrum.api import api

handler400 = "plyrum.pages.bad_request"
handler403 = "plyrum.pages.forbidden"
handler404 = "plyrum.pages.not_found"
handler500 = "plyrum.pages.server_error"

urlpatterns = [
    path("api/health", health.health, name="health"),
    path("api/ready", health.ready, name="ready"),
    path("api/audit", include("auditlog.operator_urls")),
    path("api/billing/admin", include("billing.operator_urls")),
    path("api/", api.urls),
    path("admin/", admin.site.urls),
    path("theme", pages.set_theme, name="set_theme"),
    path("language", set_language, name="set_language"),
    *i18n_patterns(
        path("", include("playground.urls")),
        path("", include("accounts.urls")),
        path("", include("payments.urls")),
        path("", include("plans.urls")),
        path("", include("billing.urls")),
        path("", include("orchestration.urls")),
        path("legal/", include("legal.urls")),
        prefix_default_language=False,
    ),
]
if settings.DEBUG:
    urlpatterns.append(
        path(
            "styleguide",
            TemplateView.as_view(template_name="styleguide.html", extra_context={"now": clock.now}),
        )
    )
