"""Tables of organisations, invoices, bank lines and closing documents.

Organisations change through `organisations`, invoices through `issuing` and `bank`, bank lines through
`bank`, closing documents through `closing` only. No row here is money: money is what `billing.ledger` wrote.
The snapshot of an invoice and every closing document are frozen by the database.
"""

from datetime import date

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from plyrum.ids import uuid7

PROTECTED_TABLES = ("payments_closingdocument",)


class Organisation(models.Model):
    """Who buys: the requisites that documents name. One for each user, who is its owner."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner_id = models.UUIDField(_("владелец"), unique=True)
    name = models.CharField(_("название"), max_length=160)
    inn = models.CharField(_("ИНН"), max_length=12)
    kpp = models.CharField(_("КПП"), max_length=9, blank=True)
    ogrn = models.CharField(_("ОГРН"), max_length=15, blank=True)
    address = models.CharField(_("адрес"), max_length=250)
    bank_name = models.CharField(_("банк"), max_length=45, blank=True)
    bic = models.CharField(_("БИК"), max_length=9, blank=True)
    account = models.CharField(_("расчётный счёт"), max_length=20, blank=True)
    correspondent_account = models.CharField(_("корреспондентский счёт"), max_length=20, blank=True)
    signatory = models.CharField(_("кто подписывает"), max_length=160, blank=True)
    created_at = models.DateTimeField(_("создана"))
    updated_at = models.DateTimeField(_("изменена"))

    class Meta:
        verbose_name = _("организация")
        verbose_name_plural = _("организации")

    def __str__(self) -> str:
        return self.name


class DocumentCounter(models.Model):
    """The last number given to a document of a kind in a year, taken within the issuing transaction."""

    class Kind(models.TextChoices):
        INVOICE = "invoice", _("счёт")
        CLOSING = "closing", _("закрывающий документ")

    kind = models.CharField(_("вид"), max_length=8, choices=Kind)
    year = models.PositiveSmallIntegerField(_("год"))
    last = models.PositiveIntegerField(_("последний номер"))

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "year"], name="payments_counter_one_a_year"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.year}: {self.last}"


class Document(models.Model):
    """What invoices and closing documents share: a number without gaps and a snapshot of everything said."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organisation = models.ForeignKey(Organisation, models.PROTECT, verbose_name=_("организация"))
    customer_id = models.UUIDField(_("клиент"))
    year = models.PositiveSmallIntegerField(_("год"))
    number = models.PositiveIntegerField(_("номер"))
    document_date = models.DateField(_("дата"))  # of Moscow
    seller = models.JSONField(_("продавец"))  # the fields of requisites.Party, as are those of `buyer`
    buyer = models.JSONField(_("покупатель"))
    # [{name, unit, quantity, price_micro_rub, amount_micro_rub}]; the amount includes VAT.
    lines = models.JSONField(_("строки"))
    amount_micro_rub = models.BigIntegerField(_("сумма, мкруб"))
    vat_rate_bp = models.PositiveIntegerField(_("ставка НДС, б. п."))
    vat_micro_rub = models.BigIntegerField(_("НДС, мкруб"))  # within the amount, in whole kopecks
    issued_at = models.DateTimeField(_("выставлен"))

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.title

    @property
    def title(self) -> str:
        """The number as people and bank orders write it: "26-000123"."""
        return f"{self.year % 100:02d}-{self.number:06d}"


class Invoice(Document):
    """A bill to be paid from a bank account.

    issued -> paid | void | expired; expired -> paid (the money came late, but names invoice, payer and sum).
    Each move is one conditional update with a journal entry; the snapshot never changes.
    """

    class Status(models.TextChoices):
        ISSUED = "issued", _("ждёт оплаты")
        PAID = "paid", _("оплачен")
        EXPIRED = "expired", _("срок вышел")
        VOID = "void", _("отменён")

    PAYABLE = (Status.ISSUED, Status.EXPIRED)

    status = models.CharField(_("состояние"), max_length=8, choices=Status, default=Status.ISSUED)
    purpose = models.CharField(_("назначение платежа"), max_length=210)
    valid_until = models.DateField(_("действует по"))
    client_key = models.CharField(_("ключ клиента"), max_length=260, blank=True)
    fingerprint = models.CharField(_("отпечаток запроса"), max_length=64, blank=True)
    acceptance_id = models.UUIDField(_("принятие оферты"))
    closed_at = models.DateTimeField(_("оплачен или закрыт"), null=True, blank=True)

    class Meta:
        verbose_name = _("счёт")
        verbose_name_plural = _("счета")
        constraints = [
            models.UniqueConstraint(fields=["year", "number"], name="payments_invoice_one_per_number"),
            models.CheckConstraint(
                condition=Q(amount_micro_rub__gt=0, vat_micro_rub__gte=0)
                & Q(vat_micro_rub__lt=F("amount_micro_rub")),
                name="payments_invoice_amounts_make_sense",
            ),
            models.UniqueConstraint(
                fields=["customer_id", "client_key"],
                condition=~Q(client_key=""),
                name="payments_invoice_one_per_client_key",
            ),
        ]
        indexes = [
            models.Index(fields=["customer_id", "-id"], name="payments_invoice_of_customer"),
            models.Index(fields=["valid_until"], name="payments_invoice_open", condition=Q(status="issued")),
        ]


class ClosingDocument(Document):
    """What was rendered to an organisation in a month (act, or status 2 or 1 of the UPD); never changed.

    When a charge of the month is taken back later, a new document corrects the newest one: it says the whole
    month again and names what it replaces.
    """

    month = models.DateField(_("месяц"))  # its first day
    corrects = models.OneToOneField("self", models.PROTECT, null=True, verbose_name=_("исправляет"))
    # To the last micro-rouble, as the ledger has it; the amount is this in whole kopecks, rounded down.
    rendered_micro_rub = models.BigIntegerField(_("оказано, мкруб"))

    class Meta:
        verbose_name = _("закрывающий документ")
        verbose_name_plural = _("закрывающие документы")
        constraints = [
            models.UniqueConstraint(fields=["year", "number"], name="payments_closing_one_per_number"),
            models.UniqueConstraint(
                fields=["organisation", "month"],
                condition=Q(corrects=None),
                name="payments_closing_one_a_month",
            ),
            models.CheckConstraint(
                condition=Q(amount_micro_rub__gte=0, rendered_micro_rub__gte=F("amount_micro_rub")),
                name="payments_closing_amounts_make_sense",
            ),
        ]
        indexes = [models.Index(fields=["customer_id", "-id"], name="payments_closing_of_customer")]


class BankStatement(models.Model):
    """One imported file: who gave it, its hash, what was in it. Outgoing lines are counted and not kept."""

    class Format(models.TextChoices):
        ONE_C = "1c", "1CClientBankExchange"
        CSV = "csv", "CSV"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    format = models.CharField(_("вид файла"), max_length=4, choices=Format)
    sha256 = models.CharField(_("SHA-256 файла"), max_length=64)
    imported_by = models.UUIDField(_("кто загрузил"))
    imported_at = models.DateTimeField(_("загружено"))
    incoming = models.PositiveIntegerField(_("поступлений"))
    fresh = models.PositiveIntegerField(_("из них новых"))
    outgoing = models.PositiveIntegerField(_("списаний"))
    foreign = models.PositiveIntegerField(_("чужих счетов"))

    class Meta:
        verbose_name = _("выписка банка")
        verbose_name_plural = _("выписки банка")

    def __str__(self) -> str:
        return f"{self.format} {self.sha256[:12]}"


class BankLine(models.Model):
    """One incoming transfer on our account, each bank document as often as one file tells it.

    new -> credited (invoice, payer and sum agree) | suspense; suspense -> credited | returned (an operator).
    """

    class Status(models.TextChoices):
        NEW = "new", _("ещё не разобрано")
        CREDITED = "credited", _("зачислено")
        SUSPENSE = "suspense", _("не выяснено")
        RETURNED = "returned", _("возвращено")

    class Reason(models.TextChoices):
        """Why the money did not find its invoice by itself."""

        NONE = "", ""
        NO_NUMBER = "no_number", _("в назначении нет номера счёта")
        UNKNOWN_INVOICE = "unknown_invoice", _("такого счёта нет")
        SEVERAL_INVOICES = "several_invoices", _("названо несколько счетов")
        OTHER_PAYER = "other_payer", _("ИНН плательщика другой")
        OTHER_AMOUNT = "other_amount", _("сумма другая")
        INVOICE_CLOSED = "invoice_closed", _("счёт уже оплачен или отменён")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    statement = models.ForeignKey(BankStatement, models.PROTECT, verbose_name=_("выписка"))
    number = models.CharField(_("номер документа"), max_length=20)
    document_date = models.DateField(_("дата документа"))
    booked_on = models.DateField(_("поступило"))
    amount_micro_rub = models.BigIntegerField(_("сумма, мкруб"))
    # Which of the equal documents of its file: 1, 2, ...
    ordinal = models.PositiveSmallIntegerField(_("место среди одинаковых"), default=1)
    payer_account = models.CharField(_("счёт плательщика"), max_length=34)
    payer_inn = models.CharField(_("ИНН плательщика"), max_length=12, blank=True)
    payer_name = models.CharField(_("плательщик"), max_length=300, blank=True)
    payer_bic = models.CharField(_("БИК плательщика"), max_length=9, blank=True)
    purpose = models.TextField(_("назначение платежа"), blank=True)
    status = models.CharField(_("состояние"), max_length=8, choices=Status, default=Status.NEW)
    reason = models.CharField(_("почему не зачислено"), max_length=16, choices=Reason, blank=True)
    # The invoice it paid. One line pays one invoice and an invoice is paid by one line.
    invoice = models.OneToOneField(Invoice, models.PROTECT, null=True, verbose_name=_("счёт"))
    decided_at = models.DateTimeField(_("решено"), null=True)

    class Meta:
        verbose_name = _("банковская строка")
        verbose_name_plural = _("банковские строки")
        constraints = [
            models.UniqueConstraint(
                fields=["document_date", "number", "payer_account", "amount_micro_rub", "ordinal"],
                name="payments_bankline_each_document_once",
            ),
            models.CheckConstraint(
                condition=Q(amount_micro_rub__gt=0), name="payments_bankline_amount_is_positive"
            ),
            models.CheckConstraint(
                condition=Q(status="credited", invoice__isnull=False)
                | ~Q(status="credited") & Q(invoice=None),
                name="payments_bankline_credited_by_invoice",
            ),
        ]
        indexes = [
            models.Index(
                fields=["id"],
                name="payments_bankline_open",
                condition=Q(status__in=("new", "suspense")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.document_date:%d.%m.%Y}"

    @property
    def document(self) -> tuple[date, str, str, int]:
        """What makes a document of a bank the same one."""
        return self.document_date, self.number, self.payer_account, self.amount_micro_rub


class BankDecision(models.Model):
    """What an operator decides about a line in suspense; above the limit a second operator has to approve.

    waiting -> done | refused; up to the limit it is done in the act that makes it.
    """

    class Kind(models.TextChoices):
        ATTACH = "attach", _("зачислить по счёту")
        RETURN = "return", _("вернуть плательщику")

    class State(models.TextChoices):
        WAITING = "waiting", _("ждёт второго человека")
        DONE = "done", _("выполнено")
        REFUSED = "refused", _("отклонено")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    line = models.ForeignKey(BankLine, models.PROTECT, verbose_name=_("строка"), related_name="decisions")
    kind = models.CharField(_("что"), max_length=6, choices=Kind)
    invoice = models.ForeignKey(Invoice, models.PROTECT, null=True, verbose_name=_("счёт"))
    amount_micro_rub = models.BigIntegerField(_("сумма, мкруб"))  # of the line, for the limit of a day
    reason = models.CharField(_("причина"), max_length=300)
    maker_id = models.UUIDField(_("кто просил"))
    checker_id = models.UUIDField(_("кто решил"), null=True)  # null: nobody had to
    state = models.CharField(_("состояние"), max_length=8, choices=State, default=State.WAITING)
    created_at = models.DateTimeField(_("создано"))
    decided_at = models.DateTimeField(_("решено"), null=True)

    class Meta:
        verbose_name = _("решение о строке")
        verbose_name_plural = _("решения о строках")
        constraints = [
            models.UniqueConstraint(
                fields=["line"], condition=Q(state="waiting"), name="payments_decision_one_waits"
            ),
            models.CheckConstraint(
                condition=Q(checker_id=None) | ~Q(checker_id=F("maker_id")),
                name="payments_decision_two_people",
            ),
        ]
        indexes = [models.Index(fields=["maker_id", "decided_at"], name="payments_decision_of_maker")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.line_id}"
