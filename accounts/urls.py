"""Short paths for allauth's views, under the names allauth looks up. What is not named is not offered."""

from allauth.account import views as allauth_views
from django.contrib.auth.decorators import login_required
from django.urls import path, re_path

from accounts.views import EmailView, SignupView

urlpatterns = [
    path("signup", SignupView.as_view(), name="account_signup"),
    path("login", allauth_views.login, name="account_login"),
    path("logout", allauth_views.logout, name="account_logout"),
    path("inactive", allauth_views.account_inactive, name="account_inactive"),
    path("verify", allauth_views.email_verification_sent, name="account_email_verification_sent"),
    path("email", login_required(EmailView.as_view()), name="account_email"),
    path("reauthenticate", allauth_views.reauthenticate, name="account_reauthenticate"),
    path("password/change", allauth_views.password_change, name="account_change_password"),
    path("password/set", allauth_views.password_set, name="account_set_password"),
    path("password/reset", allauth_views.password_reset, name="account_reset_password"),
    path("password/reset/done", allauth_views.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)$",
        allauth_views.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path(
        "password/reset/finished",
        allauth_views.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
]
