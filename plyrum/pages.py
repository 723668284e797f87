"""Pages that belong to no app: errors, the choice of theme. An API path gets a problem document instead."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from plyrum import errors, problems
from plyrum.context import THEMES

YEAR_SECONDS = 365 * 24 * 3600


@csrf_exempt  # changes nothing but a cookie of the asking browser, and works without scripts
@require_POST
def set_theme(request: HttpRequest) -> HttpResponse:
    """Keep the theme in a cookie and return to the page the form stood on."""
    back = request.POST.get("next", "/")
    if not url_has_allowed_host_and_scheme(back, allowed_hosts=None):
        back = "/"
    response = HttpResponseRedirect(back)
    theme = request.POST.get("theme", "auto")
    if theme in THEMES:
        response.set_cookie(
            "theme", theme, max_age=YEAR_SECONDS, samesite="Lax", secure=settings.IS_PRODUCTION
        )
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _failure(request, errors.BadRequest(), "400.html")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _failure(request, errors.Forbidden(), "403.html")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _failure(request, errors.NotFound(), "404.html")


def server_error(request: HttpRequest) -> HttpResponse:
    return _failure(request, errors.PlyrumError("Something broke on our side."), "500.html")


def _failure(request: HttpRequest, error: errors.PlyrumError, template: str) -> HttpResponse:
    if request.path.startswith(settings.API_PATHS):
        return problems.answer(request, error)
    return render(request, template, status=error.status)
