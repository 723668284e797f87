"""The outbox of letters: once per fact, after the commit, until it is sent, never to somebody who left."""

import socket
from datetime import timedelta

import pytest
from django.core import mail
from django.db import transaction
from pytest_django import Settings

from accounts import notices, tasks
from accounts.models import Notice, User
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.threads import at_once

LETTER = "session_reuse"


def written(user: User, key: str = "") -> Notice:
    key = key or f"test:{uuid7()}"
    with transaction.atomic():
        assert notices.write(user_id=user.id, letter=LETTER, key=key, facts={"at": ""}, now=clock.now())
    return Notice.objects.get(key=key)


def letters_to(user: User) -> list[str]:
    return [str(letter.body) for letter in mail.outbox if letter.to == [user.email]]


def test_letter_is_sent_once_and_what_it_said_is_forgotten() -> None:
    user = factories.customer()
    notice = written(user)

    tasks.send_notice(notice_id=str(notice.pk), added_by_a_later_version=1)
    tasks.send_notice(notice_id=str(notice.pk))

    notice.refresh_from_db()
    assert (notice.outcome, notice.attempts, notice.next_attempt_at, notice.facts) == ("sent", 1, None, {})
    (body,) = letters_to(user)
    assert str(notice.pk) in body  # the number to ask by


def test_one_fact_is_told_once() -> None:
    user = factories.customer()
    notice = written(user)

    with transaction.atomic():
        again = notices.write(
            user_id=user.id, letter=LETTER, key=notice.key, facts={"at": ""}, now=clock.now()
        )

    assert not again
    assert Notice.objects.filter(user_id=user.id).count() == 1


def test_what_was_not_committed_is_not_told() -> None:
    user, key = factories.customer(), f"test:{uuid7()}"

    with transaction.atomic():
        notices.write(user_id=user.id, letter=LETTER, key=key, facts={"at": ""}, now=clock.now())
        transaction.set_rollback(True)

    assert not Notice.objects.filter(key=key).exists()


def test_letter_outside_a_transaction_is_refused() -> None:
    with pytest.raises(RuntimeError):
        notices.write(user_id=uuid7(), letter=LETTER, key="x", facts={}, now=clock.now())


def test_eight_workers_send_one_letter() -> None:
    user = factories.customer()
    notice = written(user)

    outcomes = at_once(8, lambda: notices.send(notice_id=notice.pk, now=clock.now()))

    assert sorted(outcomes) == [""] * 7 + ["sent"]
    assert len(letters_to(user)) == 1


def test_mail_server_that_is_away_is_tried_again_until_it_is_too_often(settings: Settings) -> None:
    user = factories.customer()
    notice = written(user)
    moment = clock.now()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, not listening: refused at once
        settings.EMAIL_HOST, settings.EMAIL_PORT = nobody.getsockname()

        assert notices.send(notice_id=notice.pk, now=moment) == ""
        assert notices.send(notice_id=notice.pk, now=moment) == ""  # its pause is not over
        notice.refresh_from_db()
        assert (notice.attempts, notice.error) == (1, "ConnectionRefusedError")
        assert notice.next_attempt_at == moment + timedelta(minutes=1)
        for _ in range(notices.ATTEMPTS_AT_MOST - 1):
            moment += timedelta(hours=1)
            outcome = notices.send(notice_id=notice.pk, now=moment)

    notice.refresh_from_db()
    assert outcome == notice.outcome == "parked"
    assert notice.facts == {"at": ""}  # so that it can still be understood
    assert letters_to(user) == []


def test_nobody_writes_to_a_closed_account() -> None:
    user = factories.customer()
    notice = written(user)
    User.objects.filter(pk=user.pk).update(is_active=False)

    assert notices.send(notice_id=notice.pk, now=clock.now()) == "dropped"
    assert letters_to(user) == []


def test_letter_that_cannot_be_written_waits_and_stops_no_other() -> None:
    user = factories.customer()
    with transaction.atomic():
        notices.write(user_id=user.id, letter="nowhere", key=f"test:{uuid7()}", facts={}, now=clock.now())
    broken = Notice.objects.get(user_id=user.id)

    assert notices.send(notice_id=broken.pk, now=clock.now()) == ""

    broken.refresh_from_db()
    assert (broken.error, broken.attempts, broken.outcome) == ("TemplateDoesNotExist", 1, "")
    Notice.objects.filter(pk=broken.pk).update(next_attempt_at=None)


def test_beat_sends_what_no_worker_sent() -> None:
    Notice.objects.update(next_attempt_at=None)  # what other tests left stands before it
    user = factories.customer()
    notice = written(user)
    slot = uuid7().hex

    assert [tasks.send_notices(slot=slot), tasks.send_notices(slot=slot)] == ["done", "skipped"]

    notice.refresh_from_db()
    assert notice.outcome == "sent"
