"""How a story ends: usage, money, one terminal frame. A plain answer's end is drafted before its charge.

Source: docs/decisions/0005-hot-path.md.
"""

from typing import Any

from orchestration.database_connection import Row
from orchestration.execution import Bill, Outcome, RunTask

SETTLED = ("done", "replayed")  # outcomes of run_settle by which the money is where it belongs
BALANCE = b'"balance_micro_rub":'
NO_BALANCE = BALANCE + b"null"  # the database sets the balance in here, by run_told()


def frames(outcome: Outcome, counted: Bill, row: Row) -> list[tuple[str, dict[str, Any]]]:
    """The last frames: usage, the stage's end, the money, then exactly one terminal frame."""
    facts = {**counted.usage.counts(), "estimated": counted.estimated}
    is_settled = row["outcome"] in SETTLED
    charged = row["charged"]
    model = outcome.candidate.offer.id if outcome.candidate is not None else ""
    stage = {
        "stage": "final",
        "role": "answer",
        "index": 0,
        "model": model,
        "status": outcome.state.value,
        "usage": facts,
        "cost_micro_rub": charged,
    }
    settled = {
        "cost_micro_rub": charged,
        "released_micro_rub": row["released"],
        "balance_micro_rub": row["spendable"],
        "ledger_entry_id": row["entry_id"],
    }
    told = [("usage", {"usage": facts}), ("stage.finished", stage), ("settled", settled)]
    error = outcome.error
    if is_settled and error is None:
        return [*told, ("run.finished", {"finish_reason": outcome.finish_reason})]
    failure = {
        "code": error.name if error is not None and is_settled else f"settle_{row['outcome']}",
        "retryable": error is not None and not error.is_customers,
        "charged_micro_rub": charged,
    }
    return [*told, ("error", failure)]


def expected(run: RunTask, outcome: Outcome, counted: Bill, step: dict[str, Any]) -> list[bytes]:
    """The last frames if the charge goes through; puts the story into `step`, to be archived with it.

    All but the balance is known before.
    """
    charged = counted.charged_micro_rub
    row = {
        "outcome": "done",
        "charged": charged,
        "released": run.held_micro_rub - charged,
        "spendable": None,
        "entry_id": step["money"]["hold_id"] if charged else None,
    }
    told = run.story.drafted(frames(outcome, counted, row))
    step["story"] = b"".join(run.story.pending + told)
    return told


def with_balance(told: list[bytes], spendable: int | None) -> list[bytes]:
    """The expected frames, as they were archived. None: an account that is never charged."""
    if spendable is None:
        return told
    return [frame.replace(NO_BALANCE, b"%b%d" % (BALANCE, spendable)) for frame in told]
