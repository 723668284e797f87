"""The customer API about money: balance, limits, keys, alerts, ledger. Reaches the caller's own rows only."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils import translation
from ninja import Query, Router, Status

from accounts import api_keys
from accounts.api_keys import Wish
from accounts.auth import WITH_KEYS
from accounts.credentials import Credential
from accounts.requests import actor_of
from billing import alerts, exports, keys, limits, policies, queries, request_rates, statement
from billing.schemas import (
    AlertsIn,
    AlertsOut,
    BalanceOut,
    IssuedKeyOut,
    KeyChange,
    KeyIn,
    KeyOut,
    KeysOut,
    LedgerExportQuery,
    LedgerOut,
    LedgerQuery,
    LimitsOut,
    OwnLimits,
    balance_out,
    entry_out,
    key_out,
    limits_out,
)
from plyrum import clock, downloads, idempotency
from plyrum.downloads import FILE
from plyrum.paging import PageQuery, mark, paginate

alerts_router = Router(tags=["account"])
balance_router = Router(tags=["billing"])
keys_router = Router(tags=["account"])
limits_router = Router(tags=["account"])
router = Router(tags=["billing"])

LEDGER_SCHEMA = 1
KEYS_SCHEMA = 1


@alerts_router.get("", response=AlertsOut, summary="When a letter is wanted")
def alerts_of(request: HttpRequest) -> AlertsOut:
    return AlertsOut(balance_below_micro_rub=alerts.threshold(_caller(request).user_id))


@alerts_router.put("", response=AlertsOut, summary="Ask for a letter when little is left")
def set_alerts(request: HttpRequest, data: AlertsIn) -> AlertsOut:
    """One letter when the money in the wallet, reserves included, falls below the sum; the next one only
    after it has risen above it again. Checked every minute. null switches the letter off.
    """
    caller = _caller(request)
    alerts.set_threshold(
        customer_id=caller.user_id,
        micro_rub=data.balance_below_micro_rub,
        now=clock.now(),
        actor=actor_of(request),
    )
    return AlertsOut(balance_below_micro_rub=data.balance_below_micro_rub)


@balance_router.get("", auth=WITH_KEYS, response=BalanceOut, summary="What can be spent")
def balance(request: HttpRequest) -> BalanceOut:
    """Spendable now, reserved by running requests, and the lots it consists of."""
    caller = _caller(request)
    return balance_out(queries.balance(caller.user_id, now=clock.now(), unlimited=caller.is_unlimited))


@router.get("/ledger", response=LedgerOut, summary="Ledger entries, newest first")
def ledger(request: HttpRequest, response: HttpResponse, query: Query[LedgerQuery]) -> LedgerOut:
    """Every movement of money, numbered without gaps, each with the balance after it. Never changed later."""
    caller = _caller(request)
    rows = queries.statement(caller.user_id, type=query.type, since=query.from_, until=query.to)
    page = paginate(rows, query, key="seq")
    mark(response, query, page, schema_version=LEDGER_SCHEMA)
    response["Content-Language"] = caller.locale
    with translation.override(caller.locale):
        items = [entry_out(line) for line in statement.lines(page.rows)]
    return LedgerOut(items=items, next_cursor=page.next_cursor)


@router.get("/ledger/export", summary="Ledger entries as a file, newest first", openapi_extra=FILE)
def export_ledger(request: HttpRequest, query: Query[LedgerExportQuery]) -> StreamingHttpResponse:
    """The entries of the ledger as CSV, XLSX or JSON lines; a spreadsheet has at most 100 000 rows."""
    caller = _caller(request)
    request_rates.admit(caller.user_id, now=clock.now())
    found = exports.ledger(
        customer_id=caller.user_id,
        form=query.format,
        locale=caller.locale,
        actor=actor_of(request),
        type=query.type,
        since=query.from_,
        until=query.to,
    )
    return downloads.answer(found, query.format)


@limits_router.get("", response=LimitsOut, summary="Limits of spending and of requests")
def limits_of(request: HttpRequest) -> LimitsOut:
    """What the caller allows themselves, what applies, how much of it is used, and when it resets."""
    return _limits(_caller(request).user_id)


@limits_router.put("", response=LimitsOut, summary="Set one's own limits")
def set_limits(request: HttpRequest, data: OwnLimits) -> LimitsOut:
    """Replaces all four; what is null or missing is no limit. Counts from the next request on."""
    caller = _caller(request)
    limits.set_own(
        customer_id=caller.user_id, limits=data.by_window(), now=clock.now(), actor=actor_of(request)
    )
    return _limits(caller.user_id)


@keys_router.get("", response=KeysOut, summary="API keys, newest first")
def list_keys(request: HttpRequest, response: HttpResponse, query: Query[PageQuery]) -> KeysOut:
    """Revoked and expired keys too: usage names them. Never the key itself."""
    now = clock.now()
    page = paginate(api_keys.of_customer(_caller(request).user_id), query, key="id")
    mark(response, query, page, schema_version=KEYS_SCHEMA)
    items = [key_out(found, now=now) for found in keys.views(page.rows, now=now)]
    return KeysOut(items=items, next_cursor=page.next_cursor)


@keys_router.post("", response={201: IssuedKeyOut}, summary="Make an API key")
def issue_key(request: HttpRequest, response: HttpResponse, data: KeyIn) -> Status[IssuedKeyOut]:
    """The answer holds the key, this once: only a digest is kept. Keys run requests and read models, usage
    and balance; everything else answers them 403 `forbidden`.

    `Idempotency-Key` (header or `idempotency_key`): a repeat makes no second key and answers how the first
    stands now, with `Idempotent-Replayed: true` and `key` null; whoever lost it revokes it and makes
    another. 409 `too_many_keys`.
    """
    now = clock.now()
    wish = Wish(data.name, data.expires_at, tuple(data.models), tuple(data.ip_allow))
    done = keys.issue(
        customer_id=_caller(request).user_id,
        wish=wish,
        month_limit_micro_rub=data.month_limit_micro_rub,
        idempotency_key=idempotency.key_of(request, data.idempotency_key),
        now=now,
        actor=actor_of(request),
    )
    response["Cache-Control"] = "no-store"
    if done.is_replay:
        response["Idempotent-Replayed"] = "true"
    shown = key_out(done.key, now=now).dict()
    return Status(201, IssuedKeyOut(**shown, key=done.text or None))


@keys_router.patch("/{key_id}", response=KeyOut, summary="Rename an API key, change its limit")
def change_key(request: HttpRequest, key_id: str, data: KeyChange) -> KeyOut:
    """Changes what is sent; models, addresses and the end of a key stay as they are. 409 `key_ended`."""
    now = clock.now()
    found = keys.change(
        customer_id=_caller(request).user_id,
        key_id=key_id,
        changes=data.dict(exclude_unset=True),
        now=now,
        actor=actor_of(request),
    )
    return key_out(found, now=now)


@keys_router.delete("/{key_id}", response={204: None}, summary="Revoke an API key")
def revoke_key(request: HttpRequest, key_id: str) -> Status[None]:
    """For good. Its running requests are stopped and settled as if they had been cancelled. A second time
    changes nothing.
    """
    row = api_keys.own(_caller(request).user_id, key_id)
    api_keys.revoke(key_id=row.pk, now=clock.now(), actor=actor_of(request))
    return Status(204, None)


def _limits(customer_id: UUID) -> LimitsOut:
    now = clock.now()
    policy = policies.of(customer_id, now=now)
    return limits_out(limits.own(customer_id), policy, policies.meters(policy, now=now))


def _caller(request: HttpRequest) -> Credential:
    found: Credential = request.credential  # type: ignore[attr-defined]
    return found
