"""Back office of runs and of the catalogue: all may be read, a model or provider switched with a reason.

Prompts and answers are not shown here: a run keeps what it decided, counted and cost.
"""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.formats import localize
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts import api_keys
from accounts.people import CustomerByEmail, customer_words
from auditlog.actors import Actor
from auditlog.admin import LINK, OperatorActs, ReadOnlyAdmin, table
from billing import queries as money_queries
from billing.act_buttons import RunActs
from billing.templatetags.money import duration, money, money_exact, tokens
from orchestration import catalogue, queries, switching, words
from orchestration.models import Attempt, CatalogueVersion, Model, Provider, Run, RunState

REFUSALS = {"already_switched": _("Кто-то переключил это раньше: состояние уже такое.")}
REASON_CHARS = (10, 300)  # shorter says nothing, longer belongs into a document

Act = Callable[[datetime, Actor], object]


class ReasonForm(BaseDialogForm):  # type: ignore[misc]
    reason = forms.CharField(
        label=_("Причина"),
        min_length=REASON_CHARS[0],
        max_length=REASON_CHARS[1],
        widget=UnfoldAdminTextareaWidget,
    )


@admin.register(Run)
class RunAdmin(CustomerByEmail, RunActs, ReadOnlyAdmin):
    list_display = [
        "created_at",
        "condition",
        "model",
        "cost",
        "customer",
        "whence",
        "time",
        "error_code",
    ]
    list_filter = ["state", "model", "surface", "created_at"]
    search_fields = ["id__exact", "customer_id__exact", "idempotency_key__exact"]
    ordering = ["-id"]
    nothing_yet = _("Запуск появляется с каждым вопросом: из чата или по API.")
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "id", "sentence", "state", "error", "finish_reason", "customer", "whence",
                    "idempotency_key", "key", "created_at", "finished_at", "time",
                ]
            },
        ),
        (
            _("Деньги"),
            {
                "fields": [
                    "estimate", "held", "cost", "released", "ledger_entry", "reversal", "hold", "usage",
                    "estimated",
                ]
            },
        ),
        (_("Маршрут"), {"fields": ["mode", "profile", "model", "provider", "candidates", "excluded"]}),
        (_("Попытки"), {"fields": ["attempts"]}),
        (_("Исполнение"), {"fields": ["fence", "lease_until", "fingerprint"]}),
    ]  # fmt: skip

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        """An id is looked up by its index; anything else can only be a caller's key."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if "@" in term:
            return super().get_search_results(request, queryset, term)
        try:
            known = UUID(term)
        except ValueError:
            return queryset.filter(idempotency_key=term), False
        found = queryset.filter(id=known) | queryset.filter(customer_id=known)
        return found | queryset.filter(idempotency_key=term), False

    @display(  # type: ignore[untyped-decorator]
        description=_("Состояние"),
        ordering="state",
        label={
            "running": "info",
            "done": "success",
            "stopped": "default",
            "failed": "danger",
            "refused": "warning",
        },
    )
    def condition(self, run: Run) -> tuple[str, str]:
        return run.state, run.get_state_display()

    @display(description=_("Клиент"), ordering="customer_id")  # type: ignore[untyped-decorator]
    def customer(self, run: Run) -> SafeString | str:
        return _link("accounts_user", run.customer_id, text=customer_words(run, run.customer_id))

    @display(description=_("Откуда"), ordering="surface")  # type: ignore[untyped-decorator]
    def whence(self, run: Run) -> str:
        return gettext("сайт") if run.surface == "site" else run.surface.upper()

    @display(description=_("Списано"), ordering="cost_micro_rub")  # type: ignore[untyped-decorator]
    def cost(self, run: Run) -> str:
        return money_exact(run.cost_micro_rub)

    @display(description=_("Резерв"), ordering="hold_micro_rub")  # type: ignore[untyped-decorator]
    def held(self, run: Run) -> str:
        return money_exact(run.hold_micro_rub)

    @display(description=_("Снято с резерва"))  # type: ignore[untyped-decorator]
    def released(self, run: Run) -> str:
        return money_exact(run.hold_micro_rub - run.cost_micro_rub) if run.finished_at else "—"

    @display(description=_("Оценка до запуска"))  # type: ignore[untyped-decorator]
    def estimate(self, run: Run) -> str:
        return money(run.estimate_micro_rub)

    @display(description=_("Время"))  # type: ignore[untyped-decorator]
    def time(self, run: Run) -> str:
        if run.finished_at is None:
            return "—"
        return duration(round((run.finished_at - run.created_at).total_seconds() * 1000))

    @display(description=_("Что случилось"))  # type: ignore[untyped-decorator]
    def sentence(self, run: Run) -> str:
        attempts = queries.attempts_of(run)
        labels = {name: name for name in [run.model, *(attempt.model for attempt in attempts)]}
        return words.sentence(run, attempts, labels)

    @display(description=_("Ошибка"))  # type: ignore[untyped-decorator]
    def error(self, run: Run) -> str:
        return f"{run.error_code}: {words.attempt_error(run.error_code)}" if run.error_code else "—"

    @display(description=_("Проводка"))  # type: ignore[untyped-decorator]
    def ledger_entry(self, run: Run) -> SafeString | str:
        return _link("billing_ledgerentry", run.ledger_entry_id) if run.ledger_entry_id else "—"

    @display(description=_("Списание отменено"))  # type: ignore[untyped-decorator]
    def reversal(self, run: Run) -> SafeString | str:
        found = money_queries.reversal_of(run.ledger_entry_id) if run.ledger_entry_id else None
        words = f"+{money_exact(found.amount_micro_rub)}" if found is not None else ""
        return _link("billing_ledgerentry", found.id, text=words) if found is not None else "—"

    @display(description=_("Ключ API"))  # type: ignore[untyped-decorator]
    def key(self, run: Run) -> SafeString | str:
        if run.api_key_id is None:
            return "—"
        name = api_keys.names([run.api_key_id]).get(run.api_key_id, "")
        return _link("accounts_apikey", run.api_key_id, text=name)

    @display(description=_("Строка резерва"))  # type: ignore[untyped-decorator]
    def hold(self, run: Run) -> SafeString | str:
        return _link("billing_hold", run.id) if run.hold_micro_rub else "—"

    @display(description=_("Токены"))  # type: ignore[untyped-decorator]
    def usage(self, run: Run) -> str:
        return f"{tokens(run.input_tokens)} → {tokens(run.output_tokens)}"

    @display(description=_("Кандидаты"))  # type: ignore[untyped-decorator]
    def candidates(self, run: Run) -> SafeString:
        rows = [
            (
                candidate["model"],
                candidate["score"],
                money(candidate["expected_micro_rub"]),
                money(candidate["worst_micro_rub"]),
                ", ".join(f"{reason['text']}: {reason['value']}" for reason in words.reasons(candidate)),
            )
            for candidate in run.route.get("candidates", [])
        ]
        return table(
            _("Кандидаты"), [_("Модель"), _("Оценка"), _("Обычно"), _("Не больше"), _("Почему")], rows
        )

    @display(description=_("Не подошли"))  # type: ignore[untyped-decorator]
    def excluded(self, run: Run) -> SafeString | str:
        rows = [(model, words.exclusion(code)) for model, code in run.route.get("excluded", {}).items()]
        return table(_("Не подошли"), [_("Модель"), _("Почему")], rows) if rows else "—"

    @display(description=_("Вызовы провайдеров"))  # type: ignore[untyped-decorator]
    def attempts(self, run: Run) -> SafeString | str:
        rows = [
            (
                attempt.number,
                _link("orchestration_attempt", attempt.id, text=attempt.model),
                _outcome(attempt),
                words.attempt_error(attempt.error_class) or "—",
                attempt.http_status or "—",
                duration(attempt.duration_ms),
                f"{tokens(attempt.input_tokens)} → {tokens(attempt.output_tokens)}",
                money_exact(attempt.cost_micro_rub),
            )
            for attempt in queries.attempts_of(run)
        ]
        titles = ["№", _("Модель"), _("Исход"), _("Причина"), "HTTP", _("Время"), _("Токены"), _("Сумма")]
        return table(_("Вызовы провайдеров"), titles, rows) if rows else "—"


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display = ["started_at", "model", "provider", "outcome", "error_class", "http_status", "cost", "run"]
    list_filter = ["status", "error_class", "provider", "model", "started_at"]
    search_fields = ["id__exact", "run_id__exact"]
    ordering = ["-id"]
    nothing_yet = _("Попытка появляется с каждым обращением к модели.")
    fields = [
        "id", "run", "customer_id", "stage", "number", "model", "provider", "key_fingerprint", "outcome",
        "error_class", "http_status", "input_tokens", "output_tokens", "cost", "first_token_ms",
        "duration_ms", "started_at",
    ]  # fmt: skip

    @display(  # type: ignore[untyped-decorator]
        description=_("Исход"),
        ordering="status",
        label={"done": "success", "stopped": "default", "failed": "danger"},
    )
    def outcome(self, attempt: Attempt) -> tuple[str, str]:
        return attempt.status, _outcome(attempt)

    @display(description=_("Сумма"), ordering="cost_micro_rub")  # type: ignore[untyped-decorator]
    def cost(self, attempt: Attempt) -> str:
        return money_exact(attempt.cost_micro_rub)

    @display(description=_("Запуск"))  # type: ignore[untyped-decorator]
    def run(self, attempt: Attempt) -> SafeString | str:
        return _link("orchestration_run", attempt.run_id)


@admin.register(CatalogueVersion)
class CatalogueVersionAdmin(ReadOnlyAdmin):
    list_display = ["number", "source", "sha256", "created_at"]
    search_fields = ["source", "sha256__exact"]
    ordering = ["-number"]


class SwitchedAdmin(OperatorActs, ReadOnlyAdmin):
    """Rows of the catalogue: the file says what they are, the operator whether they are offered."""

    actions_detail = ["switch_on", "switch_off"]

    def switch(self, row_id: str, is_enabled: bool, reason: str) -> Act:
        raise NotImplementedError

    def has_switch_on_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may_switch(request, object_id, is_enabled=True)

    def has_switch_off_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may_switch(request, object_id, is_enabled=False)

    @action(  # type: ignore[untyped-decorator]
        description=_("Включить"),
        url_path="enable",
        permissions=["act", "switch_on"],
        dialog={
            "title": _("Включить"),
            "description": _("Клиенты увидят это в списке моделей через несколько секунд."),
            "form_class": ReasonForm,
            "form_submit_text": _("Включить"),
        },
    )
    def switch_on(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        return self._switch(request, form, object_id, is_enabled=True)

    @action(  # type: ignore[untyped-decorator]
        description=_("Выключить"),
        url_path="disable",
        permissions=["act", "switch_off"],
        dialog={
            "title": _("Выключить"),
            "description": _("Новые запросы сюда не пойдут. Начатые ответы дойдут до конца."),
            "form_class": ReasonForm,
            "form_submit_text": _("Выключить"),
        },
    )
    def switch_off(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        return self._switch(request, form, object_id, is_enabled=False)

    def _switch(
        self, request: HttpRequest, form: ReasonForm, object_id: str, *, is_enabled: bool
    ) -> HttpResponse:
        act = self.switch(unquote(object_id), is_enabled, form.cleaned_data["reason"])
        done = _("Включено.") if is_enabled else _("Выключено.")
        return self.perform(request, act, done=done, refusals=REFUSALS, object_id=object_id)

    def _may_switch(self, request: HttpRequest, object_id: str | None, *, is_enabled: bool) -> bool:
        """The button that would change nothing is not shown."""
        if not object_id:
            return False
        rows: QuerySet[Any] = self.model._default_manager.filter(pk=unquote(object_id))
        return rows.exclude(is_enabled=is_enabled).exists()


@admin.register(Model)
class ModelAdmin(SwitchedAdmin):
    list_display = [
        "id",
        "label",
        "provided_by",
        "price",
        "context_tokens",
        "quality",
        "hosted_region",
        "is_enabled",
    ]
    list_filter = ["is_enabled", "provider", "hosted_region", "privacy_tier"]
    search_fields = ["id", "label", "upstream_id"]
    ordering = ["id"]
    fields = [
        "id", "label", "provider", "upstream_id", "description_ru", "capabilities_list", "context_tokens",
        "max_output_tokens", "quality", "privacy_tier", "hosted_region", "risk", "price", "is_enabled",
    ]  # fmt: skip

    def switch(self, row_id: str, is_enabled: bool, reason: str) -> Act:
        return lambda _now, actor: switching.switch_model(
            model_id=row_id, is_enabled=is_enabled, reason=reason, actor=actor
        )

    @display(description=_("Провайдер"), ordering="provider_id")  # type: ignore[untyped-decorator]
    def provided_by(self, model: Model) -> str:
        return str(model.provider_id)

    @display(description=_("Возможности"))  # type: ignore[untyped-decorator]
    def capabilities_list(self, model: Model) -> str:
        return ", ".join(model.capabilities)

    @display(description=_("Цена за 1 млн, вход / выход"))  # type: ignore[untyped-decorator]
    def price(self, model: Model) -> SafeString | str:
        """From the snapshot, so that a list of models asks the database for no price."""
        offer = catalogue.current().offers.get(model.id)
        if offer is None or offer.price is None:
            return "—"
        price = offer.price
        address = f"{reverse('admin:billing_priceversion_changelist')}?{urlencode({'q': model.id})}"
        markup = _units(price.markup_bp * 100)
        sums = f"{_units(price.input)} / {_units(price.output)} {price.currency} × {markup}"
        return format_html('<a href="{}">{}</a>', address, sums)


@admin.register(Provider)
class ProviderAdmin(SwitchedAdmin):
    list_display = ["id", "label", "wire", "country", "base_url", "is_enabled"]
    list_filter = ["is_enabled", "wire", "country"]
    search_fields = ["id", "label"]
    ordering = ["id"]
    fields = ["id", "label", "wire", "base_url", "country", "models_list", "is_enabled"]

    def switch(self, row_id: str, is_enabled: bool, reason: str) -> Act:
        return lambda _now, actor: switching.switch_provider(
            provider_id=row_id, is_enabled=is_enabled, reason=reason, actor=actor
        )

    @display(description=_("Модели"))  # type: ignore[untyped-decorator]
    def models_list(self, provider: Provider) -> SafeString:
        rows = ((_link("orchestration_model", model.id),) for model in provider.models.order_by("id"))
        return format_html_join(", ", "{}", rows)


def _outcome(attempt: Attempt) -> str:
    """An attempt ends as a run does."""
    return str(RunState(attempt.status).label)


def _link(name: str, row_id: Any, *, text: str = "") -> SafeString | str:
    """The back-office page of a row of any app, by name; plain text while that app has none."""
    try:
        address = reverse(f"admin:{name}_change", args=[row_id])
    except NoReverseMatch:
        return text or str(row_id)
    return format_html(LINK, address, text or row_id)


def _units(millionths: int) -> str:
    """Millionths of a unit as a decimal number without trailing zeros."""
    return str(localize((Decimal(millionths) / 1_000_000).normalize()))
