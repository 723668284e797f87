"""The acts of taking one's statement or usage out as a file. Called by the API and by the site; journalled.

The file is read after the act, outside its transaction: rows of money never change, so nothing is lost by it.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import translation
from django.utils.translation import gettext as _

from auditlog import journal
from auditlog.actors import Actor
from billing import queries, statement
from billing.errors import ExportTooLarge
from billing.models import LedgerEntry
from billing.schemas import LEDGER_COLUMNS, USAGE_COLUMNS, entry_out, usage_item
from billing.templatetags.money import tokens
from plyrum.downloads import XLSX_ROWS, Collection, Form, Item
from plyrum.errors import TooManyRequests


@transaction.atomic(durable=True)
def ledger(
    *,
    customer_id: UUID,
    form: Form,
    locale: str,
    actor: Actor,
    type: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Collection:
    """The entries of the statement, described in the language `locale`; journal `billing.ledger.export`.

    Raises ExportTooLarge.
    """

    def items(entries: Sequence[LedgerEntry]) -> list[Item]:
        with translation.override(locale):
            return [entry_out(line).dict() for line in statement.lines(entries)]

    rows = queries.statement(customer_id, type=type, since=since, until=until)
    found = Collection("plyrum-ledger", rows, "seq", items, LEDGER_COLUMNS)
    _record(found, form, actor, "billing.ledger.export", customer_id, type=type, since=since, until=until)
    return found


@transaction.atomic(durable=True)
def usage(
    *,
    customer_id: UUID,
    form: Form,
    actor: Actor,
    model: str | None = None,
    api_key_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Collection:
    """The usage rows; journal `billing.usage.export`. Raises ExportTooLarge."""
    rows = queries.usage(customer_id, model=model, api_key_id=api_key_id, since=since, until=until)
    found = Collection(
        "plyrum-usage", rows, "id", lambda batch: [usage_item(row) for row in batch], USAGE_COLUMNS
    )
    wanted = {"model": model, "api_key_id": api_key_id, "since": since, "until": until}
    _record(found, form, actor, "billing.usage.export", customer_id, **wanted)
    return found


def refused(error: ExportTooLarge | TooManyRequests) -> str:
    """What the site says instead of a file."""
    if isinstance(error, TooManyRequests):
        return _("Слишком много запросов подряд. Подождите немного и повторите.")
    return _("В таблицу Excel помещается %(rows)s строк. Возьмите CSV: в нём будет всё.") % {
        "rows": tokens(XLSX_ROWS)
    }


def _record(
    found: Collection, form: Form, actor: Actor, action: str, customer_id: UUID, **wanted: object
) -> None:
    if form is Form.XLSX and found.rows.order_by()[: XLSX_ROWS + 1].count() > XLSX_ROWS:
        raise ExportTooLarge(
            f"A spreadsheet may have {XLSX_ROWS} rows: take a shorter period, csv or jsonl.",
            most_rows=XLSX_ROWS,
        )
    narrowed = {name: str(value) for name, value in wanted.items() if value is not None}
    journal.record(
        actor=actor,
        action=action,
        subject=f"wallet:{customer_id}",
        data={"format": form.value, "filter": narrowed},
        target_user_id=customer_id,
    )
