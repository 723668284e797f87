"""Pages of sign-up, sign-in and passwords: allauth's views with our form and re-authentication."""

from allauth.account import views as allauth_views
from allauth.account.decorators import reauthentication_required
from django.utils.decorators import method_decorator

from accounts.allauth_forms import SignupForm


class SignupView(allauth_views.SignupView):  # type: ignore[misc]
    form_class = SignupForm


# A stolen session cannot move the account to another address: changing it asks for the password again.
@method_decorator(reauthentication_required(allow_get=True), name="dispatch")
class EmailView(allauth_views.EmailView):  # type: ignore[misc]
    pass
