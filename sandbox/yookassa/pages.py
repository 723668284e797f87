"""The words and markup of the payment page and of the list of payments. Pure: values in, Markup out.

Called by `hosted` and the index page.
"""

from collections.abc import Mapping

from sandbox.clock import iso
from sandbox.html import Markup, fill, join
from sandbox.yookassa import cards
from sandbox.yookassa.requests import ListQuery
from sandbox.yookassa.shapes import Payment
from sandbox.yookassa.shop import Shop

STATES = {
    "pending": ("ждёт оплаты", "wait"),
    "waiting_for_capture": ("ждёт списания", "wait"),
    "succeeded": ("оплачен", "ok"),
    "canceled": ("отменён", "bad"),
}
LISTED = 100

SUMMARY = """<section class="card summary" aria-labelledby="sum">
<p class="ribbon">ЮKassa · песочница</p>
<h1 id="sum" class="sum" data-test="amount">{amount}</h1>
<p class="what" data-test="description">{description}</p>
<dl class="facts"><div><dt>Магазин</dt><dd>Plyrum, тестовый магазин 900001</dd></div>
<div><dt>Платёж</dt><dd class="mono">{id}</dd></div></dl>
</section>
"""

FORM = """{summary}
{alert}
{card}
{sbp}
<p class="leave"><a href="{return_url}" data-test="leave">Вернуться в магазин без оплаты</a></p>
"""

CARD = """<section class="card" aria-labelledby="by-card">
<h2 id="by-card">Банковская карта</h2>
<form method="post" action="/yookassa/pay/{id}/card" novalidate data-test="card-form">
{number}
<div class="pair">{expiry}{csc}</div>
<button class="primary" data-test="pay-card">Оплатить {amount}</button>
</form>
<details class="hint"><summary>Тестовые карты</summary>
<p>Нажмите на номер, и форма заполнится. Срок подойдёт любой будущий, код — любой.</p>
{cards}
</details>
</section>
"""

SBP = """<section class="card" aria-labelledby="by-sbp">
<h2 id="by-sbp">СБП</h2>
<p class="note">В жизни здесь код QR и приложение банка. В песочнице за банк отвечаете вы.</p>
<form method="post" action="/yookassa/pay/{id}/sbp" class="answers">
<button class="secondary" name="answer" value="confirm" data-test="sbp-confirm">Банк подтверждает</button>
<button class="quiet" name="answer" value="refuse" data-test="sbp-refuse">Банк отказывает</button>
</form>
</section>
"""

FIELD = """<div class="field">
<label for="{name}">{label}</label>
<input id="{name}" name="{name}" value="{value}" inputmode="numeric" autocomplete="{autocomplete}"
 placeholder="{example}" data-test="card-{name}"{state}>
{problem}
</div>
"""

FINISHED = """{summary}
<section class="card verdict {tone}" data-test="finished" data-status="{status}">
<h2>{title}</h2>
<p>{text}</p>
<p><a class="button primary" href="{return_url}" data-test="return">Вернуться в магазин</a></p>
</section>
"""

VERDICTS = {
    "succeeded": ("Платёж уже оплачен", "Второй раз платить не нужно."),
    "waiting_for_capture": ("Деньги зарезервированы", "Магазин подтвердит списание или вернёт деньги."),
    "canceled": ("Платёж отменён", "Деньги не списаны. Начните новую оплату в магазине."),
}

MISSING = """<section class="card"><h1>Платёж не найден</h1>
<p>Проверьте ссылку или начните оплату в магазине ещё раз. Если песочницу перезапустили без файла данных,
прежние платежи в ней не остались.</p>
<p><a href="/yookassa/payments">Открыть список платежей</a></p></section>
"""


def rubles(kopecks: int) -> str:
    """Write a sum for people: `1 500,00 ₽` with no-break spaces."""
    whole, rest = divmod(kopecks, 100)
    return f"{whole:,}".replace(",", "\u00a0") + f",{rest:02d}\u00a0₽"


def payment_form(payment: Payment, *, typed: Mapping[str, str], problems: Mapping[str, str]) -> Markup:
    """Render the page of a payment that waits for its payer."""
    card, sbp = Markup(), Markup()
    if payment.wanted_method in {None, "bank_card"}:
        card = fill(
            CARD,
            id=payment.id,
            amount=rubles(payment.amount_kopecks),
            number=_field("number", "Номер карты", "0000 0000 0000 0000", "cc-number", typed, problems),
            expiry=_field("expiry", "Срок", "ММ / ГГ", "cc-exp", typed, problems),
            csc=_field("csc", "Код CVC", "000", "cc-csc", typed, problems),
            cards=card_table(pay_path=f"/yookassa/pay/{payment.id}"),
        )
    if payment.wanted_method in {None, "sbp"} and payment.capture:
        sbp = fill(SBP, id=payment.id)
    return fill(
        FORM,
        summary=_summary(payment),
        alert=_alert(problems),
        card=card,
        sbp=sbp,
        return_url=payment.return_url,
    )


def finished(payment: Payment) -> Markup:
    """Render the page of a payment that has its outcome."""
    title, text = VERDICTS[payment.status]
    return fill(
        FINISHED,
        summary=_summary(payment),
        tone=STATES[payment.status][1],
        status=payment.status,
        title=title,
        text=text,
        return_url=payment.return_url,
    )


def missing() -> Markup:
    return Markup(MISSING)


def payments(shop: Shop) -> Markup:
    """Render the list of the newest payments."""
    listed, _ = shop.payments(ListQuery(conditions=(), values=(), limit=LISTED, before_seq=None))
    if not listed:
        empty = "Платежей ещё нет. Они появятся, когда приложение создаст первый через API песочницы."
        return fill('<h1>Платежи</h1><p class="card empty" data-test="empty">{empty}</p>', empty=empty)
    rows = join(_payment_row(payment) for payment in listed)
    return fill(
        '<h1>Платежи</h1><div class="scroll">'
        '<table class="stack"><thead><tr>'
        "<th>Создан</th><th>Состояние</th><th class=num>Сумма</th><th>Описание</th>"
        "<th>Ссылка</th></tr></thead>"
        "<tbody>{rows}</tbody></table></div>",
        rows=rows,
    )


def card_table(*, pay_path: str | None = None) -> Markup:
    """Render the test cards by outcome; with `pay_path` each number is a link that fills the form."""
    groups = [_card_group("Оплата проходит", tuple(cards.SUCCESS), pay_path)]
    for reason, party, numbers in cards.DECLINES:
        label = reason if party == "payment_network" else f"{reason} ({party})"
        groups.append(_card_group(label, numbers, pay_path))
    return fill('<dl class="cards">{groups}</dl>', groups=join(groups))


def spaced(number: str) -> str:
    return " ".join(number[start : start + 4] for start in range(0, len(number), 4))


def _card_group(label: str, numbers: tuple[str, ...], pay_path: str | None) -> Markup:
    items = []
    for number in numbers:
        shown = spaced(number).replace(" ", "\u00a0")
        if pay_path is None:
            item = fill('<span class="mono">{shown}</span>', shown=shown)
        else:
            item = fill(
                '<a class="mono" href="{path}?card={number}">{shown}</a>',
                path=pay_path,
                number=number,
                shown=shown,
            )
        title = cards.SUCCESS.get(number)
        note = fill(" <small>{title}</small>", title=title) if title else Markup()
        items.append(fill("<li>{item}{note}</li>", item=item, note=note))
    return fill("<div><dt>{label}</dt><dd><ul>{items}</ul></dd></div>", label=label, items=join(items))


def _payment_row(payment: Payment) -> Markup:
    label, tone = STATES[payment.status]
    reason = payment.cancellation["reason"] if payment.cancellation else ""
    is_open = payment.status == "pending"
    return fill(
        '<tr data-test="payment" data-id="{id}">'
        '<td class="nowrap" data-label="Создан"><time datetime="{moment}">{shown}</time></td>'
        '<td data-label="Состояние"><span><span class="pill {tone}">{label}</span> '
        "<small>{reason}</small></span></td>"
        '<td class="num nowrap" data-label="Сумма">{amount}</td><td data-label="Описание">{description}</td>'
        '<td class="nowrap" data-label="Ссылка"><a href="/yookassa/pay/{id}">{action}</a></td></tr>',
        id=payment.id,
        moment=iso(payment.created_at),
        shown=iso(payment.created_at)[:19].replace("T", " "),
        tone=tone,
        label=label,
        reason=reason,
        amount=rubles(payment.amount_kopecks),
        description=payment.description or "без описания",
        action="Оплатить" if is_open else "Открыть",
    )


def _summary(payment: Payment) -> Markup:
    return fill(
        SUMMARY,
        amount=rubles(payment.amount_kopecks),
        description=payment.description or "Без описания",
        id=payment.id,
    )


def _alert(problems: Mapping[str, str]) -> Markup:
    if not problems:
        return Markup()
    text = "Оплата не начата: проверьте данные карты."
    return fill('<p class="alert" role="alert" data-test="form-error">{text}</p>', text=text)


def _field(
    name: str,
    label: str,
    example: str,
    autocomplete: str,
    typed: Mapping[str, str],
    problems: Mapping[str, str],
) -> Markup:
    problem, state = Markup(), Markup()
    if name in problems:
        problem = fill('<p class="problem" id="{name}-problem">{text}</p>', name=name, text=problems[name])
        state = fill(' aria-invalid="true" aria-describedby="{name}-problem"', name=name)
    return fill(
        FIELD,
        name=name,
        label=label,
        example=example,
        autocomplete=autocomplete,
        value=typed.get(name, ""),
        problem=problem,
        state=state,
    )
