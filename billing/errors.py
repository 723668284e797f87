"""What can go wrong with money."""

from plyrum.errors import Conflict, Forbidden, InvalidRequest, NotFound, PaymentRequired


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


class FindingClosed(Conflict):
    code, title = "finding_closed", "This finding is closed"


class IdempotencyMismatch(InvalidRequest):
    code, title = "idempotency_mismatch", "This idempotency key was used with another body"


class IdempotencyKeyRequired(InvalidRequest):
    code, title = "idempotency_key_required", "An idempotency key is required"


class OwnWallet(Forbidden):
    code, title = "own_wallet", "Nobody acts on their own wallet"


class SecondPersonRequired(Forbidden):
    code, title = "second_person_required", "Who asked for it does not decide it"


class AlreadyReversed(Conflict):
    code, title = "already_reversed", "This charge was taken back before"


class TopUpNotFound(NotFound):
    code, title = "topup_not_found", "There is no such paid payment of this customer"


class AlreadyDisputed(Conflict):
    code, title = "already_disputed", "This dispute was booked before"


class HoldNotFound(NotFound):
    title = "There is no such hold"


class HoldClosed(Conflict):
    code, title = "hold_closed", "This hold is no longer open"


class HoldInUse(Conflict):
    code, title = "hold_in_use", "The run of this hold is still running"


class OperatorRequestNotFound(NotFound):
    title = "There is no such request"


class OperatorRequestClosed(Conflict):
    """Extra: `state`."""

    code, title = "operator_request_closed", "This request was decided, or its time is over"


class OperatorRequestChanged(Conflict):
    code, title = "operator_request_changed", "This is not the request that was shown"


class OperatorLimitExceeded(Forbidden):
    """Extra: `role`, `limit_micro_rub`: the most that one act of this role moves."""

    code, title = "operator_limit_exceeded", "More than one act of this role may move"


class SpendLimitReached(PaymentRequired):
    """True of this request and this window only: nothing stays set.

    Extra: `subject_kind`, `window`, `resets_at`; `limit_micro_rub` and `used_micro_rub` unless it is shared.
    """

    code, title, retryable = "spend_limit_reached", "A limit of spending is reached", True


class RequestLimitExceeded(PaymentRequired):
    """Extra: `limit_micro_rub`, `needed_micro_rub`."""

    code, title = "request_limit_exceeded", "This request may cost more than one request is allowed to"


class SpendingBlocked(Forbidden):
    """Set and lifted by operators only; reading, paying in and refunds stay open."""

    code, title = "spending_blocked", "Spending is stopped for this account"


class DebtOutstanding(PaymentRequired):
    """A disputed payment left a debt, so nothing more is spent. Extra: `debt_micro_rub`."""

    code, title = "debt_outstanding", "A disputed payment left a debt"


class LimitNotFound(NotFound):
    title = "There is no such limit"


class AlreadyBlocked(Conflict):
    code, title = "spending_already_blocked", "Spending is stopped already"


class NotBlocked(Conflict):
    code, title = "spending_not_blocked", "Spending is not stopped"
