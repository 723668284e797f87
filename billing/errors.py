"""What can go wrong with money."""

from plyrum.errors import Conflict, InvalidRequest, NotFound, PaymentRequired


class InsufficientBalance(PaymentRequired):
    """Extra: `needed_micro_rub`, `balance_micro_rub`."""

    code, title = "insufficient_balance", "There is not enough money on the balance"


class ReservedInFlight(PaymentRequired):
    """The money is there, but requests that still run hold it. Extra as InsufficientBalance."""

    code, title, retryable = "reserved_in_flight", "Running requests hold the money", True
    retry_after_seconds = 5


class LedgerConflict(Conflict):
    """A key of the ledger was seen before with other content. A fault of ours, never of a customer."""

    code, title = "ledger_conflict", "This money step was recorded with other content"


class ChargeNotFound(NotFound):
    code, title = "charge_not_found", "There is no such charge of this customer"


class ExportTooLarge(InvalidRequest):
    """Extra: `most_rows`."""

    code, title = "export_too_large", "There are more rows than a spreadsheet may have"


class IdempotencyMismatch(InvalidRequest):
    code, title = "idempotency_mismatch", "This idempotency key was used with another body"


class IdempotencyKeyRequired(InvalidRequest):
    code, title = "idempotency_key_required", "An idempotency key is required"
