"""An actor that is being made from its record can't be called yet: what calls it then gets an error, at once.

Messages to it are handled when it is there.
"""

import pytest
from goblins import (
    Actor,
    DeadlockError,
    PersistenceEnv,
    actor,
    methods,
    rehearse,
    send,
    spawn,
)

BEING_MADE = r"(?i)subject#0 of vat .* is being made from its record, and can't be called until that is done"


class Friend(Actor, label="friend"):
    subject: object = None

    def meet(self, subject):
        self.subject = subject

    def get(self):
        return self.subject.get()


class Subject(Actor, label="subject"):
    """The one that is stored. ``friend`` is itself, or one that calls it."""

    friend: object = None

    def meet(self, friend):
        self.friend = friend

    def get(self):
        return "here"


class Plan:
    """What is done in the midst of making a subject."""

    def __init__(self):
        self.run = lambda friend: friend.get()
        self.runs = 0

    def __call__(self, friend):
        self.runs += 1
        self.run(friend)


def by_hook(plan):
    class Subject(Actor, label="subject"):
        friend: object = None

        def restored(self):
            plan(self.friend)

        def get(self):
            return "here"

    return Subject


def by_constructor(plan):
    @actor(label="subject")
    def subject(bcom, friend):
        plan(friend)
        return methods(get=lambda: "here")

    return subject


def by_rehydrator(plan):
    def restore(version, friend):
        plan(friend)
        return spawn(subject, friend)

    @actor(label="subject", restore=restore)
    def subject(bcom, friend):
        return methods(get=lambda: "here")

    return subject


def by_upgrade(plan):
    def upgrade(version, fields):
        plan(fields["friend"])
        return fields

    class Subject(Actor, label="subject", version=1, upgrade=upgrade):
        friend: object = None

        def get(self):
            return "here"

    return Subject


def env_of(subject):
    return PersistenceEnv("test", subject, Friend)


def roots_of(friend_is):
    """A subject, and a friend of it."""

    def roots():
        subject, friend = spawn(Subject), spawn(Friend)
        subject.meet(subject if friend_is == "itself" else friend)
        friend.meet(subject)
        return subject, friend

    return roots


@pytest.fixture
def plan():
    return Plan()


@pytest.fixture(params=[by_hook, by_constructor, by_rehydrator, by_upgrade], ids=lambda way: way.__name__)
def env(request, plan):
    """In which a subject follows the plan while it is made."""
    return env_of(request.param(plan))


@pytest.fixture(params=["itself", "another"])
def roots(request):
    return roots_of(request.param)


@pytest.fixture
def subject(memory, env, roots):
    """One that has not been made yet."""
    vat, *_ = memory.spawn(roots, env=env_of(Subject))
    _, subject, _ = memory.restart(vat, env=env)
    return subject


def test_a_call_to_it_is_an_error_and_nothing_is_left_of_that(subject, plan):
    for _ in range(2):
        with pytest.raises(DeadlockError, match=BEING_MADE):
            subject.get()
    assert plan.runs == 2
    plan.run = lambda friend: None
    assert subject.get() == "here"


def test_who_catches_the_error_goes_on_and_the_actor_is_made_once(subject, plan):
    def catch(friend):
        with pytest.raises(DeadlockError, match=BEING_MADE):
            friend.get()

    plan.run = catch
    assert subject.get() == "here"
    assert subject.get() == "here"
    assert plan.runs == 1


def test_another_error_leaves_it_as_it_was(subject, plan):
    def fail(friend):
        raise ZeroDivisionError

    plan.run = fail
    with pytest.raises(ZeroDivisionError):
        subject.get()
    plan.run = lambda friend: None
    assert subject.get() == "here"


def test_a_message_to_it_is_handled_when_it_is_there(subject, plan):
    sent = []
    plan.run = lambda friend: sent.append(send(friend.get))
    assert subject.get() == "here"
    assert [promise.result(30) for promise in sent] == ["here"]
    assert plan.runs == 1


def test_actors_that_get_new_code_are_made_so_too(memory, env, roots, plan):
    vat, subject, _ = memory.spawn(roots, env=env_of(Subject))
    with pytest.raises(DeadlockError, match=BEING_MADE):
        vat.replace_behavior(env)
    assert subject.get() == "here"
    assert plan.runs == 1
    plan.run = lambda friend: None
    assert vat.replace_behavior(env).replaced == {"test.subject": 1}
    assert subject.get() == "here"


def test_a_rehearsal_names_it(memory, env, roots):
    memory.spawn(roots, env=env_of(Subject))
    report = rehearse(env, memory.store)
    (problem,) = report.problems
    assert (problem.label, problem.slot) == ("test.subject", 0)
    assert "is being made from its record" in problem.reason
