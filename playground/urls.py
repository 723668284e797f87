"""Paths of the front page, the overview, the chat and the explanation of a run."""

from django.urls import path

from playground import chat_views, views

urlpatterns = [
    path("", views.landing, name="landing"),
    path("app", views.overview, name="overview"),
    path("app/requests/<uuid:run_id>", views.run_why, name="run_why"),
    path("app/chat", chat_views.chat, name="chat"),
    path("app/chat/estimate", chat_views.estimate, name="chat_estimate"),
    path("app/chat/<uuid:thread_id>", chat_views.chat, name="thread"),
    path("app/chat/messages/<uuid:message_id>", chat_views.message, name="chat_message"),
    path("app/chat/runs/<uuid:run_id>/events", chat_views.run_events, name="chat_events"),
    path("app/chat/runs/<uuid:run_id>/stop", chat_views.stop, name="chat_stop"),
]
