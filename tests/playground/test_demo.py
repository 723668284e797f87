"""The demo of development: people and plans, however often it is made."""

from accounts.models import User
from plans import queries
from plans.models import Plan
from playground import demo
from plyrum import clock
from tests.billing import books
from tests.plans.world import withdrawn

__all__ = ["withdrawn"]


def test_demo_can_be_made_again() -> None:
    Plan.objects.update(is_offered=False)

    assert demo.seed() == demo.seed()

    customer = User.objects.get(email=demo.CUSTOMER)
    assert books.wallet(customer.id).balance_micro_rub == demo.DEMO_BONUS_MICRO_RUB
    assert {version.plan_id for version in queries.offered(at=clock.now())} == {"start", "studio"}
