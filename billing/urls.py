"""The wallet's page, its statement as a file, the pages of API keys."""

from django.urls import path

from billing import key_views, views

urlpatterns = [
    path("app/wallet", views.wallet, name="wallet"),
    path("app/wallet/limits", views.set_limits, name="wallet_limits"),
    path("app/wallet/alert", views.set_alert, name="set_alert"),
    path("app/wallet/export", views.export_wallet, name="export_wallet"),
    path("app/keys", key_views.key_list, name="keys"),
    path("app/keys/new", key_views.new_key, name="new_key"),
    path("app/keys/<uuid:key_id>", key_views.key_page, name="key"),
    path("app/keys/<uuid:key_id>/change", key_views.change_key, name="change_key"),
    path("app/keys/<uuid:key_id>/revoke", key_views.revoke_key, name="revoke_key"),
]
