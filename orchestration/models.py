"""Tables of the catalogue and of runs.

Runs, attempts and frames are written by the functions of `orchestration/sql/` and read by everybody; they
carry the customer's id and no foreign keys across customers, so that they can be distributed by customer.
Prompts are not stored here: a run keeps what it decided, counted and cost.
"""

from uuid import UUID

from django.db import models
from django.db.models import Q


class CatalogueVersion(models.Model):
    """One publication of the catalogue: processes compare its number with the snapshot they hold."""

    number = models.AutoField("номер версии", primary_key=True)
    sha256 = models.CharField("хеш файла", max_length=64)
    source = models.CharField("источник", max_length=200)
    created_at = models.DateTimeField("создано", auto_now_add=True)

    class Meta:
        verbose_name = "версия каталога"
        verbose_name_plural = "версии каталога"

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.number}"


class Provider(models.Model):
    """A party that runs models, reached over one wire format."""

    class Wire(models.TextChoices):
        OPENAI_CHAT = "openai_chat", "OpenAI chat"
        ANTHROPIC_MESSAGES = "anthropic_messages", "Anthropic messages"
        GEMINI_GENERATE = "gemini_generate", "Gemini generate"
        OPENAI_IMAGES = "openai_images", "OpenAI images"

    id = models.CharField("номер", max_length=60, primary_key=True)
    label = models.CharField("название", max_length=100)
    wire = models.CharField("формат", max_length=30, choices=Wire)
    base_url = models.CharField("адрес", max_length=300)
    country = models.CharField("страна", max_length=2)
    is_enabled = models.BooleanField("включено", default=True)

    class Meta:
        verbose_name = "провайдер"
        verbose_name_plural = "провайдеры"

    def __str__(self) -> str:
        return self.id


class Model(models.Model):
    """What customers name and pay for. Its price is the newest billing.PriceVersion of SKU = id."""

    id = models.CharField("номер", max_length=100, primary_key=True)
    provider = models.ForeignKey(
        Provider, on_delete=models.PROTECT, related_name="models", verbose_name="провайдер"
    )
    upstream_id = models.CharField("имя у провайдера", max_length=100)
    label = models.CharField("название", max_length=100)
    description_ru = models.TextField("описание")
    capabilities = models.JSONField("умеет", default=list)
    context_tokens = models.IntegerField("помнит токенов")
    max_output_tokens = models.IntegerField("ответ до токенов")
    quality = models.JSONField("качество")  # prior 0..1, a number or a table by task type
    privacy_tier = models.CharField("класс данных", max_length=20)
    hosted_region = models.CharField("где обрабатывается", max_length=20)
    risk = models.CharField("риск", max_length=20, default="standard")
    is_listed = models.BooleanField("в каталоге", default=True)  # the last catalogue file names it
    is_enabled = models.BooleanField(
        "включено", default=True
    )  # an operator's switch; loading a file leaves it alone

    class Meta:
        verbose_name = "модель"
        verbose_name_plural = "модели"

    def __str__(self) -> str:
        return self.id


class RunState(models.TextChoices):
    # running -> done | stopped | failed; refused is final from the start (no money)
    RUNNING = "running", "идёт"
    DONE = "done", "готово"
    STOPPED = "stopped", "остановлено"
    FAILED = "failed", "не удалось"
    REFUSED = "refused", "отказано"


class Run(models.Model):
    """One request of a customer: what was decided, what it cost, who executes it."""

    id = models.UUIDField("номер", primary_key=True)
    customer_id = models.UUIDField("клиент")
    idempotency_key = models.CharField("ключ повтора", max_length=255)
    fingerprint = models.CharField("отпечаток запроса", max_length=64)  # SHA-256 of the canonical body
    surface = models.CharField("откуда", max_length=10)  # api | site
    mode = models.CharField("режим", max_length=40)
    profile = models.CharField("профиль", max_length=20)
    model = models.CharField(
        "модель", max_length=100
    )  # the first choice; after the end the one that answered
    provider = models.CharField("провайдер", max_length=60)
    state = models.CharField("состояние", max_length=10, choices=RunState)
    error_code = models.CharField("ошибка", max_length=60, default="", blank=True)
    finish_reason = models.CharField("чем закончился", max_length=30, default="", blank=True)
    route = models.JSONField("маршрут")  # the explanation: candidates, excluded, reasons, frozen prices
    estimate_micro_rub = models.BigIntegerField("обычно, мк₽")
    hold_micro_rub = models.BigIntegerField("резерв, мк₽")
    cost_micro_rub = models.BigIntegerField("цена, мк₽", default=0)
    input_tokens = models.BigIntegerField("токены запроса", default=0)
    output_tokens = models.BigIntegerField("токены ответа", default=0)
    estimated = models.BooleanField("оценка", default=False)
    api_key_id = models.UUIDField("ключ API", null=True)
    fence = models.IntegerField(
        "эпоха владельца", default=1
    )  # raised at each take-over: an old owner can no longer settle
    lease_until = models.DateTimeField("аренда до")
    created_at = models.DateTimeField("создано")
    finished_at = models.DateTimeField("закончен", null=True)

    class Meta:
        verbose_name = "запуск"
        verbose_name_plural = "запуски"
        constraints = [
            models.UniqueConstraint(
                fields=["customer_id", "idempotency_key"], name="orchestration_run_one_per_key"
            )
        ]
        indexes = [
            # For lists, which say `fence >= 1` (always true). Without that condition a look-up by idempotency
            # key, planned while the table was empty, would read all runs of the customer through it.
            models.Index(
                fields=["customer_id", "-id"], name="orchestration_run_of_customer", condition=Q(fence__gte=1)
            ),
            models.Index(
                fields=["lease_until"], name="orchestration_run_open", condition=Q(finished_at=None)
            ),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.id}"

    @property
    def ledger_entry_id(self) -> UUID | None:
        """The charge, which has the run's own id; None when nothing was charged (decision 0046)."""
        return self.id if self.cost_micro_rub else None


class Attempt(models.Model):
    """One call of a provider within a run."""

    id = models.UUIDField("номер", primary_key=True)
    run_id = models.UUIDField("запуск")
    customer_id = models.UUIDField("клиент")
    stage = models.CharField("этап", max_length=20)
    number = models.IntegerField("номер версии")
    model = models.CharField("модель", max_length=100)
    provider = models.CharField("провайдер", max_length=60)
    key_fingerprint = models.CharField("ключ провайдера", max_length=16)
    status = models.CharField("состояние", max_length=20)  # done | stopped | failed
    error_class = models.CharField("класс ошибки", max_length=30, default="", blank=True)
    http_status = models.IntegerField("код HTTP", null=True)
    input_tokens = models.BigIntegerField("токены запроса", default=0)
    output_tokens = models.BigIntegerField("токены ответа", default=0)
    cost_micro_rub = models.BigIntegerField("цена, мк₽", default=0)
    first_token_ms = models.IntegerField("первое слово, мс", null=True)
    duration_ms = models.IntegerField("длительность, мс")
    started_at = models.DateTimeField("начат")

    class Meta:
        verbose_name = "попытка"
        verbose_name_plural = "попытки"
        indexes = [models.Index(fields=["run_id"], name="orchestration_attempt_of_run")]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.id}"


class RunFrames(models.Model):
    """The whole story of a finished run, as it was sent: one JSON object a line."""

    run_id = models.UUIDField("запуск", primary_key=True)
    customer_id = models.UUIDField("клиент")
    frames = models.TextField("кадры")
    created_at = models.DateTimeField("создано")

    class Meta:
        verbose_name = "кадры запуска"
        verbose_name_plural = "кадры запусков"

    def __str__(self) -> str:
        return f"frames {self.run_id}"
