"""Back office «Счета и УПД»: organisations, invoices, bank statements, lines, decisions, closing documents.

All may be read, nothing edited; the buttons call the acts of `issuing` and `bank`.
"""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display

from accounts.people import CustomerByEmail, customer_words
from auditlog.admin import OperatorActs, ReadOnlyAdmin
from auditlog.requests import operator_of
from billing import words
from billing.admin.base import link
from billing.templatetags.money import money_exact
from payments.invoices import bank, in_words, issuing, paper
from payments.invoices.api import pdf
from payments.invoices.back_office_forms import (
    ApprovalForm,
    AttachForm,
    BankFileForm,
    LineForm,
    RefusalForm,
    VoidForm,
)
from payments.invoices.errors import InvoicesNotConfigured, WrongBankFile
from payments.invoices.models import (
    BankDecision,
    BankLine,
    BankStatement,
    ClosingDocument,
    Invoice,
    Organisation,
)
from payments.invoices.requisites import Party
from plyrum import clock

# By the code of the error.
REFUSALS = {
    **words.REFUSALS,
    "invoice_closed": _("Счёт уже оплачен или отменён."),
    "invoice_differs": _("Сумма счёта другая: попросите клиента выставить счёт на пришедшую сумму."),
    "bank_line_closed": _("О строке уже решено, или решение ждёт второго человека."),
}


class FirmAdmin(CustomerByEmail, OperatorActs, ReadOnlyAdmin):
    """What the pages share: whose it is, and the sum to the last micro-rouble."""

    @display(description=_("Сумма"), ordering="amount_micro_rub")  # type: ignore[untyped-decorator]
    def amount(self, row: Any) -> str:
        return money_exact(row.amount_micro_rub)

    @display(description=_("Клиент"))  # type: ignore[untyped-decorator]
    def customer(self, row: Any) -> SafeString:
        customer_id = getattr(row, "customer_id", None) or row.owner_id
        return link("accounts_user", customer_id, customer_words(row, customer_id))

    @display(description=_("Номер"), ordering=["year", "number"])  # type: ignore[untyped-decorator]
    def document(self, row: Any) -> str:
        return str(row.title)

    @display(description=_("в том числе НДС"))  # type: ignore[untyped-decorator]
    def vat(self, row: Any) -> str:
        return f"{in_words.percent(row.vat_rate_bp)} %, {money_exact(row.vat_micro_rub)}"

    @display(description=_("Продавец"))  # type: ignore[untyped-decorator]
    def sold_by(self, row: Any) -> str:
        return _named(row.seller)

    @display(description=_("Покупатель"))  # type: ignore[untyped-decorator]
    def bought_by(self, row: Any) -> str:
        return _named(row.buyer)


@admin.register(Organisation)
class OrganisationAdmin(FirmAdmin):
    customer_field = "owner_id"
    list_display = ["name", "inn", "kpp", "customer", "created_at", "updated_at"]
    search_fields = ["id__exact", "owner_id__exact", "inn__exact", "name"]
    ordering = ["-id"]
    nothing_yet = _("Организация появляется, когда клиент заполняет реквизиты на странице «Документы».")


@admin.register(Invoice)
class InvoiceAdmin(FirmAdmin):
    list_display = ["document", "document_date", "amount", "state", "organisation", "customer", "valid_until"]
    list_filter = ["status", "document_date"]
    list_select_related = ["organisation"]
    search_fields = ["id__exact", "customer_id__exact", "number__exact", "organisation__inn__exact"]
    ordering = ["-id"]
    nothing_yet = _("Счёт выставляет себе клиент на странице «Документы».")
    fields = [
        "document",
        "status",
        "document_date",
        "valid_until",
        "amount",
        "vat",
        "bought_by",
        "sold_by",
        "purpose",
        "organisation",
        "customer",
        "acceptance_id",
        "issued_at",
        "closed_at",
    ]
    readonly_fields = fields
    actions_detail = ["print_invoice", "void_invoice"]

    @display(  # type: ignore[untyped-decorator]
        description=_("Состояние"),
        ordering="status",
        label={"paid": "success", "issued": "info", "expired": "warning", "void": "default"},
    )
    def state(self, row: Invoice) -> tuple[str, str]:
        return row.status, row.get_status_display()

    @action(  # type: ignore[untyped-decorator]
        description=_("PDF"), url_path="pdf", icon="picture_as_pdf", permissions=["view"]
    )
    def print_invoice(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(Invoice, pk=self.id_from_path(object_id))
        return pdf(paper.invoice(row), f"invoice-{row.title}")

    def has_open_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        return Invoice.objects.filter(pk=self.id_from_path(object_id), status__in=Invoice.PAYABLE).exists()

    @action(  # type: ignore[untyped-decorator]
        description=_("Отменить счёт"),
        url_path="void",
        icon="block",
        permissions=["act", "open"],
        dialog={
            "title": _("Отменить счёт"),
            "description": _("Деньги, которые придут по нему, лягут в невыясненные."),
            "form_class": VoidForm,
            "form_submit_text": _("Отменить счёт"),
        },
    )
    def void_invoice(self, request: HttpRequest, form: VoidForm, object_id: str) -> HttpResponse:
        invoice_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: issuing.void(invoice_id=invoice_id, reason=reason, now=now, actor=actor),
            done=_("Счёт отменён."),
            refusals=REFUSALS,
            object_id=object_id,
        )


@admin.register(ClosingDocument)
class ClosingDocumentAdmin(FirmAdmin):
    list_display = ["document", "month", "amount", "organisation", "customer", "corrects", "document_date"]
    list_filter = ["month"]
    list_select_related = ["organisation", "corrects"]
    search_fields = ["id__exact", "customer_id__exact", "number__exact", "organisation__inn__exact"]
    ordering = ["-id"]
    nothing_yet = _("Закрывающие документы за месяц появляются в начале следующего.")
    fields = [
        "document",
        "month",
        "document_date",
        "amount",
        "rendered",
        "vat",
        "bought_by",
        "sold_by",
        "organisation",
        "customer",
        "corrects",
        "issued_at",
    ]
    readonly_fields = fields
    actions_detail = ["print_document"]

    @display(description=_("По проводкам"))  # type: ignore[untyped-decorator]
    def rendered(self, row: ClosingDocument) -> str:
        return money_exact(row.rendered_micro_rub)

    @action(  # type: ignore[untyped-decorator]
        description=_("PDF"), url_path="pdf", icon="picture_as_pdf", permissions=["view"]
    )
    def print_document(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(ClosingDocument, pk=self.id_from_path(object_id))
        return pdf(paper.closing_document(row), f"act-{row.title}")


@admin.register(BankStatement)
class BankStatementAdmin(FirmAdmin):
    list_display = ["imported_at", "format", "incoming", "fresh", "outgoing", "foreign"]
    ordering = ["-id"]
    nothing_yet = _("Загрузите файл из клиент-банка: 1С или CSV.")
    actions_list = ["import_file"]

    @action(  # type: ignore[untyped-decorator]
        description=_("Загрузить выписку"), url_path="import", icon="upload_file", permissions=["act"]
    )
    def import_file(self, request: HttpRequest) -> HttpResponse:
        """A page of its own: the dialogs of the back office take no files."""
        form = BankFileForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            try:
                done = bank.import_file(
                    content=form.cleaned_data["file"], now=clock.now(), actor=operator_of(request)
                )
            except WrongBankFile as error:
                line = error.extra["line"]
                form.add_error("file", gettext("Файл не прочитан, строка %(line)s.") % {"line": line})
            except InvoicesNotConfigured:
                form.add_error("file", gettext("Реквизиты продавца не указаны."))
            else:
                messages.success(request, _imported(done))
                return redirect("admin:payments_bankline_changelist")
        context = {**self.admin_site.each_context(request), "title": _("Загрузить выписку"), "form": form}
        return render(request, "admin/bank_import.html", context, status=422 if form.errors else 200)


@admin.register(BankLine)
class BankLineAdmin(FirmAdmin):
    list_display = ["booked_on", "amount", "state", "reason", "payer_name", "purpose", "invoice"]
    list_filter = ["status", "reason", "booked_on"]
    list_select_related = ["invoice"]
    search_fields = ["id__exact", "number__exact", "payer_inn__exact", "purpose"]
    ordering = ["-id"]
    nothing_yet = _("Строки приходят с загруженной выпиской банка.")
    fields = [
        "status",
        "reason",
        "amount",
        "booked_on",
        "number",
        "document_date",
        "ordinal",
        "payer_name",
        "payer_inn",
        "payer_account",
        "payer_bic",
        "purpose",
        "invoice",
        "statement",
        "decided_at",
    ]
    readonly_fields = fields
    actions_detail = ["attach_line", "return_line"]

    @display(  # type: ignore[untyped-decorator]
        description=_("Состояние"),
        ordering="status",
        label={"credited": "success", "suspense": "danger", "new": "warning", "returned": "default"},
    )
    def state(self, row: BankLine) -> tuple[str, str]:
        return row.status, row.get_status_display()

    def has_open_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        rows = BankLine.objects.filter(pk=self.id_from_path(object_id), status=BankLine.Status.SUSPENSE)
        return rows.exclude(decisions__state=BankDecision.State.WAITING).exists()

    @action(  # type: ignore[untyped-decorator]
        description=_("Зачислить по счёту"),
        url_path="attach",
        icon="link",
        permissions=["act", "open"],
        dialog={
            "title": _("Зачислить по счёту"),
            "description": _("Деньги из невыясненных лягут на баланс того, кому выставлен счёт."),
            "form_class": AttachForm,
            "form_submit_text": _("Зачислить"),
        },
    )
    def attach_line(self, request: HttpRequest, form: AttachForm, object_id: str) -> HttpResponse:
        line_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        invoice_id = form.cleaned_data["invoice"].id
        return self.perform(
            request,
            lambda now, actor: bank.attach(
                line_id=line_id, invoice_id=invoice_id, reason=reason, now=now, actor=actor
            ),
            done=_said,
            refusals=REFUSALS,
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Вернуть плательщику"),
        url_path="return",
        icon="undo",
        permissions=["act", "open"],
        dialog={
            "title": _("Вернуть плательщику"),
            "description": _("Сначала отправьте деньги платёжным поручением, потом отметьте здесь."),
            "form_class": LineForm,
            "form_submit_text": _("Возвращено"),
        },
    )
    def return_line(self, request: HttpRequest, form: LineForm, object_id: str) -> HttpResponse:
        line_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: bank.give_back(line_id=line_id, reason=reason, now=now, actor=actor),
            done=_said,
            refusals=REFUSALS,
            object_id=object_id,
        )


@admin.register(BankDecision)
class BankDecisionAdmin(FirmAdmin):
    list_display = ["created_at", "kind", "amount", "state", "line", "invoice", "reason"]
    list_filter = ["state", "kind", "created_at"]
    list_select_related = ["line", "invoice"]
    search_fields = ["id__exact", "maker_id__exact", "line__id__exact"]
    ordering = ["-id"]
    nothing_yet = _("Решение появляется, когда оператор разбирает невыясненное поступление.")
    fields = [
        "kind",
        "state",
        "amount",
        "line",
        "invoice",
        "reason",
        "maker_id",
        "checker_id",
        "created_at",
        "decided_at",
    ]
    readonly_fields = fields
    actions_detail = ["approve_decision", "refuse_decision"]

    def has_decide_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        """Somebody else's decision that waits."""
        rows = BankDecision.objects.filter(pk=self.id_from_path(object_id), state=BankDecision.State.WAITING)
        return rows.exclude(maker_id=self.id_from_path(str(request.user.pk))).exists()

    @action(  # type: ignore[untyped-decorator]
        description=_("Одобрить"),
        url_path="approve",
        icon="check",
        permissions=["act", "decide"],
        dialog={
            "title": _("Одобрить и выполнить"),
            "description": _("Деньги сдвинутся сразу и ровно так, как здесь написано."),
            "form_class": ApprovalForm,
            "form_submit_text": _("Одобрить"),
        },
    )
    def approve_decision(self, request: HttpRequest, form: ApprovalForm, object_id: str) -> HttpResponse:
        decision_id, shown = self.id_from_path(object_id), form.cleaned_data["sha256"]
        return self.perform(
            request,
            lambda now, actor: bank.approve(
                decision_id=decision_id, shown_sha256=shown, now=now, actor=actor
            ),
            done=_said,
            refusals=REFUSALS,
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Отклонить"),
        url_path="refuse",
        icon="close",
        permissions=["act", "decide"],
        dialog={
            "title": _("Отклонить решение"),
            "description": _("Деньги останутся в невыясненных."),
            "form_class": RefusalForm,
            "form_submit_text": _("Отклонить"),
        },
    )
    def refuse_decision(self, request: HttpRequest, form: RefusalForm, object_id: str) -> HttpResponse:
        decision_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: bank.refuse(decision_id=decision_id, reason=reason, now=now, actor=actor),
            done=_("Решение отклонено."),
            refusals=REFUSALS,
            object_id=object_id,
        )


def _named(facts: dict[str, str]) -> str:
    party = Party.of(facts)
    numbers = ", ".join(number for number in (party.inn, party.kpp) if number)
    return f"{party.name}, {numbers}, {party.address}"


def _said(decision: BankDecision) -> str:
    if decision.state == BankDecision.State.WAITING:
        return gettext("Решение записано и ждёт второго человека. Деньги пока не двигались.")
    if decision.kind == BankDecision.Kind.RETURN:
        return gettext("Отмечено: деньги возвращены плательщику.")
    return gettext("Зачислено на баланс клиента.")


def _imported(statement: BankStatement) -> str:
    text = gettext(
        "Поступлений %(incoming)s, новых %(fresh)s; списаний %(outgoing)s, чужих счетов %(foreign)s."
    )
    return text % {
        "incoming": statement.incoming,
        "fresh": statement.fresh,
        "outgoing": statement.outgoing,
        "foreign": statement.foreign,
    }
