"""Numbers of documents without gaps: a counter row that is taken within the issuing transaction.

A transaction that does not commit gives its number back, because nobody else gets one before its end. A
sequence of the database could not promise that. Source: ledger guide 16.
"""

from datetime import date, datetime

from django.db import connection

from billing.vat import LAW_ZONE
from payments.invoices.models import DocumentCounter
from plyrum.transactions import require_transaction

_NEXT = """
INSERT INTO payments_documentcounter AS counter (kind, year, last) VALUES (%s, %s, 1)
    ON CONFLICT (kind, year) DO UPDATE SET last = counter.last + 1
RETURNING last
"""


def take(kind: DocumentCounter.Kind, year: int) -> int:
    """The next number of this kind in this year, from 1. Must run inside the transaction that writes it."""
    require_transaction()
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, [kind, year])
        return int(cursor.fetchone()[0])


def day_of(moment: datetime) -> date:
    """The date that documents carry: Moscow's."""
    return moment.astimezone(LAW_ZONE).date()
