"""Paths of the plan's page; the frame hangs them at the root of the site."""

from django.urls import path

from plans import views

urlpatterns = [
    path("app/plan", views.plan, name="plan"),
    path("app/plan/promo", views.redeem, name="plan_promo"),
    path("app/plan/<slug:name>", views.act, name="plan_act"),
]
