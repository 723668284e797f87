"""Input and output of the APIs about money. Unknown fields are refused."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from ninja import Field, Schema
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    model_validator,
)

from accounts import api_keys
from auditlog import reasons
from billing.keys import KeyView
from billing.limit_models import RequestRate, Window
from billing.models import EntryType, LotKind, OperatorRequest, UsageEvent
from billing.money import from_rub
from billing.policies import Meter, Policy
from billing.shapes import MOST_MICRO_RUB, Balance
from billing.statement import Line
from plyrum.clock import rfc3339
from plyrum.downloads import Form
from plyrum.paging import KnownParameters, PageQuery

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _is_rfc3339(value: object) -> object:
    """Pydantic also takes bare numbers and dates without a zone, which the contract does not offer."""
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError("a time like 2026-11-20T09:00:00Z is expected")
    return value


LimitAmount = Annotated[int | None, Field(strict=True, ge=0, le=MOST_MICRO_RUB)]
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=PRINTABLE)]
Moment = Annotated[AwareDatetime, BeforeValidator(_is_rfc3339)]


class Period(KnownParameters):
    from_: Annotated[
        Moment | None, Field(alias="from", description="RFC 3339; rows written at this moment or later.")
    ] = None
    to: Annotated[Moment | None, Field(description="RFC 3339; rows written before this moment.")] = None

    @model_validator(mode="after")
    def _runs_forward(self) -> Self:
        if self.from_ is not None and self.to is not None and self.from_ > self.to:
            raise ValueError("`from` is later than `to`")
        return self


class LedgerFilter(Period):
    type: EntryType | None = None


class LedgerQuery(PageQuery, LedgerFilter):
    """A page of the statement."""


class LedgerExportQuery(LedgerFilter):
    format: Form = Form.CSV


class LotOut(Schema):
    kind: LotKind
    remaining_micro_rub: Annotated[int, Field(description="With what running requests reserve of it.")]
    expires_at: str | None


class BalanceOut(Schema):
    balance_micro_rub: Annotated[int, Field(description="What can be spent now.")]
    total_micro_rub: Annotated[int, Field(description="What can be spent and what is reserved.")]
    reserved_micro_rub: Annotated[int, Field(description="What running requests hold.")]
    unlimited: Annotated[bool, Field(description="The development superaccount: nothing is charged.")]
    currency: Literal["RUB"] = "RUB"
    lots: Annotated[list[LotOut], Field(description="In spend order.")]


class AlertsOut(Schema):
    balance_below_micro_rub: Annotated[
        int | None, Field(description="A letter is sent when less is left; null: never.")
    ]


class AlertsIn(Schema):
    model_config = ConfigDict(extra="forbid")

    balance_below_micro_rub: Annotated[int | None, Field(strict=True, ge=1, le=MOST_MICRO_RUB)]


class EntryOut(Schema):
    id: str
    seq: Annotated[int, Field(description="Number of the entry in this wallet, from 1, without gaps.")]
    type: EntryType
    source_type: Annotated[str, Field(description="What moved the money: payment, run, bonus and others.")]
    source_id: str
    amount_micro_rub: Annotated[int, Field(description="Signed: what came in is positive.")]
    balance_after_micro_rub: int
    description: Annotated[str, Field(description="In the customer's language.")]
    created_at: str


class OwnLimits(Schema):
    """What a customer allows themselves, in micro-RUB; null is no limit."""

    model_config = ConfigDict(extra="forbid")

    request_micro_rub: LimitAmount = None
    hour_micro_rub: LimitAmount = None
    day_micro_rub: LimitAmount = None
    month_micro_rub: LimitAmount = None

    def by_window(self) -> dict[Window, int]:
        found = {window: getattr(self, f"{window.value}_micro_rub") for window in Window}
        return {window: amount for window, amount in found.items() if amount is not None}


def _network(text: str) -> str:
    try:
        return api_keys.network_of(text)
    except ValueError as error:
        raise ValueError(
            "an address or a network like 203.0.113.0/24 or 2001:db8::/32 is expected"
        ) from error


KeyName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=api_keys.NAME_CHARS, pattern=PRINTABLE),
]
ModelId = Annotated[str, StringConstraints(min_length=1, max_length=100)]
NetworkText = Annotated[str, StringConstraints(min_length=2, max_length=50), AfterValidator(_network)]


def _within_reach(moment: datetime) -> datetime:
    """What no zone can carry out of the calendar."""
    if not 2000 <= moment.year <= 9000:
        raise ValueError("a year from 2000 to 9000 is expected")
    return moment


class KeyIn(Schema):
    model_config = ConfigDict(extra="forbid")

    name: KeyName
    expires_at: Annotated[
        Annotated[Moment, AfterValidator(_within_reach)] | None,
        Field(description="RFC 3339; null: until it is revoked."),
    ] = None
    month_limit_micro_rub: Annotated[
        LimitAmount, Field(description="What it may spend in a month of Moscow; null: no limit of its own.")
    ] = None
    models: Annotated[
        list[ModelId], Field(max_length=100, description="Ids of the models it may use; empty: all.")
    ] = []
    ip_allow: Annotated[
        list[NetworkText],
        Field(max_length=50, description="Addresses and networks (CIDR) it works from; empty: everywhere."),
    ] = []
    idempotency_key: IdempotencyKey | None = None


class KeyChange(Schema):
    """What is missing stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: KeyName | None = None
    month_limit_micro_rub: Annotated[LimitAmount, Field(description="null takes the limit away.")] = None

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if "name" in self.model_fields_set and self.name is None:
            raise ValueError("a key has a name")
        return self


class KeyOut(Schema):
    id: UUID
    name: str
    prefix: Annotated[str, Field(description="What the key begins with.")]
    state: Literal["active", "expired", "revoked"]
    created_at: str
    expires_at: str | None
    last_used_at: Annotated[str | None, Field(description="To the hour.")]
    revoked_at: str | None
    month_limit_micro_rub: Annotated[int | None, Field(description="What its owner set.")]
    month_limit_in_force_micro_rub: Annotated[
        int | None,
        Field(description="The lowest that counts now, an operator's too; null: none, or lifted for now."),
    ]
    month_spent_micro_rub: Annotated[int, Field(description="Charged in the month that runs.")]
    models: Annotated[list[str], Field(description="Empty: all.")]
    ip_allow: Annotated[list[str], Field(description="Empty: everywhere.")]


class IssuedKeyOut(KeyOut):
    key: Annotated[str | None, Field(description="The key itself, told once; null in a repeat.")]


class KeysOut(Schema):
    items: list[KeyOut]
    next_cursor: str | None


def key_out(found: KeyView, *, now: datetime) -> KeyOut:
    row = found.row
    return KeyOut(
        id=row.pk,
        name=row.name,
        prefix=row.prefix,
        state=row.state(now),
        created_at=rfc3339(row.created_at),
        expires_at=_moment(row.expires_at),
        last_used_at=_moment(row.last_used_at),
        revoked_at=_moment(row.revoked_at),
        month_limit_micro_rub=found.month_limit_micro_rub,
        month_limit_in_force_micro_rub=found.month_limit_in_force_micro_rub,
        month_spent_micro_rub=found.month_spent_micro_rub,
        models=row.models,
        ip_allow=row.ip_allow,
    )


class LimitOut(Schema):
    """A limit that applies now, the lowest of its window."""

    subject_kind: Annotated[
        str,
        Field(description="user, key, organisation (its members share it), or gift: money never paid in."),
    ]
    window: Window
    limit_micro_rub: int
    used_micro_rub: Annotated[int, Field(description="Spent and reserved in this window.")]
    resets_at: Annotated[str | None, Field(description="Null for a single request.")]
    is_lifted: Annotated[bool, Field(description="An operator allowed more until `resets_at`.")]


class RequestRateOut(Schema):
    tier: RequestRate.Tier
    per_minute: int
    per_hour: int


class LimitsOut(Schema):
    own: OwnLimits
    limits: list[LimitOut]
    spending_blocked: bool
    debt_micro_rub: Annotated[
        int, Field(description="What a payment taken back by its bank left; above 0 nothing is spent.")
    ]
    requests: RequestRateOut


def limits_out(own: dict[str, int], policy: Policy, meters: list[Meter]) -> LimitsOut:
    minute, hour = policy.rates
    return LimitsOut(
        own=OwnLimits(**{f"{window}_micro_rub": amount for window, amount in own.items()}),
        limits=[
            LimitOut(
                subject_kind=meter.limit.kind,
                window=meter.limit.window,
                limit_micro_rub=meter.limit.limit_micro_rub,
                used_micro_rub=meter.used_micro_rub,
                resets_at=_moment(meter.resets_at),
                is_lifted=meter.limit.is_lifted,
            )
            for meter in meters
        ],
        spending_blocked=policy.is_blocked,
        debt_micro_rub=policy.debt_micro_rub,
        requests=RequestRateOut(
            tier=RequestRate.Tier(policy.tier), per_minute=minute.count, per_hour=hour.count
        ),
    )


LEDGER_COLUMNS = tuple(EntryOut.model_fields)


class LedgerOut(Schema):
    items: list[EntryOut]
    next_cursor: str | None


class AdjustmentIn(Schema):
    """An operator's adjustment, above or below zero; exactly one of the two amounts."""

    model_config = ConfigDict(extra="forbid")

    user_id: UUID
    reason: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=reasons.SHORTEST, max_length=reasons.LONGEST)
    ]
    amount_rub: Annotated[int | None, Field(strict=True, description="Whole roubles.")] = None
    amount_micro_rub: Annotated[int | None, Field(strict=True)] = None
    ticket: Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)] = ""
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if (self.amount_rub is None) == (self.amount_micro_rub is None):
            raise ValueError("send either amount_rub or amount_micro_rub")
        return self

    def micro_rub(self) -> int:
        return self.amount_micro_rub or from_rub(self.amount_rub or 0)


class CreditIn(AdjustmentIn):
    """An operator's credit; exactly one of the two amounts."""

    amount_rub: Annotated[int | None, Field(strict=True, ge=1, description="Whole roubles.")] = None
    amount_micro_rub: Annotated[int | None, Field(strict=True, ge=1)] = None


class OperatorRequestOut(Schema):
    """An act that waits for a second operator."""

    id: str
    state: OperatorRequest.State
    amount_micro_rub: int
    created_at: str


def request_out(request: OperatorRequest) -> OperatorRequestOut:
    return OperatorRequestOut(
        id=str(request.id),
        state=OperatorRequest.State(request.state),
        amount_micro_rub=request.amount_micro_rub,
        created_at=rfc3339(request.created_at),
    )


def balance_out(balance: Balance) -> BalanceOut:
    return BalanceOut(
        balance_micro_rub=balance.balance_micro_rub,
        total_micro_rub=balance.total_micro_rub,
        reserved_micro_rub=balance.reserved_micro_rub,
        unlimited=balance.unlimited,
        lots=[
            LotOut(
                kind=LotKind(lot.kind),
                remaining_micro_rub=lot.remaining_micro_rub,
                expires_at=_moment(lot.expires_at),
            )
            for lot in balance.lots
        ],
    )


def entry_out(line: Line) -> EntryOut:
    entry = line.entry
    return EntryOut(
        id=str(entry.id),
        seq=entry.seq or 0,
        type=EntryType(entry.type),
        source_type=entry.source_type,
        source_id=entry.source_id,
        amount_micro_rub=entry.signed_micro_rub,
        balance_after_micro_rub=entry.balance_after_micro_rub or 0,
        description=line.description,
        created_at=rfc3339(entry.created_at),
    )


def usage_item(row: UsageEvent) -> dict[str, Any]:
    """A row of `GET /api/usage`."""
    return {
        "id": str(row.id),
        "run_id": str(row.run_id),
        "model": row.model,
        "provider": row.provider,
        "kind": row.kind,
        "usage": {
            "input_tokens": row.input_tokens,
            "output_tokens": row.output_tokens,
            "cached_input_tokens": row.cached_input_tokens,
            "cache_write_tokens": row.cache_write_tokens,
            "reasoning_tokens": row.reasoning_tokens,
            "images": row.images,
        },
        "cost_micro_rub": row.charged_micro_rub,
        "ledger_entry_id": str(row.ledger_entry_id) if row.ledger_entry_id else None,
        "api_key_id": str(row.api_key_id) if row.api_key_id else None,
        "estimated": row.estimated,
        "created_at": rfc3339(row.created_at),
    }


USAGE_COLUMNS = (
    "id",
    "run_id",
    "model",
    "provider",
    "kind",
    "usage.input_tokens",
    "usage.output_tokens",
    "usage.cached_input_tokens",
    "usage.cache_write_tokens",
    "usage.reasoning_tokens",
    "usage.images",
    "cost_micro_rub",
    "ledger_entry_id",
    "api_key_id",
    "estimated",
    "created_at",
)


def _moment(value: datetime | None) -> str | None:
    return rfc3339(value) if value is not None else None
