"""The back office's forms about invoices and bank lines. Each says what will happen before its button."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from auditlog import reasons
from billing import words
from billing.forms import Facts, FactsForm
from billing.templatetags.money import money_exact
from payments.invoices import bank, bank_files, queries
from payments.invoices.models import BankDecision, BankLine, Invoice
from payments.invoices.references import numbers_in


class ReasonForm(FactsForm):
    reason = forms.CharField(
        label=gettext_lazy("Причина"),
        min_length=reasons.SHORTEST,
        max_length=reasons.LONGEST,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=gettext_lazy("Останется в журнале вместе с вашим именем."),
    )


class VoidForm(ReasonForm):
    def facts(self) -> Facts:
        row = Invoice.objects.get(pk=self.row_id)
        return [
            (_("Счёт"), row.title),
            (_("Сумма"), money_exact(row.amount_micro_rub)),
            (_("ИНН"), row.buyer["inn"]),
        ]


class LineForm(ReasonForm):
    def __init__(
        self, request: HttpRequest, object_id: int | str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(request, object_id, *args, **kwargs)
        self.row = BankLine.objects.get(pk=self.row_id)

    def facts(self) -> Facts:
        return [
            (_("Сумма"), money_exact(self.row.amount_micro_rub)),
            (_("Плательщик"), f"{self.row.payer_name} {self.row.payer_inn}".strip()),
            (_("Назначение"), self.row.purpose),
            *words.limits(self.role)[1:],
        ]


class AttachForm(LineForm):
    """`cleaned_data["invoice"]` is the open invoice that was named."""

    invoice = forms.CharField(
        label=gettext_lazy("Номер счёта"),
        max_length=20,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Например 26-000123. Сумма счёта должна быть равна пришедшей."),
    )
    field_order = ["invoice"]

    def facts(self) -> Facts:
        near = [
            (_("Похож"), f"{row.title}, {money_exact(row.amount_micro_rub)}, {row.buyer['inn']}")
            for row in queries.suggestions(self.row)
        ]
        return [*super().facts(), *near]

    def clean_invoice(self) -> Invoice:
        named = numbers_in(self.cleaned_data["invoice"])
        for year, number in named:
            found = Invoice.objects.filter(year=year, number=number).first()
            if found is not None and len(named) == 1:
                return found
        raise ValidationError(_("Такого счёта нет."))


class DecisionForm(FactsForm):
    def __init__(
        self, request: HttpRequest, object_id: int | str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(request, object_id, *args, **kwargs)
        self.row = BankDecision.objects.select_related("line", "invoice").get(pk=self.row_id)

    def facts(self) -> Facts:
        decision = self.row
        rows = [
            (_("Что"), str(decision.get_kind_display())),
            (_("Сумма"), money_exact(decision.amount_micro_rub)),
            (_("Счёт"), decision.invoice.title if decision.invoice else ""),
            (_("Плательщик"), f"{decision.line.payer_name} {decision.line.payer_inn}".strip()),
            (_("Назначение"), decision.line.purpose),
            (_("Причина"), decision.reason),
        ]
        return [(name, value) for name, value in rows if value]


class ApprovalForm(DecisionForm):
    """Carries the hash of what it shows, so that nothing else can be approved by it."""

    sha256 = forms.CharField(max_length=64, widget=forms.HiddenInput)

    def __init__(
        self, request: HttpRequest, object_id: int | str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(request, object_id, *args, **kwargs)
        self.fields["sha256"].initial = bank.fingerprint(self.row)


class RefusalForm(DecisionForm, ReasonForm):
    """What is refused, and why."""


class BankFileForm(forms.Form):
    """A file of at most the size that can be read."""

    file = forms.FileField(
        label=gettext_lazy("Файл выписки"),
        widget=UnfoldAdminFileFieldWidget,
        help_text=gettext_lazy("1CClientBankExchange (.txt) или CSV со столбцами из документации, до 5 МБ."),
    )

    def clean_file(self) -> bytes:
        upload = self.cleaned_data["file"]
        if upload.size > bank_files.MAX_BYTES:
            raise ValidationError(_("Файл больше 5 МБ."))
        return bytes(upload.read())
