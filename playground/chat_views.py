"""The chat's doors: page, question, events, stop, price. Async where they meet the engine.

The contract with the page stands on top of `static/plyrum/js/chat.js`; without scripts the same form works:
the server waits for the answer a while and shows the thread.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import credentials
from accounts.credentials import Credential
from accounts.models import User
from billing import queries as money_queries
from billing import request_rates
from billing.templatetags.money import money
from orchestration import catalogue, routing
from orchestration.catalogue import Snapshot
from orchestration.engine import engine
from orchestration.errors import RunNotFound
from orchestration.models import RunState
from orchestration.queries import run_of
from playground import asking, conversation, events, forms, offers, queries, threads, words
from playground.asking import Begun
from playground.errors import MessageNotFound, QuestionInvalid, SignedOut, ThreadNotFound
from plyrum import clock, problems
from plyrum.errors import NotFound, PlyrumError, Unavailable

WAIT_SECONDS = 25  # of a form without scripts; then the page refreshes itself
MAX_SEQ_DIGITS = 9
EVENT_STREAM = "text/event-stream; charset=utf-8"


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
async def chat(request: HttpRequest, thread_id: UUID | None = None) -> HttpResponse:
    """The page of a thread, or of a new one; a POST asks."""
    user = await request.auser()
    if not isinstance(user, User):
        return _sign_in(request)
    if request.method != "POST":
        return await sync_to_async(_page)(request, user, thread_id)
    try:
        question = forms.question(request.POST, thread_id)
        begun = await asking.begin(customer_id=user.id, question=question, now=clock.now())
    except NotFound as error:
        if forms.wants_json(request):
            return _problem(request, error)
        raise Http404 from error
    except PlyrumError as error:
        if forms.wants_json(request):
            return _problem(request, error)
        return await sync_to_async(_page)(request, user, thread_id, error=error)
    if forms.wants_json(request):
        return await sync_to_async(_accepted)(request, user, begun)
    await _wait_for_end(begun.run_id)
    return redirect("thread", begun.asked.thread_id)


@never_cache
@require_safe
async def run_events(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """The run as server-sent events, from the frame after `after_seq` on."""
    user = await request.auser()
    if not isinstance(user, User):
        return _problem(request, SignedOut())
    after = request.GET.get("after_seq", "0")
    if not (after.isascii() and after.isdecimal() and len(after) <= MAX_SEQ_DIGITS):
        return _problem(request, QuestionInvalid("A whole number from 0.", field="after_seq"))
    try:
        await sync_to_async(run_of)(user.id, run_id)
        groups = engine().follow(run_id)
    except PlyrumError as error:
        return _problem(request, error)
    language = get_language() or "ru"
    told = events.stream(
        groups,
        after_seq=int(after),
        language=language,
        labels={offer.id: offer.label for offer in catalogue.current().offers.values()},
        ending=lambda: sync_to_async(_ending)(user.id, run_id, language),
    )
    response = StreamingHttpResponse(_unhurried(told), content_type=EVENT_STREAM)
    response["Cache-Control"] = "no-store, no-transform"
    response["X-Accel-Buffering"] = "no"
    return response


@require_POST
async def stop(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Stop a run; what was charged its frames say. A run that is over stays as it ended.

    The form of a page without scripts is led back to the thread, with the answer as far as it came.
    """
    user = await request.auser()
    if not isinstance(user, User):
        return _sign_in(request)
    try:
        run = await sync_to_async(run_of)(user.id, run_id)
        if run.state == RunState.RUNNING:
            await engine().stop(run_id)
            if not forms.wants_json(request):
                await _wait_for_end(run_id)
    except RunNotFound as error:
        raise Http404 from error
    except PlyrumError as error:
        return _problem(request, error)
    if forms.wants_json(request):
        return HttpResponse(status=204)
    answer = await sync_to_async(queries.answer_of_run)(user.id, run_id)
    return redirect("thread", answer.thread_id) if answer is not None else redirect("chat")


@never_cache
@login_required
@require_safe
def message(request: HttpRequest, message_id: UUID) -> HttpResponse:
    """One whole message, as it stands in the thread."""
    user = _customer(request)
    try:
        found = queries.message_of(user.id, message_id)
    except MessageNotFound as error:
        raise Http404 from error
    (shown,) = conversation.shown(user.id, [found], catalogue.refresh())
    return render(request, "playground/_message.html", {"message": shown})


@never_cache
@require_POST
def estimate(request: HttpRequest) -> HttpResponse:
    """What the text would usually cost and at most, with the thread's history when `thread` names it."""
    if not isinstance(request.user, User):
        return _problem(request, SignedOut())
    try:
        caller = credentials.for_site_session(request.user.id)
        request_rates.admit(caller.user_id, now=clock.now())
        text, model = forms.text(request.POST), forms.model(request.POST)
        told = (*_history(caller, request.POST.get("thread", "")), {"role": "user", "content": text})
        plan = routing.plan(asking.run_request(caller, model, told, None), catalogue.refresh())
    except PlyrumError as error:
        return _problem(request, error)
    spendable = money_queries.balance(caller.user_id, now=clock.now()).balance_micro_rub
    is_short = plan.hold_micro_rub > spendable and not caller.is_unlimited
    line = words.estimate(plan.estimate_micro_rub, plan.hold_micro_rub, spendable if is_short else None)
    return JsonResponse({"text": line, "over_limit": is_short})


def _page(
    request: HttpRequest, user: User, thread_id: UUID | None, *, error: PlyrumError | None = None
) -> HttpResponse:
    """The chat; with `error`, the draft comes back and nothing is lost."""
    snapshot = catalogue.refresh()
    try:
        thread = queries.thread_of(user.id, thread_id) if thread_id is not None else None
    except ThreadNotFound as missing:
        raise Http404 from missing
    page = queries.page_of(thread, before=_before(request)) if thread is not None else None
    shown = conversation.shown(user.id, page.messages, snapshot) if page is not None else []
    older = page.older_before if page is not None else None
    chosen = request.POST.get("model") or (thread.model if thread is not None else "") or offers.AUTO
    context = {
        "thread": _thread(thread) if thread is not None else None,
        "messages_list": shown,
        "models": offers.choices(snapshot),
        "model": chosen,
        "starters": [] if shown else _starters(user, snapshot),
        "idempotency_key": uuid4(),
        "text": (request.POST.get("text") or request.POST.get("starter", "")) if error is not None else "",
        "error": words.refusal(error) if error is not None else None,
        "running": conversation.is_running(shown),
        "older_url": f"{reverse('thread', args=[thread_id])}?before={older}" if older is not None else "",
        "abroad": offers.is_abroad(chosen, snapshot),
    }
    return render(request, "playground/chat.html", context, status=error.status if error is not None else 200)


def _thread(thread: Any) -> dict[str, Any]:
    return {"id": thread.id, "title": thread.title, "cost_micro_rub": queries.cost_of(thread)}


def _starters(user: User, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Prepared questions with their usual price; none while nobody can answer."""
    texts = [
        _("Объясни простыми словами, чем ИП отличается от самозанятого."),
        _("Составь план поездки в Казань на два дня."),
        _("Напиши письмо клиенту: заказ задержится на три дня."),
        _("Найди ошибку: почему 0.1 + 0.2 не равно 0.3 в Python?"),
    ]
    try:
        caller = credentials.for_site_session(user.id)
        return [{"text": text, "estimate_micro_rub": _usual(caller, text, snapshot)} for text in texts]
    except PlyrumError:
        return []


def _usual(caller: Credential, text: str, snapshot: Snapshot) -> int:
    told = ({"role": "user", "content": text},)
    return routing.plan(asking.run_request(caller, offers.AUTO, told, None), snapshot).estimate_micro_rub


def _accepted(request: HttpRequest, user: User, begun: Begun) -> HttpResponse:
    question = queries.message_of(user.id, begun.asked.question_id)
    (shown,) = conversation.shown(user.id, [question], catalogue.current())
    answer = {
        "thread_id": begun.asked.thread_id,
        "thread_url": reverse("thread", args=[begun.asked.thread_id]),
        "run_id": begun.run_id,
        "message_html": render_to_string("playground/_message.html", {"message": shown}, request).strip(),
        "idempotency_key": uuid4(),
        **conversation.run_urls(begun.run_id),
    }
    headers = {"Idempotent-Replayed": "true"} if begun.is_replay else {}
    return JsonResponse(answer, status=201, headers=headers)


def _ending(customer_id: UUID, run_id: UUID, language: str) -> dict[str, Any] | None:
    """What the last event says besides; None while the run is not settled."""
    try:
        if run_of(customer_id, run_id).finished_at is None:
            return None
        answer = queries.answer_of_run(customer_id, run_id)
        if answer is None:
            return {}
        with translation.override(language):
            return {
                "message_url": reverse("chat_message", args=[answer.id]),
                "thread_cost_text": money(queries.cost_of(answer.thread)),
            }
    finally:
        connections.close_all()


def _history(caller: Credential, thread_id: str) -> tuple[dict[str, str], ...]:
    """What has been said in a thread of the caller; nothing without one."""
    if not thread_id:
        return ()
    try:
        thread = queries.thread_of(caller.user_id, UUID(thread_id))
    except ValueError as error:
        raise ThreadNotFound from error
    return threads.history(thread)


async def _unhurried(told: AsyncIterator[str]) -> AsyncIterator[str]:
    """A reader may stay for minutes: it holds no database connection meanwhile."""
    await sync_to_async(connections.close_all)()
    with contextlib.suppress(Unavailable):  # the page comes back
        async for part in told:
            yield part


async def _wait_for_end(run_id: UUID) -> None:
    await sync_to_async(connections.close_all)()
    with contextlib.suppress(TimeoutError, Unavailable):
        async with asyncio.timeout(WAIT_SECONDS):
            async for _group in engine().follow(run_id):
                pass


def _problem(request: HttpRequest, error: PlyrumError) -> JsonResponse:
    """A problem document in the words of the site."""
    told = words.refusal(error)
    request_id = getattr(request, "request_id", "")
    body = problems.document(error, instance=request.path, request_id=request_id)
    return JsonResponse(
        body | {"title": told["title"], "detail": told["text"]},
        status=error.status,
        content_type=problems.CONTENT_TYPE,
        headers=problems.headers(error),
    )


def _sign_in(request: HttpRequest) -> HttpResponse:
    if forms.wants_json(request):
        return _problem(request, SignedOut())
    return redirect_to_login(request.get_full_path())


def _before(request: HttpRequest) -> int | None:
    text = request.GET.get("before", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MAX_SEQ_DIGITS else None


def _customer(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise Http404
    return request.user
