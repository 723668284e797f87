"""Back office of what is sold: plans and their terms, packs, campaigns, members of organisations."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import TabularInline
from unfold.decorators import action, display

from accounts.people import CustomerByEmail, customer_words
from auditlog.actors import Actor
from auditlog.admin import OperatorActs, ReadOnlyAdmin
from billing.admin.base import link
from billing.templatetags.money import money_exact
from plans import offers, queries, words
from plans.admin.forms import CampaignForm, MemberForm, PackForm, ReasonForm, TermsForm
from plans.models import Campaign, OrganisationMember, Pack, Plan, PlanVersion, Redemption
from plyrum import clock


class ReadOnlyRows(TabularInline):  # type: ignore[misc]
    """Rows on the page of what they belong to."""

    extra = 0
    can_delete = False
    show_change_link = False
    hide_title = True  # the row says it all

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class OfferActs(OperatorActs):
    def offer(
        self,
        request: HttpRequest,
        act: Callable[[datetime, Actor], object],
        *,
        done: Promise | str,
        object_id: str = "",
    ) -> HttpResponse:
        """As `perform`, with the words for what an offer may be refused for."""
        refusals = words.OFFERS_REFUSALS
        return self.perform(request, act, done=done, refusals=refusals, object_id=object_id)


class VersionRows(ReadOnlyRows):
    model = PlanVersion
    fields = ["number", "price", "member_price", "period_months", "grant", "cap", "image_quota", "valid_from"]
    readonly_fields = fields
    ordering = ["-number"]

    @display(description=_("Цена"))  # type: ignore[untyped-decorator]
    def price(self, version: PlanVersion) -> str:
        return money_exact(version.price_micro_rub)

    @display(description=_("Цена для организаций"))  # type: ignore[untyped-decorator]
    def member_price(self, version: PlanVersion) -> str:
        member = version.member_price_micro_rub
        return money_exact(member) if member is not None else "-"

    @display(description=_("Начисление"))  # type: ignore[untyped-decorator]
    def grant(self, version: PlanVersion) -> str:
        return money_exact(version.grant_micro_rub)

    @display(description=_("Переносится до"))  # type: ignore[untyped-decorator]
    def cap(self, version: PlanVersion) -> str:
        return money_exact(version.rollover_cap_micro_rub)


@admin.register(Plan)
class PlanAdmin(OfferActs, ReadOnlyAdmin):
    list_display = ["code", "name", "price", "grant", "is_offered"]
    list_filter = ["is_offered"]
    search_fields = ["code", "name"]
    ordering = ["code"]
    nothing_yet = _("Тариф заводит кнопка наверху.")
    fields = ["code", "name", "is_offered"]
    inlines: ClassVar[list[type[TabularInline]]] = [VersionRows]
    actions_list = ["publish_terms"]
    actions_detail = ["withdraw_plan"]

    @display(description=_("Цена"))  # type: ignore[untyped-decorator]
    def price(self, plan: Plan) -> str:
        return money_exact(queries.terms(plan, at=clock.now()).price_micro_rub)

    @display(description=_("Начисление"))  # type: ignore[untyped-decorator]
    def grant(self, plan: Plan) -> str:
        return money_exact(queries.terms(plan, at=clock.now()).grant_micro_rub)

    @action(  # type: ignore[untyped-decorator]
        description=_("Новый тариф или условия"),
        url_path="publish",
        icon="add",
        permissions=["act"],
        dialog={
            "title": _("Выставить тариф на продажу"),
            "description": _("Код нового тарифа или того, чьи условия меняются. Проданное не меняется."),
            "form_class": TermsForm,
            "form_submit_text": _("Выставить"),
        },
    )
    def publish_terms(self, request: HttpRequest, form: TermsForm) -> HttpResponse:
        data = form.cleaned_data
        return self.offer(
            request,
            lambda now, actor: offers.publish(
                code=data["code"],
                name=data["name"],
                terms=form.terms(),
                valid_from=form.valid_from(),
                reason=form.reason_given,
                now=now,
                actor=actor,
            ),
            done=_("Тариф выставлен."),
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Снять с продажи"),
        url_path="withdraw",
        icon="remove_shopping_cart",
        permissions=["act"],
        dialog={
            "title": _("Снять тариф с продажи"),
            "description": _("Новых подключений не будет. У кого он есть, у тех он продлевается."),
            "form_class": ReasonForm,
            "form_submit_text": _("Снять с продажи"),
        },
    )
    def withdraw_plan(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        return self.offer(
            request,
            lambda _now, actor: offers.withdraw(code=object_id, reason=form.reason_given, actor=actor),
            done=_("Тариф снят с продажи."),
            object_id=object_id,
        )


@admin.register(Pack)
class PackAdmin(OfferActs, ReadOnlyAdmin):
    list_display = ["amount", "bonus", "bonus_days", "is_offered"]
    list_filter = ["is_offered"]
    ordering = ["amount_micro_rub"]
    nothing_yet = _("Пакет заводит кнопка наверху: сумма пополнения и бонус к ней.")
    fields = ["amount", "bonus", "bonus_days", "is_offered"]
    readonly_fields = fields
    actions_list = ["offer_pack"]
    actions_detail = ["withdraw_pack"]

    @display(description=_("Пополнение"), ordering="amount_micro_rub")  # type: ignore[untyped-decorator]
    def amount(self, pack: Pack) -> str:
        return money_exact(pack.amount_micro_rub)

    @display(description=_("Бонус"), ordering="bonus_micro_rub")  # type: ignore[untyped-decorator]
    def bonus(self, pack: Pack) -> str:
        return money_exact(pack.bonus_micro_rub)

    @action(  # type: ignore[untyped-decorator]
        description=_("Новый пакет"),
        url_path="offer",
        icon="add",
        permissions=["act"],
        dialog={
            "title": _("Бонус за пополнение"),
            "description": _("Бонус принесёт пополнение ровно на эту сумму. Прежний пакет заменится."),
            "form_class": PackForm,
            "form_submit_text": _("Выставить"),
        },
    )
    def offer_pack(self, request: HttpRequest, form: PackForm) -> HttpResponse:
        data = form.cleaned_data
        return self.offer(
            request,
            lambda _now, actor: offers.offer_pack(
                amount_micro_rub=data["amount"],
                bonus_micro_rub=data["bonus"],
                bonus_days=data["days"],
                reason=form.reason_given,
                actor=actor,
            ),
            done=_("Пакет выставлен."),
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Снять с продажи"),
        url_path="withdraw",
        icon="remove_shopping_cart",
        permissions=["act"],
        dialog={
            "title": _("Больше не давать бонус"),
            "form_class": ReasonForm,
            "form_submit_text": _("Снять с продажи"),
        },
    )
    def withdraw_pack(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        return self.offer(
            request,
            lambda _now, actor: offers.withdraw_pack(
                pack_id=int(object_id), reason=form.reason_given, actor=actor
            ),
            done=_("Пакет снят с продажи."),
            object_id=object_id,
        )


class RedemptionRows(ReadOnlyRows):
    """The newest: a large campaign has more than a page can show."""

    model = Redemption
    fields = ["created_at", "customer", "amount", "entry", "expires_at"]
    readonly_fields = fields
    ordering = ["-created_at", "-id"]
    per_page = 20

    @display(description=_("Клиент"))  # type: ignore[untyped-decorator]
    def customer(self, redemption: Redemption) -> SafeString:
        return link("accounts_user", redemption.customer_id)

    @display(description=_("Проводка"))  # type: ignore[untyped-decorator]
    def entry(self, redemption: Redemption) -> SafeString:
        return link("billing_ledgerentry", redemption.entry_id, gettext("Открыть"))

    @display(description=_("Бонус"))  # type: ignore[untyped-decorator]
    def amount(self, redemption: Redemption) -> str:
        return money_exact(redemption.amount_micro_rub)


@admin.register(Campaign)
class CampaignAdmin(OfferActs, ReadOnlyAdmin):
    list_display = ["name", "code", "amount", "bonus_days", "valid_from", "valid_until", "uses", "uses_limit"]
    list_filter = ["valid_from", "valid_until"]
    search_fields = ["name", "code__exact", "id__exact"]
    ordering = ["-id"]
    nothing_yet = _("Кампанию заводит кнопка наверху: подарок новым клиентам или промокод.")
    fields = [*list_display, "opened_by", "opened_at"]
    readonly_fields = fields
    inlines: ClassVar[list[type[TabularInline]]] = [RedemptionRows]
    actions_list = ["open_campaign"]
    actions_detail = ["close_campaign"]

    @display(description=_("Бонус"), ordering="amount_micro_rub")  # type: ignore[untyped-decorator]
    def amount(self, campaign: Campaign) -> str:
        return money_exact(campaign.amount_micro_rub)

    @action(  # type: ignore[untyped-decorator]
        description=_("Новая кампания"),
        url_path="open",
        icon="add",
        permissions=["act"],
        dialog={
            "title": _("Начать кампанию"),
            "description": _("Бонус по промокоду или подарок за регистрацию. Каждому один раз."),
            "form_class": CampaignForm,
            "form_submit_text": _("Начать"),
        },
    )
    def open_campaign(self, request: HttpRequest, form: CampaignForm) -> HttpResponse:
        data = form.cleaned_data
        return self.offer(
            request,
            lambda now, actor: offers.open_campaign(
                name=data["name"],
                code=data["code"],
                terms=form.terms(),
                reason=form.reason_given,
                now=now,
                actor=actor,
            ),
            done=_("Кампания начата."),
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Закончить"),
        url_path="close",
        icon="stop_circle",
        permissions=["act"],
        dialog={
            "title": _("Закончить кампанию"),
            "description": _("Новых бонусов не будет, выданные остаются."),
            "form_class": ReasonForm,
            "form_submit_text": _("Закончить"),
        },
    )
    def close_campaign(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        campaign_id = self.id_from_path(object_id)
        return self.offer(
            request,
            lambda now, actor: offers.close_campaign(
                campaign_id=campaign_id, reason=form.reason_given, now=now, actor=actor
            ),
            done=_("Кампания закончена."),
            object_id=object_id,
        )


@admin.register(OrganisationMember)
class OrganisationMemberAdmin(CustomerByEmail, OfferActs, ReadOnlyAdmin):
    list_display = ["created_at", "customer", "organisation_id"]
    search_fields = ["customer_id__exact", "organisation_id__exact"]
    ordering = ["-created_at", "-customer_id"]
    nothing_yet = _("Участника добавляет кнопка наверху.")
    fields = list_display
    readonly_fields = fields
    actions_list = ["add_member"]
    actions_detail = ["remove_member"]

    @display(description=_("Клиент"), ordering="customer_id")  # type: ignore[untyped-decorator]
    def customer(self, member: OrganisationMember) -> SafeString:
        return link("accounts_user", member.customer_id, customer_words(member, member.customer_id))

    @action(  # type: ignore[untyped-decorator]
        description=_("Добавить участника"),
        url_path="add-member",
        icon="add",
        permissions=["act"],
        dialog={
            "title": _("Дать клиенту цену организации"),
            "description": _("Со следующей покупки. Оплаченное не меняется."),
            "form_class": MemberForm,
            "form_submit_text": _("Добавить"),
        },
    )
    def add_member(self, request: HttpRequest, form: MemberForm) -> HttpResponse:
        data = form.cleaned_data
        return self.offer(
            request,
            lambda now, actor: offers.add_member(
                email=data["email"],
                organisation_id=data["organisation_id"],
                reason=form.reason_given,
                now=now,
                actor=actor,
            ),
            done=_("Клиент платит цену организации."),
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Убрать"),
        url_path="remove-member",
        icon="person_remove",
        permissions=["act"],
        dialog={
            "title": _("Вернуть клиенту обычную цену"),
            "form_class": ReasonForm,
            "form_submit_text": _("Убрать"),
        },
    )
    def remove_member(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        customer_id = self.id_from_path(object_id)
        return self.offer(
            request,
            lambda _now, actor: offers.remove_member(
                customer_id=customer_id, reason=form.reason_given, actor=actor
            ),
            done=_("Клиент платит обычную цену."),
        )
