"""The acts of a conversation, without an engine."""

from uuid import UUID, uuid4

import pytest

from accounts.models import User
from billing.errors import IdempotencyMismatch
from orchestration.models import Run
from playground import queries, threads
from playground.errors import MessageNotFound, ThreadNotFound
from playground.models import Message, Thread
from playground.threads import Asked
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.playground.runs import make_run
from tests.threads import at_once


@pytest.fixture
def user() -> User:
    return factories.customer()


def _ask(
    user: User, text: str = "Вопрос", *, thread_id: UUID | None = None, key: UUID | None = None
) -> Asked:
    return threads.ask(
        customer_id=user.id,
        thread_id=thread_id,
        text=text,
        model="auto",
        key=key or uuid4(),
        now=clock.now(),
    )


def test_first_question_opens_a_thread_named_by_its_first_words(user: User) -> None:
    asked = _ask(user, "Почему   небо\nголубое, " + "а закат красный? " * 20)

    thread = queries.thread_of(user.id, asked.thread_id)
    assert thread.title.startswith("Почему небо голубое, а закат")
    assert len(thread.title) <= threads.TITLE_WIDTH
    page = queries.page_of(thread)
    assert [(message.place, message.role) for message in page.messages] == [(1, "user"), (2, "assistant")]


def test_question_of_one_long_word_still_names_its_thread(user: User) -> None:
    assert queries.thread_of(user.id, _ask(user, "ы" * 500).thread_id).title == "ы" * 59 + "…"


def test_same_form_is_one_question(user: User) -> None:
    key = uuid4()

    first, again = _ask(user, key=key), _ask(user, key=key)

    assert (first.is_new, again.is_new) == (True, False)
    assert first.question_id == again.question_id
    assert Thread.objects.filter(user=user).count() == 1


def test_same_form_sent_at_once_is_one_question(user: User) -> None:
    key = uuid4()

    asked = at_once(4, lambda: _ask(user, key=key))

    assert len({answer.question_id for answer in asked}) == 1
    assert [answer.is_new for answer in asked].count(True) == 1
    assert Thread.objects.filter(user=user).count() == 1


def test_same_key_with_another_question_is_refused(user: User) -> None:
    key = uuid4()
    _ask(user, key=key)

    with pytest.raises(IdempotencyMismatch):
        _ask(user, "Другой", key=key)


def test_key_of_somebody_else_means_nothing(user: User) -> None:
    key = uuid4()
    _ask(user, key=key)

    assert _ask(factories.stranger(), key=key).is_new


def test_thread_of_somebody_else_cannot_be_continued(user: User) -> None:
    asked = _ask(user)
    stranger = factories.stranger()

    with pytest.raises(ThreadNotFound):
        _ask(stranger, thread_id=asked.thread_id)
    with pytest.raises(MessageNotFound):
        queries.message_of(stranger.id, asked.question_id)
    assert queries.answer_of_run(stranger.id, uuid7()) is None


def test_withdrawn_question_leaves_nothing_and_can_be_asked_again(user: User) -> None:
    key = uuid4()
    asked = _ask(user, key=key)

    threads.withdraw(customer_id=user.id, question_id=asked.question_id)
    threads.withdraw(customer_id=user.id, question_id=asked.question_id)

    assert not Thread.objects.filter(user=user).exists()
    assert _ask(user, key=key).is_new


def test_withdrawing_the_second_question_keeps_the_thread(user: User) -> None:
    first = _ask(user)
    second = _ask(user, "Второй", thread_id=first.thread_id)

    threads.withdraw(customer_id=user.id, question_id=second.question_id)

    assert Message.objects.filter(thread_id=first.thread_id).count() == 2


def test_question_with_a_run_is_not_withdrawn(user: User) -> None:
    asked = _ask(user)
    make_run(user, key=queries.run_key(asked.question_id))

    threads.withdraw(customer_id=user.id, question_id=asked.question_id)

    assert Message.objects.filter(pk=asked.question_id).exists()


def test_run_is_written_down_once(user: User) -> None:
    asked, run_id = _ask(user), uuid7()

    threads.attach_run(answer_id=asked.answer_id, run_id=run_id)
    threads.attach_run(answer_id=asked.answer_id, run_id=uuid7())

    assert Message.objects.get(pk=asked.answer_id).run_id == run_id


def _answered(user: User, text: str, answer: str, *, thread_id: UUID | None = None) -> tuple[Asked, Run]:
    asked = _ask(user, text, thread_id=thread_id)
    run = make_run(user, key=queries.run_key(asked.question_id), text=answer)
    threads.attach_run(answer_id=asked.answer_id, run_id=run.id)
    return asked, run


def test_model_is_told_the_last_messages_and_no_empty_answer(user: User) -> None:
    first, _run = _answered(user, "Раз", "Ответ один")
    _answered(user, "Два", "", thread_id=first.thread_id)
    last = _ask(user, "Три", thread_id=first.thread_id)

    told = threads.conversation(customer_id=user.id, question_id=last.question_id)

    assert [(said["role"], said["content"]) for said in told] == [
        ("user", "Раз"), ("assistant", "Ответ один"), ("user", "Два"), ("user", "Три"),
    ]  # fmt: skip


def test_long_conversation_is_cut_to_its_end(user: User) -> None:
    first = _ask(user, "0")
    for number in range(1, 15):
        last = _ask(user, str(number), thread_id=first.thread_id)

    told = threads.conversation(customer_id=user.id, question_id=last.question_id)

    assert [said["content"] for said in told] == [str(number) for number in range(4, 15)]
    thread = queries.thread_of(user.id, first.thread_id)
    assert [said["content"] for said in threads.history(thread)][-1] == "14"


def test_answer_whose_run_was_not_written_down_is_found_by_its_question(user: User) -> None:
    asked = _ask(user)
    run = make_run(user, key=queries.run_key(asked.question_id))
    page = queries.page_of(queries.thread_of(user.id, asked.thread_id))

    assert queries.runs_by_answer(user.id, page.messages) == {asked.answer_id: run}


def test_thread_is_read_page_by_page_and_costs_the_sum_of_its_runs(user: User) -> None:
    first, _run = _answered(user, "0", "а")
    for number in range(1, 12):
        _answered(user, str(number), "а", thread_id=first.thread_id)
    thread = queries.thread_of(user.id, first.thread_id)

    newest = queries.page_of(thread)
    older = queries.page_of(thread, before=newest.older_before)

    assert len(newest.messages) == queries.PAGE_MESSAGES
    assert [message.place for message in older.messages] == [1, 2, 3, 4]
    assert older.older_before is None
    assert queries.cost_of(thread) == 12 * 420_000
