"""Words for people about a payment: why it did not pass, how it was paid, what happened when. Pure."""

from datetime import datetime
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from payments.models import Payment

Words = Promise | str

_CARD_DATA = _("Банк не принял данные карты. Проверьте их или выберите СБП.")
_BANK_REFUSED = _("Банк отклонил платёж. Причину знает только банк; СБП обычно помогает.")
_NO_ANSWER = _("Банк не ответил. Если деньги списаны, они придут на баланс сами; проверим и напишем.")
_NOT_OPENED = _("Платёж не открылся. Деньги не списаны.")

# Source: UX guide 7.3. Fraud is never named to the payer.
_REASONS: dict[str, Words] = {
    "insufficient_funds": _("На карте не хватило денег. Попробуйте другую карту или СБП."),
    "card_expired": _CARD_DATA,
    "invalid_card_number": _CARD_DATA,
    "invalid_csc": _CARD_DATA,
    "3d_secure_failed": _("Подтверждение в банке не завершено. Повторите и введите код."),
    "expired_on_confirmation": _("Время оплаты вышло. Деньги не списаны."),
    "call_issuer": _BANK_REFUSED,
    "general_decline": _BANK_REFUSED,
    "payment_method_restricted": _BANK_REFUSED,
    "payment_method_limit_exceeded": _BANK_REFUSED,
    "fraud_suspected": _BANK_REFUSED,
    "country_forbidden": _("Карты этой страны не принимаются. Нужна карта российского банка или СБП."),
    "permission_revoked": _("Автопополнение выключено в банке. Мы его остановили."),
    "canceled_by_merchant": _("Платёж отменён по вашей просьбе."),
    "provider_refused": _NOT_OPENED,
    "never_created": _NOT_OPENED,
}

# Why ЮKassa could not be asked, by the code of the error.
OPERATORS_REFUSALS: dict[str, Words] = {
    "payment_provider_unavailable": _("ЮKassa сейчас не отвечает. Состояние прежнее, спросим ещё раз сами."),
    "payment_outcome_unknown": _(
        "ЮKassa ещё не подтвердила платёж. Дважды он не пройдёт, спросим ещё раз сами."
    ),
    "payment_provider_refused": _("ЮKassa отказалась создать платёж: проверьте настройки магазина."),
}

_METHODS: dict[str, Words] = {
    "bank_card": _("Банковская карта"),
    "sbp": _("СБП"),
    "sberbank": "SberPay",
    "tinkoff_bank": "T-Pay",
    "yoo_money": _("ЮMoney"),
}

_VAT: dict[int, Words] = {
    1: _("Без НДС"),
    2: _("НДС 0 %"),
    3: _("В том числе НДС 10 %"),
    4: _("В том числе НДС 20 %"),
    5: _("В том числе НДС 10/110"),
    6: _("В том числе НДС 20/120"),
    7: _("В том числе НДС 5 %"),
    8: _("В том числе НДС 7 %"),
    9: _("В том числе НДС 5/105"),
    10: _("В том числе НДС 7/107"),
    11: _("В том числе НДС 22 %"),
    12: _("В том числе НДС 22/122"),
}


def cancellation(reason: str) -> Words:
    """Why a payment did not pass and what to do; a reason that we do not know promises nothing false."""
    return _REASONS.get(reason, _NO_ANSWER)


def method(name: str) -> Words:
    """How it was paid; a new method of the provider is shown by its own name."""
    return _METHODS.get(name, name)


def vat(code: int) -> Words:
    return _VAT.get(code, "")


def timeline(payment: Payment) -> list[dict[str, Any]]:
    """What happened, in order: {title, at, text, state} for the timeline component."""
    items = [_item(_("Заказ создан"), payment.created_at, "", "done")]
    if payment.status in (Payment.Status.CREATED, Payment.Status.UNKNOWN):
        return [*items, _item(_("Открываем страницу оплаты"), None, "", "now")]
    if payment.confirmation_url:
        items.append(_item(_("Страница оплаты открыта"), None, "", "done"))
    if payment.is_paid and payment.succeeded_at:
        items.append(_item(_("Банк подтвердил оплату"), payment.succeeded_at, method(payment.method), "done"))
        items.append(_item(_("Деньги на балансе"), None, "", "done"))
    elif payment.status == Payment.Status.CANCELED:
        text = cancellation(payment.cancellation_reason)
        items.append(_item(_("Платёж не прошёл"), payment.updated_at, text, "bad"))
    elif payment.status == Payment.Status.REVIEW:
        items.append(_item(_("Проверяем вручную"), payment.updated_at, "", "attention"))
    else:
        items.append(_item(_("Ждём подтверждения банка"), None, "", "now"))
    return items


def _item(title: Words, at: datetime | None, text: Words, state: str) -> dict[str, Any]:
    return {"title": title, "at": at, "text": text, "state": state}
