"""The customer API about money: balance, limits, alerts, ledger. Reaches the caller's own rows only."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils import translation
from ninja import Query, Router

from accounts.credentials import Credential
from accounts.requests import actor_of
from billing import alerts, exports, limits, policies, queries, request_rates, statement
from billing.schemas import (
    AlertsIn,
    AlertsOut,
    BalanceOut,
    LedgerExportQuery,
    LedgerOut,
    LedgerQuery,
    LimitsOut,
    OwnLimits,
    balance_out,
    entry_out,
    limits_out,
)
from plyrum import clock, downloads
from plyrum.downloads import FILE
from plyrum.paging import mark, paginate

alerts_router = Router(tags=["account"])
balance_router = Router(tags=["billing"])
limits_router = Router(tags=["account"])
router = Router(tags=["billing"])

LEDGER_SCHEMA = 1


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


@balance_router.get("", response=BalanceOut, summary="What can be spent")
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


def _limits(customer_id: UUID) -> LimitsOut:
    now = clock.now()
    policy = policies.of(customer_id, now=now)
    return limits_out(limits.own(customer_id), policy, policies.meters(policy, now=now))


def _caller(request: HttpRequest) -> Credential:
    found: Credential = request.credential  # type: ignore[attr-defined]
    return found
