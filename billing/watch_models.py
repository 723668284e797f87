"""The tables of what watches over money: roll-ups of usage, findings, alerts about balances.

None of them moves money. Roll-ups are computed from usage rows and may be computed again at any time.
Part of `billing/models.py`, which is long enough.
"""

from django.db import models


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
