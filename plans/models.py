"""Tables of plans: what is offered, who has it, which periods were paid, what a campaign gave to whom.

Terms and purchases are added and never changed; everything else moves by the acts of this app. Money stands
in the ledger alone: rows here name its entries.
"""

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from plyrum.ids import uuid7

PROTECTED_TABLES = ("plans_planversion", "plans_purchase", "plans_subscriptionmove", "plans_redemption")


class Plan(models.Model):
    """A plan as such; its terms are versions. One that is not offered goes on for those who have it."""

    code = models.SlugField(_("код"), primary_key=True, max_length=40)
    name = models.CharField(_("название"), max_length=80)
    is_offered = models.BooleanField(_("продаётся"), default=True)

    class Meta:
        verbose_name = _("тариф")
        verbose_name_plural = _("тарифы")

    def __str__(self) -> str:
        return self.name


class PlanVersion(models.Model):
    """Terms of a plan from a moment on; rows are added, never changed."""

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="versions", verbose_name=_("тариф"))
    number = models.PositiveIntegerField(_("версия"))
    price_micro_rub = models.BigIntegerField(_("цена, мк₽"))
    member_price_micro_rub = models.BigIntegerField(
        _("цена для организаций, мк₽"), null=True
    )  # null: the same
    period_months = models.PositiveSmallIntegerField(_("месяцев в периоде"), default=1)
    grant_micro_rub = models.BigIntegerField(_("начисление за период, мк₽"), default=0)
    rollover_cap_micro_rub = models.BigIntegerField(_("переносится не больше, мк₽"), default=0)
    image_quota = models.PositiveIntegerField(_("картинок за период"), default=0)
    valid_from = models.DateTimeField(_("действует с"))
    created_at = models.DateTimeField(_("создано"))

    class Meta:
        verbose_name = _("условия тарифа")
        verbose_name_plural = _("условия тарифов")
        constraints = [
            models.UniqueConstraint(fields=["plan", "number"], name="plans_planversion_one_per_number"),
            models.CheckConstraint(
                condition=Q(price_micro_rub__gt=0)
                & (Q(member_price_micro_rub=None) | Q(member_price_micro_rub__gt=0)),
                name="plans_planversion_costs_something",
            ),
            models.CheckConstraint(
                condition=Q(grant_micro_rub__gte=0, rollover_cap_micro_rub__gte=0),
                name="plans_planversion_gives_nothing_below_zero",
            ),
            models.CheckConstraint(
                condition=Q(period_months__gte=1, period_months__lte=12),
                name="plans_planversion_period_up_to_a_year",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan_id} v{self.number}"


class OrganisationMember(models.Model):
    """A customer for whom an organisation's price counts. Written by an operator's act."""

    customer_id = models.UUIDField(_("клиент"), primary_key=True)
    organisation_id = models.UUIDField(_("организация"))
    created_at = models.DateTimeField(_("создано"))

    class Meta:
        verbose_name = _("участник организации")
        verbose_name_plural = _("участники организаций")
        indexes = [models.Index(fields=["organisation_id"], name="plans_member_of_organisation")]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.customer_id}"


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    def going(self) -> "SubscriptionQuerySet":
        return self.filter(state__in=Subscription.GOING)

    def locked(self) -> "SubscriptionQuerySet":
        return self.select_for_update(of=("self",), no_key=True)


class Subscription(models.Model):
    """One customer's plan, period by period. At most one goes on for each customer."""

    class State(models.TextChoices):
        # active -> expired (not renewed) | canceled | past_due; past_due -> active | suspended | canceled;
        # suspended -> active | canceled. expired and canceled are ends.
        ACTIVE = "active", _("действует")
        PAST_DUE = "past_due", _("ждёт оплаты")
        SUSPENDED = "suspended", _("приостановлена")
        EXPIRED = "expired", _("закончилась")
        CANCELED = "canceled", _("отменена")

    GOING = (State.ACTIVE, State.PAST_DUE, State.SUSPENDED)

    class Renewal(models.TextChoices):
        MANUAL = "manual", _("вручную")
        AUTOMATIC = "automatic", _("автоматически")

    id = models.UUIDField(_("номер"), primary_key=True, default=uuid7, editable=False)
    customer_id = models.UUIDField(_("клиент"))
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="+", verbose_name=_("тариф"))
    next_plan = models.ForeignKey(
        Plan, on_delete=models.PROTECT, null=True, related_name="+", verbose_name=_("следующий тариф")
    )
    state = models.CharField(_("состояние"), max_length=10, choices=State, default=State.ACTIVE)
    renewal = models.CharField(_("продление"), max_length=10, choices=Renewal)
    cancel_at_period_end = models.BooleanField(_("отменена в конце периода"), default=False)
    anchor = models.DateTimeField(_("точка отсчёта"))
    anchor_months = models.PositiveIntegerField(_("месяцев от неё до конца периода"))
    period_start = models.DateTimeField(_("период с"))  # of the newest period that has begun
    period_end = models.DateTimeField(_("период до"))
    # While an automatic renewal's money is held by running requests: until when it is asked for again.
    waits_until = models.DateTimeField(_("ждёт резерва до"), null=True)
    past_due_at = models.DateTimeField(_("не оплачена с"), null=True)
    due_at = models.DateTimeField(_("следующее событие"), null=True)  # when the clock moves it; null: ended
    warned_days = models.PositiveSmallIntegerField(_("предупреждён за дней"), null=True)
    created_at = models.DateTimeField(_("создана"))

    objects = SubscriptionQuerySet.as_manager()

    class Meta:
        verbose_name = _("подписка")
        verbose_name_plural = _("подписки")
        constraints = [
            models.UniqueConstraint(
                fields=["customer_id"],
                name="plans_subscription_one_goes_on",
                condition=Q(state__in=("active", "past_due", "suspended")),
            ),
            models.CheckConstraint(
                condition=Q(state__in=("active", "past_due", "suspended"), due_at__isnull=False)
                | Q(state__in=("expired", "canceled"), due_at=None),
                name="plans_subscription_due_while_it_goes_on",
            ),
            models.CheckConstraint(
                condition=Q(state="active", past_due_at=None)
                | Q(state__in=("past_due", "suspended"), past_due_at__isnull=False)
                | Q(state__in=("expired", "canceled")),
                name="plans_subscription_past_due_since",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], name="plans_subscription_due", condition=Q(due_at__isnull=False)),
            models.Index(fields=["customer_id", "-id"], name="plans_subscription_of_customer"),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.id}"


class SubscriptionPeriod(models.Model):
    """A paid period: what it may use and, once it is over, what was carried out of it."""

    id = models.UUIDField(_("номер"), primary_key=True, default=uuid7, editable=False)
    subscription = models.ForeignKey(
        Subscription, on_delete=models.PROTECT, related_name="periods", verbose_name=_("подписка")
    )
    customer_id = models.UUIDField(_("клиент"))
    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, verbose_name=_("условия"))
    starts_at = models.DateTimeField(_("с"))
    ends_at = models.DateTimeField(_("до"))
    price_micro_rub = models.BigIntegerField(
        _("цена всего периода, мк₽")
    )  # by these terms, for this customer
    image_quota = models.PositiveIntegerField(_("картинок"))
    images_used = models.PositiveIntegerField(_("из них взято"), default=0)
    carried_micro_rub = models.BigIntegerField(_("перенесено дальше, мк₽"), default=0)
    closed_at = models.DateTimeField(_("закрыт"), null=True)
    created_at = models.DateTimeField(_("создан"))

    class Meta:
        verbose_name = _("период")
        verbose_name_plural = _("периоды")
        constraints = [
            models.UniqueConstraint(fields=["subscription", "starts_at"], name="plans_period_one_per_start"),
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="plans_period_runs_forward"),
            models.CheckConstraint(condition=Q(price_micro_rub__gt=0), name="plans_period_costs_something"),
            models.CheckConstraint(
                condition=Q(images_used__lte=F("image_quota")), name="plans_period_quota_is_the_most"
            ),
        ]
        indexes = [
            models.Index(  # a lot whose period is open waits for the rollover
                fields=["customer_id", "ends_at"], name="plans_period_open", condition=Q(closed_at=None)
            ),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.id}"


class Purchase(models.Model):
    """What was paid and given for a period: number 0 opens it, later ones are upgrades within it."""

    id = models.UUIDField(_("номер"), primary_key=True, default=uuid7, editable=False)
    period = models.ForeignKey(
        SubscriptionPeriod, on_delete=models.PROTECT, related_name="purchases", verbose_name=_("период")
    )
    number = models.PositiveSmallIntegerField(_("номер в периоде"))
    customer_id = models.UUIDField(_("клиент"))
    version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, verbose_name=_("условия"))
    price_micro_rub = models.BigIntegerField(_("уплачено, мк₽"))
    grant_micro_rub = models.BigIntegerField(_("начислено, мк₽"))
    purchase_entry_id = models.UUIDField(_("проводка покупки"), null=True)  # null: nothing to pay
    grant_entry_id = models.UUIDField(_("проводка начисления"), null=True)  # null: nothing to give
    created_at = models.DateTimeField(_("когда"))

    class Meta:
        verbose_name = _("покупка")
        verbose_name_plural = _("покупки")
        constraints = [
            models.UniqueConstraint(fields=["period", "number"], name="plans_purchase_one_per_number"),
            models.CheckConstraint(
                condition=Q(price_micro_rub__gte=0, grant_micro_rub__gte=0),
                name="plans_purchase_nothing_below_zero",
            ),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.id}"


class SubscriptionMove(models.Model):
    """What happened to a subscription: the timeline, and what makes a repeated key one act."""

    class Kind(models.TextChoices):
        ACTIVATED = "activated", _("подключена")
        RENEWED = "renewed", _("продлена")
        UPGRADED = "upgraded", _("тариф повышен")
        PLAN_CHOSEN = "plan_chosen", _("выбран следующий тариф")
        RENEWAL_CHOSEN = "renewal_chosen", _("выбрано продление")
        CANCELED = "canceled", _("отменена в конце периода")
        RESUMED = "resumed", _("отмена снята")
        EXTENDED = "extended", _("период продолжен")
        PAST_DUE = "past_due", _("не хватило денег")
        SUSPENDED = "suspended", _("приостановлена")
        ENDED = "ended", _("закончилась")

    id = models.UUIDField(_("номер"), primary_key=True, default=uuid7, editable=False)
    subscription = models.ForeignKey(
        Subscription, on_delete=models.PROTECT, related_name="moves", verbose_name=_("подписка")
    )
    customer_id = models.UUIDField(_("клиент"))
    kind = models.CharField(_("что"), max_length=14, choices=Kind)
    state = models.CharField(_("состояние после"), max_length=10, choices=Subscription.State)
    client_key = models.CharField(_("ключ повтора"), max_length=255, default="", blank=True)
    fingerprint = models.CharField(_("отпечаток"), max_length=64, default="", blank=True)
    reason = models.CharField(_("причина"), max_length=300, default="", blank=True)  # an operator's
    created_at = models.DateTimeField(_("когда"))

    class Meta:
        verbose_name = _("событие подписки")
        verbose_name_plural = _("события подписок")
        constraints = [
            models.UniqueConstraint(
                fields=["customer_id", "client_key"],
                name="plans_move_one_per_client_key",
                condition=~Q(client_key=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class QuotaUse(models.Model):
    """One image request taken from a period's quota. Giving it back removes the row."""

    key = models.CharField(_("ключ"), max_length=255, primary_key=True)  # the image run
    period = models.ForeignKey(
        SubscriptionPeriod, on_delete=models.PROTECT, related_name="uses", verbose_name=_("период")
    )
    created_at = models.DateTimeField(_("когда"))

    class Meta:
        verbose_name = _("взятая картинка")
        verbose_name_plural = _("взятые картинки")

    def __str__(self) -> str:
        return self.key


class Pack(models.Model):
    """A top-up of exactly this sum brings a bonus."""

    amount_micro_rub = models.BigIntegerField(_("пополнение, мк₽"), unique=True)
    bonus_micro_rub = models.BigIntegerField(_("бонус, мк₽"))
    bonus_days = models.PositiveSmallIntegerField(_("бонус живёт дней"), null=True)  # null: no end
    is_offered = models.BooleanField(_("продаётся"), default=True)

    class Meta:
        verbose_name = _("пакет")
        verbose_name_plural = _("пакеты")
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_micro_rub__gt=0, bonus_micro_rub__gt=0), name="plans_pack_brings_something"
            ),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk}"


class Campaign(models.Model):
    """A bonus for whoever redeems its code, or without a code for whoever joins and confirms their e-mail."""

    id = models.UUIDField(_("номер"), primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("название"), max_length=80)
    code = models.CharField(_("код"), max_length=40, default="", blank=True)  # "": a sign-up gift
    amount_micro_rub = models.BigIntegerField(_("бонус, мк₽"))
    bonus_days = models.PositiveSmallIntegerField(_("бонус живёт дней"))
    valid_from = models.DateTimeField(_("с"))
    valid_until = models.DateTimeField(_("до"), null=True)
    uses_limit = models.PositiveIntegerField(_("всего раз"))
    uses = models.PositiveIntegerField(_("использован раз"), default=0)
    # What it can give counts as moved by this operator; null: opened before that was counted.
    opened_by = models.UUIDField(_("кто начал"), null=True)
    opened_at = models.DateTimeField(_("начата"), null=True)

    class Meta:
        verbose_name = _("кампания")
        verbose_name_plural = _("кампании")
        constraints = [
            models.UniqueConstraint(
                fields=["code"], name="plans_campaign_one_per_code", condition=~Q(code="")
            ),
            models.CheckConstraint(
                condition=Q(amount_micro_rub__gt=0, bonus_days__gt=0), name="plans_campaign_gives_something"
            ),
            models.CheckConstraint(
                condition=Q(uses__lte=F("uses_limit")), name="plans_campaign_limit_is_kept"
            ),
        ]
        indexes = [models.Index(fields=["opened_by", "opened_at"], name="plans_campaign_of_operator")]

    def __str__(self) -> str:
        return self.name


class Redemption(models.Model):
    """A campaign's bonus to one customer, once."""

    id = models.UUIDField(_("номер"), primary_key=True, default=uuid7, editable=False)
    campaign = models.ForeignKey(
        Campaign, on_delete=models.PROTECT, related_name="redemptions", verbose_name=_("кампания")
    )
    customer_id = models.UUIDField(_("клиент"))
    amount_micro_rub = models.BigIntegerField(_("бонус, мк₽"))
    entry_id = models.UUIDField(_("проводка"))
    expires_at = models.DateTimeField(_("бонус действует до"))
    client_key = models.CharField(_("ключ повтора"), max_length=255, default="", blank=True)
    created_at = models.DateTimeField(_("когда"))

    class Meta:
        verbose_name = _("выдача бонуса")
        verbose_name_plural = _("выдачи бонусов")
        constraints = [
            models.UniqueConstraint(fields=["campaign", "customer_id"], name="plans_redemption_once"),
            models.UniqueConstraint(
                fields=["customer_id", "client_key"],
                name="plans_redemption_one_per_client_key",
                condition=~Q(client_key=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.id}"
