"""What the pages of money share: columns under their labels, links, values in words."""

from datetime import date, datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db.models import BooleanField, Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import localize
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from accounts.people import CustomerByEmail, customer_words
from auditlog.admin import LINK, ReadOnlyAdmin

# The tables' own names are for programs; these are for operators.
LABELS: dict[str, Promise | str] = {
    "id": _("Номер"),
    "customer_id": _("Кошелёк"),
    "seq": _("№ в кошельке"),
    "created_at": _("Записано"),
    "effective_at": _("Произошло"),
    "expires_at": _("До"),
    "resolved_at": _("Закрыт"),
    "valid_from": _("Действует с"),
    "rate_date": _("Дата курса"),
    "debit_account": _("Откуда"),
    "credit_account": _("Куда"),
    "key": _("Ключ"),
    "type": _("Вид"),
    "kind": _("Вид"),
    "state": _("Состояние"),
    "status": _("Состояние"),
    "spend_class": _("Очередь трат"),
    "is_spent": _("Израсходован"),
    "is_free": _("Бесплатно"),
    "model": _("Модель"),
    "provider": _("Провайдер"),
    "input_tokens": _("Вход, токенов"),
    "cached_input_tokens": _("из них из кэша"),
    "cache_write_tokens": _("из них в кэш"),
    "output_tokens": _("Выход, токенов"),
    "reasoning_tokens": _("из них рассуждения"),
    "images": _("Изображений"),
    "estimated": _("По оценке"),
    "api_key_id": _("Ключ API"),
    "sku": _("Артикул"),
    "number": _("Версия"),
    "currency": _("Валюта"),
    "source": _("Источник"),
    "reason": _("Причина"),
    "ticket": _("Обращение"),
    "decided_at": _("Решено"),
    "refusal_reason": _("Почему отклонён"),
    "sha256": _("Хеш запроса"),
    "subject": _("Кому"),
    "window": _("За"),
    "set_by": _("Кто поставил"),
    "author_id": _("Автор"),
    "ends_at": _("До"),
    "lifted_by_id": _("Кто открыл"),
    "lifted_at": _("Открыто"),
    "lift_reason": _("Почему открыл"),
    "tier": _("Кто"),
    "per_minute": _("В минуту"),
    "per_hour": _("В час"),
    "level": _("Риск"),
    "requests": _("Ответов"),
    "computed_at": _("Посчитано"),
    "check_id": _("Проверка"),
    "object": _("Объект"),
    "detail": _("Что не так"),
    "first_seen_at": _("Впервые"),
    "last_seen_at": _("Последний раз"),
    "day": _("День"),
    "wallets": _("Кошельков"),
    "entries": _("Проводок"),
    "is_low": _("Письмо отправлено"),
}


class MoneyAdmin(CustomerByEmail, ReadOnlyAdmin):
    """Columns under their labels; the customer as a link."""

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [self._labelled(name) for name in self.list_display]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [self._labelled(name) for name in self.fields]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return self.get_fields(request, obj)

    def _labelled(self, name: str) -> Any:
        """A plain column under its label; a method of this class has its own."""
        return name if hasattr(type(self), name) else _column(self.model, name)

    @display(description=_("Клиент"), ordering="customer_id")  # type: ignore[untyped-decorator]
    def customer(self, row: Any) -> SafeString | str:
        if row.customer_id is None:
            return ""
        return link("accounts_user", row.customer_id, customer_words(row, row.customer_id))


@cache
def _column(model: type[Model], name: str) -> Any:
    field = model._meta.get_field(name)

    @display(description=LABELS[name], ordering=name, boolean=isinstance(field, BooleanField))  # type: ignore[untyped-decorator]
    def column(row: Any) -> Any:
        value, in_words = getattr(row, name), getattr(row, f"get_{name}_display", None)
        if isinstance(field, BooleanField):
            return value  # shown as a sign
        return in_words() if in_words else shown(value)

    column.__name__ = name
    return column


def link(page: str, key: UUID | int | str, words: str = "") -> SafeString:
    """A link to the admin page of one row."""
    address = reverse(f"admin:{page}_change", args=[key])
    return format_html(LINK, address, words or key)


def list_link(page: str, words: str, **query: str) -> SafeString:
    address = reverse(f"admin:{page}_changelist")
    return format_html(LINK, f"{address}?{urlencode(query)}", words)


def shown(value: Any) -> str:
    """A value in the operator's words; times in the zone of the site."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        value = localtime(value)
    return str(localize(value)) if isinstance(value, date) else str(value)
