"""One fact told fifty times at once has one effect: the unique key is the rule, the lock keeps it calm."""

from collections import Counter
from uuid import UUID

from plyrum.ids import uuid7
from tests.billing import books
from tests.concurrency import copies
from tests.concurrency.connections import Client, call, client, race

CALLERS = 50


def tell(customer: UUID, schema: str = "public", *, as_owner: bool = False) -> Counter[str]:
    """Fifty callers credit the same fact at once; how each was answered."""
    key = f"test:{uuid7()}"

    def work(found: Client, _: int) -> str:
        (answer,) = call(found, "ledger_credit", [books.credit_step(customer, 100, key=key)])
        return str(answer["outcome"])

    answers = race(CALLERS, work, schema=schema, as_owner=as_owner)
    return Counter(answer if isinstance(answer, str) else type(answer).__name__ for answer in answers)


def test_one_fact_told_by_fifty_is_credited_once() -> None:
    customer = uuid7()

    assert tell(customer) == {"done": 1, "replayed": 49}
    assert books.wallet(customer).balance_micro_rub == 100
    books.assert_right(customer)


def hold(customer: UUID, schema: str = "public", *, as_owner: bool = False) -> Counter[str]:
    """Fifty callers ask for the same hold at once; how each was answered."""
    step = books.hold_step(customer, 100)

    def work(found: Client, _: int) -> str:
        (answer,) = call(found, "ledger_hold", [step])
        return str(answer["outcome"])

    answers = race(CALLERS, work, schema=schema, as_owner=as_owner)
    return Counter(answer if isinstance(answer, str) else type(answer).__name__ for answer in answers)


def test_one_hold_asked_for_by_fifty_is_held_once() -> None:
    customer = books.funded(10_000)

    assert hold(customer) == {"held": 1, "replayed": 49}
    assert books.reserved(customer) == [100]
    books.assert_right(customer)


def test_control_without_the_lock_before_the_look_a_repeat_of_a_hold_is_refused_by_its_key() -> None:
    """It does no harm then either: the key is the second line, and its answer is none."""
    customer = uuid7()
    with (
        copies.ledger_copy(copies.LOCK_BEFORE_A_LOOK, meet="INSERT ON billing_hold", seconds=20) as schema,
        client(schema=schema, as_owner=True) as owner,
    ):
        call(owner, "ledger_credit", [books.credit_step(customer, 10_000)])
        answers = hold(customer, schema, as_owner=True)
        row = owner.execute("SELECT lot_reserved FROM billing_wallet").fetchone()

    assert answers["held"] == 1
    assert answers["UniqueViolation"] > 0
    assert row == {"lot_reserved": [100]}


def test_one_capture_told_by_fifty_charges_once() -> None:
    customer = books.funded(10_000)
    hold_id = books.held(customer, 100)

    def work(found: Client, _: int) -> str:
        (answer,) = call(found, "ledger_settle", [books.settle_step(customer, hold_id, 60)])
        return str(answer["outcome"])

    assert Counter(race(CALLERS, work)) == {"done": 1, "replayed": 49}
    assert books.wallet(customer).balance_micro_rub == 9_940
    books.assert_right(customer)


def test_one_wallet_opened_by_fifty_is_one_wallet() -> None:
    customer = uuid7()

    def work(found: Client, number: int) -> str:
        found.execute("SELECT ledger_open_wallet(%s)", [customer])
        (answer,) = call(found, "ledger_credit", [books.credit_step(customer, number + 1)])
        return str(answer["outcome"])

    assert Counter(race(CALLERS, work)) == {"done": 50}
    assert books.wallet(customer).balance_micro_rub == 50 * 51 // 2
    books.assert_right(customer)


def told_in_copy(schema: str) -> Counter[str]:
    customer = uuid7()
    with client(schema=schema, as_owner=True) as owner:
        owner.execute("SELECT ledger_open_wallet(%s)", [customer])
    return tell(customer, schema, as_owner=True)


def test_control_without_key_and_lock_the_fact_is_credited_many_times() -> None:
    with copies.ledger_copy(
        copies.ROW_LOCK, then=(copies.UNIQUE_KEYS,), meet="UPDATE ON billing_wallet", seconds=20
    ) as schema:
        assert told_in_copy(schema)["done"] > 1


def test_key_alone_keeps_the_effect_single_but_answers_with_errors() -> None:
    with copies.ledger_copy(copies.ROW_LOCK, meet="UPDATE ON billing_wallet", seconds=20) as schema:
        answers = told_in_copy(schema)

    assert answers["done"] == 1
    assert answers["UniqueViolation"] > 0
