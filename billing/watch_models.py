"""The tables of what watches over money: roll-ups of usage, findings, alerts about balances.

None of them moves money. Roll-ups are computed from usage rows and may be computed again at any time.
Part of `billing/models.py`, which is long enough.
"""

from django.db import models
from django.utils.translation import gettext_lazy as _

from plyrum.ids import uuid7


class UsageDay(models.Model):
    """A day of Moscow whose usage is rolled up, or soon will be: announced -> closed.

    `barrier` is a transaction id taken when the day was over: whoever wrote a usage row of the day began
    before it, see `billing/rollups.py`.
    """

    day = models.DateField("день", primary_key=True)
    barrier = models.BigIntegerField("граница")
    closed_at = models.DateTimeField("закрыт", null=True)

    class Meta:
        verbose_name = "день использования"
        verbose_name_plural = "дни использования"

    def __str__(self) -> str:
        return f"usage of {self.day}"


class UsageRollup(models.Model):
    """Sums of one customer's usage rows of a closed day, by model, API key and kind."""

    customer_id = models.UUIDField("клиент")
    day = models.DateField("день")
    model = models.CharField("модель", max_length=100)
    api_key_id = models.UUIDField("ключ API", null=True)
    kind = models.CharField("вид", max_length=20)
    requests = models.BigIntegerField("строк")
    input_tokens = models.BigIntegerField("токены запроса")
    output_tokens = models.BigIntegerField("токены ответа")
    cached_input_tokens = models.BigIntegerField("из кэша")
    cache_write_tokens = models.BigIntegerField("в кэш")
    reasoning_tokens = models.BigIntegerField("на размышление")
    images = models.BigIntegerField("картинки")
    cost_micro_rub = models.BigIntegerField("цена, мк₽")
    charged_micro_rub = models.BigIntegerField("списано, мк₽")

    class Meta:
        verbose_name = "итог использования"
        verbose_name_plural = "итоги использования"
        constraints = [
            models.UniqueConstraint(
                fields=["customer_id", "day", "model", "api_key_id", "kind"],
                name="billing_usagerollup_one_per_group",
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return f"usage of {self.customer_id} on {self.day}"


class FindingQuerySet(models.QuerySet["ReconciliationFinding"]):
    def standing(self) -> "FindingQuerySet":
        """What the checks still find, as far as anybody knows."""
        return self.exclude(state=ReconciliationFinding.State.CLOSED)


class ReconciliationFinding(models.Model):
    """Something that a check of the books found: one row for each check and object, whatever becomes of it.

    Checks are those of `verify_ledger` (V..) and of the reconciliation of usage and ledger (R..).
    """

    class State(models.TextChoices):
        # open -> explained | closed, explained -> closed; found again after closing, or in other words: open
        OPEN = "open", _("открыта")
        EXPLAINED = "explained", _("объяснена")
        CLOSED = "closed", _("закрыта")

    id = models.UUIDField("номер", primary_key=True, default=uuid7)
    check_id = models.CharField("проверка", max_length=20)
    object = models.TextField("объект")
    detail = models.TextField("что не так")
    first_seen_at = models.DateTimeField("впервые")
    last_seen_at = models.DateTimeField("последний раз")
    state = models.CharField("состояние", max_length=10, choices=State, default=State.OPEN)
    owner_id = models.UUIDField("кто разбирает", null=True)
    reason = models.CharField("объяснение", max_length=300, default="", blank=True)
    decided_by_id = models.UUIDField("кто решил", null=True)  # null and closed: the check finds it no more
    decided_at = models.DateTimeField("решено", null=True)

    objects = FindingQuerySet.as_manager()

    class Meta:
        verbose_name = _("находка сверки")
        verbose_name_plural = _("находки сверки")
        constraints = [
            models.UniqueConstraint(
                fields=["check_id", "object"], name="billing_reconciliationfinding_one_per_object"
            ),
        ]
        indexes = [models.Index(fields=["state", "-first_seen_at"], name="billing_finding_by_state")]

    def __str__(self) -> str:
        return f"{self.check_id} {self.object}"


class BalanceAlert(models.Model):
    """The customer's wish to hear when little is left: low once per fall, armed again by a rise."""

    customer_id = models.UUIDField("клиент", primary_key=True)
    threshold_micro_rub = models.BigIntegerField("порог, мк₽", null=True)  # null: off
    is_low = models.BooleanField("предупреждён", default=False)
    number = models.IntegerField("писем", default=0)  # of letters so far: the key of the next
    created_at = models.DateTimeField("создано")

    class Meta:
        verbose_name = _("предупреждение об остатке")
        verbose_name_plural = _("предупреждения об остатке")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(threshold_micro_rub__gt=0), name="billing_balancealert_above_zero"
            ),
        ]

    def __str__(self) -> str:
        return f"alert of {self.customer_id}"
