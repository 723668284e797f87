"""The first page of the back office: money today, what is stuck, how jobs and runs go. Reads only.

Named by the settings for Unfold; every number leads to the list it counts.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from auditlog.models import JobRun
from billing.models import EntryType, LedgerEntry, OpenHold, OperatorRequest
from billing.templatetags.money import money
from billing.watch_models import ReconciliationFinding
from orchestration import catalogue
from orchestration.models import Run, RunState
from payments.models import BankDecision, BankLine, Payment, WebhookEvent
from plyrum import clock

HOLD_IS_STUCK_AFTER = timedelta(minutes=10)
PAYMENT_IS_STUCK_AFTER = timedelta(minutes=65)  # a payment page lives an hour
RUNS_WITHIN = timedelta(hours=24)

Context = dict[str, Any]


def dashboard(request: HttpRequest, context: Context) -> Context:
    """Add the numbers to the index page's context, each part only for roles that may see its lists."""
    now = clock.now()
    may = request.user.has_module_perms
    context["money_today"] = _money_today() if may("billing") else []
    context["attention"] = [
        *(_requests() if may("billing") else []),
        *(_holds(now) if may("billing") else []),
        *(_findings() if may("billing") else []),
        *(_payments(now) if may("payments") else []),
        *(_bank() if may("payments") else []),
        *(_rates() if may("billing") else []),
    ]
    context["run_states"] = _runs(now) if may("orchestration") else []
    context["jobs"] = _jobs() if may("auditlog") else []
    return context


def _money_today() -> list[Context]:
    """Sums of Moscow's day so far."""
    today = LedgerEntry.objects.filter(created_at__gte=clock.start_of(timezone.localdate()))
    sums = dict(today.values_list("type").annotate(total=Sum("amount_micro_rub")))
    return [
        _fact(_("Пополнения"), money(int(sums.get(EntryType.TOPUP, 0))), _entries(EntryType.TOPUP)),
        _fact(
            _("Списано за ответы"),
            money(int(sums.get(EntryType.USAGE_DEBIT, 0))),
            _entries(EntryType.USAGE_DEBIT),
        ),
        _fact(_("Бонусы"), money(int(sums.get(EntryType.BONUS, 0))), _entries(EntryType.BONUS)),
    ]


def _requests() -> list[Context]:
    waiting = OperatorRequest.objects.filter(state=OperatorRequest.State.WAITING)
    address = _list("billing_operatorrequest", state__exact=OperatorRequest.State.WAITING.value)
    return [_alarm(_("Запросы ждут второго человека"), waiting.count(), address)]


def _holds(now: datetime) -> list[Context]:
    stuck = OpenHold.objects.filter(created_at__lt=now - HOLD_IS_STUCK_AFTER)
    return [_alarm(_("Резервы старше 10 минут"), stuck.count(), _list("billing_hold", older_than="5m"))]


def _findings() -> list[Context]:
    """What the checks of the books found and nobody explained."""
    found = ReconciliationFinding.objects.filter(state=ReconciliationFinding.State.OPEN)
    return [
        _alarm(
            _("Находки сверки"), found.count(), _list("billing_reconciliationfinding", state__exact="open")
        )
    ]


def _payments(now: datetime) -> list[Context]:
    counts = Payment.objects.aggregate(
        late=Count("id", filter=Q(status__in=Payment.OPEN, created_at__lt=now - PAYMENT_IS_STUCK_AFTER)),
        review=Count("id", filter=Q(status=Payment.Status.REVIEW)),
    )
    events = WebhookEvent.objects.aggregate(
        waiting=Count("id", filter=Q(next_attempt_at__isnull=False)),
        parked=Count("id", filter=Q(outcome=WebhookEvent.Outcome.PARKED)),
    )
    payments, inbox = "payments_payment", "payments_webhookevent"
    return [
        _alarm(
            _("Пополнения ждут больше 65 минут"), counts["late"], _list(payments, status__exact="pending")
        ),
        _alarm(_("Пополнения на проверке"), counts["review"], _list(payments, status__exact="review")),
        _alarm(_("Уведомления не разобраны"), events["waiting"], _list(inbox, outcome__exact="")),
        _alarm(_("Уведомления отложены"), events["parked"], _list(inbox, outcome__exact="parked")),
    ]


def _bank() -> list[Context]:
    """Money that came to the bank account and waits for people."""
    lines = BankLine.objects.filter(status=BankLine.Status.SUSPENSE)
    waiting = BankDecision.objects.filter(state=BankDecision.State.WAITING)
    return [
        _alarm(
            _("Невыясненные поступления"),
            lines.count(),
            _list("payments_bankline", status__exact=BankLine.Status.SUSPENSE.value),
        ),
        _alarm(
            _("Решения о строках ждут второго человека"),
            waiting.count(),
            _list("payments_bankdecision", state__exact=BankDecision.State.WAITING.value),
        ),
    ]


def _rates() -> list[Context]:
    """Models on the list that nobody can ask because the rate of their currency is old."""
    offers = catalogue.refresh().offers.values()
    unsold = sum(offer.is_enabled and offer.has_stale_rate for offer in offers)
    return [_alarm(_("Модели без свежего курса"), unsold, _list("billing_fxrate"))]


def _runs(now: datetime) -> list[Context]:
    """Runs of the last 24 hours by state."""
    recent = Run.objects.filter(created_at__gte=now - RUNS_WITHIN)
    counts = dict(recent.values_list("state").annotate(count=Count("id")))
    return [
        _fact(
            str(state.label), counts.get(state.value, 0), _list("orchestration_run", state__exact=state.value)
        )
        for state in RunState
    ]


def _jobs() -> list[Context]:
    """The newest run of each job."""
    newest = JobRun.objects.order_by("name", "-started_at").distinct("name")
    failed = {JobRun.Outcome.FAILED}
    return [
        {
            "name": run.name,
            "outcome": run.get_outcome_display(),
            "is_bad": run.outcome in failed,
            "started_at": run.started_at,
            "detail": run.detail,
            "url": _list("auditlog_jobrun", name__exact=run.name),
        }
        for run in newest
    ]


def _fact(title: str, value: object, url: str) -> Context:
    return {"title": title, "value": value, "url": url, "is_bad": False}


def _alarm(title: str, count: int, url: str) -> Context:
    return {"title": title, "value": count, "url": url, "is_bad": count > 0}


def _entries(kind: EntryType) -> str:
    return _list("billing_ledgerentry", type__exact=kind.value)


def _list(name: str, **filters: str) -> str:
    address = reverse(f"admin:{name}_changelist")
    return f"{address}?{urlencode(filters)}"
