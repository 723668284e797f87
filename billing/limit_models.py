"""Tables of limits: what may be spent, how often one may ask, whose spending is stopped.

Written by the acts of `billing/limits.py` and `billing/request_rates.py`; how much of a limit is used counts
the ledger. Imported by `billing/models.py`.
"""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from auditlog import reasons
from plyrum.ids import uuid7


class Window(models.TextChoices):
    """One request, or a calendar hour, day or month of Moscow."""

    REQUEST = "request", _("запрос")
    HOUR = "hour", _("час")
    DAY = "day", _("день")
    MONTH = "month", _("месяц")


class SpendLimit(models.Model):
    """At most so much in a window for a subject; of several rows the lowest counts.

    Subjects: `user:<id>` and `key:<id>`; `tier:free`, `tier:paid`, `tier:plan` (every customer of that tier);
    `plan:<code>` (every subscriber of that plan); `organisation:<id>` (its members together);
    `gift:each` (every customer without money of their own) and `gift:all` (all of them together);
    `anonymous:each` and `anonymous:all`, which nothing spends from yet.
    """

    class SetBy(models.TextChoices):
        CUSTOMER = "customer", _("клиент")
        OPERATOR = "operator", _("оператор")

    id = models.UUIDField("номер", primary_key=True, default=uuid7)
    subject = models.CharField("кому", max_length=60)
    window = models.CharField("окно", max_length=8, choices=Window)
    limit_micro_rub = models.BigIntegerField("лимит, мк₽")
    # What was spent in the window that ran when it was set and no counter knows: counters begin with a limit.
    spent_before_micro_rub = models.BigIntegerField("потрачено до него, мк₽", default=0)
    set_by = models.CharField("кто поставил", max_length=8, choices=SetBy)
    author_id = models.UUIDField("автор")
    reason = models.CharField("причина", max_length=reasons.LONGEST, blank=True)  # a customer gives none
    created_at = models.DateTimeField("поставлен")

    class Meta:
        verbose_name = _("лимит трат")
        verbose_name_plural = _("лимиты трат")
        constraints = [
            models.UniqueConstraint(
                fields=["subject", "window", "set_by"], name="billing_spendlimit_one_of_each"
            ),
            models.CheckConstraint(
                condition=Q(limit_micro_rub__gte=0), name="billing_spendlimit_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(set_by="customer") | ~Q(reason=""), name="billing_spendlimit_operators_say_why"
            ),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name}: {self.get_window_display()}"


class LimitLift(models.Model):
    """An operator's exception: what a limit forbids is allowed until `ends_at`, the end of its window."""

    id = models.UUIDField("номер", primary_key=True, default=uuid7)
    subject = models.CharField("кому", max_length=60)  # the counter's: `gift:<customer>`, not `gift:each`
    window = models.CharField("окно", max_length=8, choices=Window)
    ends_at = models.DateTimeField("до")
    author_id = models.UUIDField("автор")
    reason = models.CharField("причина", max_length=reasons.LONGEST)
    created_at = models.DateTimeField("создано")

    class Meta:
        verbose_name = _("снятый лимит")
        verbose_name_plural = _("снятые лимиты")
        constraints = [
            models.UniqueConstraint(
                fields=["subject", "window", "ends_at"], name="billing_limitlift_one_a_window"
            ),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name}: {self.get_window_display()}"


class SpendingBlock(models.Model):
    """A customer may not spend: set and lifted by operators only. The account itself stays open."""

    id = models.UUIDField("номер", primary_key=True, default=uuid7)
    customer_id = models.UUIDField("клиент")
    author_id = models.UUIDField("кто закрыл")
    reason = models.CharField("причина", max_length=reasons.LONGEST)
    created_at = models.DateTimeField("закрыто")
    lifted_by_id = models.UUIDField("кто открыл", null=True)
    lift_reason = models.CharField("почему открыл", max_length=reasons.LONGEST, blank=True)
    lifted_at = models.DateTimeField("открыто", null=True)

    class Meta:
        verbose_name = _("запрет трат")
        verbose_name_plural = _("запреты трат")
        constraints = [
            models.UniqueConstraint(  # two open ones are alike in having no end
                fields=["customer_id", "lifted_at"],
                nulls_distinct=False,
                name="billing_spendingblock_one_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.customer_id}"


class RequestRate(models.Model):
    """How many requests a customer of this tier may make; rows are made by a migration, changed by an act."""

    class Tier(models.TextChoices):
        FREE = "free", _("без пополнений")
        PAID = "paid", _("с пополнением")
        PLAN = "plan", _("с тарифом")

    tier = models.CharField("кто", max_length=8, choices=Tier, primary_key=True)
    per_minute = models.IntegerField("в минуту")
    per_hour = models.IntegerField("в час")

    class Meta:
        verbose_name = _("частота запросов")
        verbose_name_plural = _("частота запросов")
        constraints = [
            models.CheckConstraint(
                condition=Q(per_minute__gt=0, per_hour__gte=models.F("per_minute")),
                name="billing_requestrate_above_zero",
            ),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name}: {self.get_tier_display()}"
