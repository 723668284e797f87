"""Tables of what answers brought and cost us, refreshed by `billing/costs.py`; read by operators.

Everything here is computed again from usage rows and entries: nothing depends on it but pages. Imported by
`billing/models.py`.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _


class CostDay(models.Model):
    """One customer's answers of one model on one day of Moscow: what they brought, what they cost us."""

    day = models.DateField("день")
    customer_id = models.UUIDField("клиент")
    model = models.CharField("модель", max_length=100)
    requests = models.IntegerField("запросов")
    revenue_micro_rub = models.BigIntegerField("выручка, мк₽")  # charged, less what was taken back that day
    cost_micro_rub = models.BigIntegerField("себестоимость, мк₽")  # of the provider, with spread, no markup

    class Meta:
        verbose_name = _("день себестоимости")
        verbose_name_plural = _("себестоимость")
        constraints = [
            models.UniqueConstraint(fields=["day", "customer_id", "model"], name="billing_costday_one"),
        ]
        indexes = [models.Index(fields=["customer_id", "day"], name="billing_costday_of_customer")]

    def __str__(self) -> str:
        return f"cost {self.day} {self.model}"


class CustomerRisk(models.Model):
    """How carefully to look at a customer, by rules over the last days; see `costs.judge`."""

    class Level(models.TextChoices):
        LOW = "low", _("низкий")
        MEDIUM = "medium", _("средний")
        HIGH = "high", _("высокий")

    class Reason(models.TextChoices):
        LOSS = "loss", _("ответы стоят дороже, чем приносят")
        THIN_MARGIN = "thin_margin", _("почти без наценки")
        DISPUTE = "dispute", _("опротестованный платёж")
        REFUNDS = "refunds", _("много возвратов")
        FAST_SPENDING = "fast_spending", _("новый и быстро тратит")

    customer_id = models.UUIDField("клиент", primary_key=True)
    level = models.CharField("риск", max_length=6, choices=Level)
    reasons = ArrayField(models.CharField(max_length=16, choices=Reason), verbose_name="почему")
    requests = models.IntegerField("запросов")
    revenue_micro_rub = models.BigIntegerField("выручка, мк₽")
    cost_micro_rub = models.BigIntegerField("себестоимость, мк₽")
    topped_up_micro_rub = models.BigIntegerField("пополнено, мк₽")
    refunded_micro_rub = models.BigIntegerField("возвращено и опротестовано, мк₽")
    computed_at = models.DateTimeField("посчитано")

    class Meta:
        verbose_name = _("риск клиента")
        verbose_name_plural = _("риск клиентов")
        indexes = [models.Index(fields=["level", "customer_id"], name="billing_risk_by_level")]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.customer_id}"
