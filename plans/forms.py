"""The forms of the plan's page."""

from django import forms

from plans.models import Subscription

LONGEST_CODE = 60


class ActForm(forms.Form):
    """One act on the subscription: which plan, at which price, which period, how renewed; with a key."""

    plan = forms.SlugField(required=False, max_length=40)
    price_micro_rub = forms.IntegerField(required=False, min_value=0, max_value=2**63 - 1)
    renewal = forms.ChoiceField(required=False, choices=Subscription.Renewal.choices)
    period_start = forms.DateTimeField(required=False, input_formats=["%Y-%m-%dT%H:%M:%S.%f%z"])
    idempotency_key = forms.UUIDField()


class PromoForm(forms.Form):
    code = forms.CharField(max_length=LONGEST_CODE)
