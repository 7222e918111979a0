"""A turn is all or nothing.

If a turn raises, no change of a behavior, spawn, send, listener or promise settlement of that turn
happened, whoever it concerned. An error that is caught inside the turn undoes nothing: there are no
transactions within a turn. Every turn stands alone: one that fails takes nothing from the others.
"""

import logging
from collections import deque
from contextlib import contextmanager, suppress

import pytest
from goblins import (
    GoblinsError,
    ManualVat,
    MemoryStore,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from hypothesis import given
from hypothesis import strategies as st
from support import ENV, Boom, caller, cell, counter, failing, must_not_run, run_child


def in_turn(vat, body):
    """Runs `body` as a turn that fails."""
    with pytest.raises(Boom):
        vat.run(body)


class TestATurnThatRaisesLeavesNothing:
    """TRN-02, TRN-03"""

    def test_no_change_of_any_behavior(self, vat):
        one, two = vat.spawn(cell, 1), vat.spawn(cell, 2)

        def body():
            one.put(10)
            two.put(20)
            one.put(100)
            assert (one.get(), two.get()) == (100, 20)
            raise Boom

        in_turn(vat, body)
        assert (one.get(), two.get()) == (1, 2)

    def test_no_change_by_the_behavior_that_raises_itself(self, vat):
        def greedy(bcom, till):
            def take(n):
                till.put(till.get() - n)
                if till.get() < 0:
                    raise Boom
                return till.get()

            return take

        till = vat.spawn(cell, 10)
        take = vat.spawn(greedy, till)
        assert take(4) == 6
        with pytest.raises(Boom):
            take(7)
        assert till.get() == 6

    def test_no_spawn(self, vat):
        leaked = []

        def body():
            leaked.append(spawn(counter))
            assert leaked[0]() == 0
            raise Boom

        in_turn(vat, body)
        with pytest.raises(GoblinsError, match=r"undone|not exist"):
            leaked[0]()
        with pytest.raises(GoblinsError, match=r"undone|not exist"):
            send(leaked[0]).result(timeout=30)

    def test_no_send(self, vat, other_vat):
        near, far = vat.spawn(cell, "untouched"), other_vat.spawn(cell, "untouched")
        promises = []

        def body():
            for target in (near, far):
                tell(target.put, "told")
                promises.append(send(target.put, "sent"))
            raise Boom

        in_turn(vat, body)
        vat.drain(timeout=30)
        other_vat.drain(timeout=30)
        assert (near.get(), far.get()) == ("untouched", "untouched")
        assert len(promises) == 2

    def test_no_settlement(self, vat):
        kept, broken = vat.run(promise_and_resolver), vat.run(promise_and_resolver)

        def body():
            kept[1].fulfil("undone")
            broken[1].break_(ValueError("undone"))
            raise Boom

        in_turn(vat, body)
        for promise, resolver in (kept, broken):
            with pytest.raises(TimeoutError):
                promise.result(timeout=0)
            vat.run(resolver.fulfil, "kept")
            assert promise.result(timeout=30) == "kept"

    def test_no_listener(self, vat):
        promise, resolver = vat.run(promise_and_resolver)
        heard = []

        def body():
            on(promise, heard.append)
            on(promise, finally_=lambda: heard.append("finally"))
            raise Boom

        in_turn(vat, body)
        vat.run(resolver.fulfil, 1)
        vat.drain(timeout=30)
        assert heard == []

    def test_nothing_when_the_error_comes_from_a_constructor(self, vat):
        box = vat.spawn(cell, "before")

        def broken(bcom):
            box.put("after")
            tell(box.put, "later")
            raise Boom

        with pytest.raises(Boom):
            vat.spawn(broken)
        assert box.get() == "before"

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_nothing_when_the_error_is_a_request_to_stop(self, vat, error):
        box = vat.spawn(cell, "before")

        def body():
            box.put("after")
            raise error

        with pytest.raises(error):
            vat.run(body)
        assert box.get() == "before"

    def test_nothing_when_it_answers_with_a_foreign_token(self, vat):
        box = vat.spawn(cell, "before")
        lender = vat.spawn(lambda bcom: lambda: [bcom(lambda: None)])

        def thief(bcom):
            def behavior():
                box.put("after")
                return lender()[0]

            return behavior

        with pytest.raises(GoblinsError):
            vat.spawn(thief)()
        assert box.get() == "before"

    def test_the_change_of_the_turn_before_stays(self, vat):
        ticks = vat.spawn(counter)
        ticks()
        ticks()

        def body():
            ticks()
            raise Boom

        in_turn(vat, body)
        assert ticks() == 2

    def test_many_changes_of_many_actors(self, vat):
        cells = [vat.spawn(cell, 0) for _ in range(100)]

        def body():
            for round_ in range(1, 11):
                for box in cells:
                    box.put(round_)
            raise Boom

        in_turn(vat, body)
        assert {box.get() for box in cells} == {0}

    def test_the_error_is_the_one_that_was_raised(self, vat):
        error = Boom("the very one")
        with pytest.raises(Boom) as caught:
            vat.spawn(failing)(error)
        assert caught.value is error


class TestACaughtErrorUndoesNothing:
    """TRN-04: there are no nested transactions."""

    def test_changes_of_the_call_that_failed_stay(self, vat):
        box = vat.spawn(cell, "before")

        def fails_late(bcom):
            def behavior():
                box.put("after")
                raise Boom

            return behavior

        def tolerant(bcom, target):
            def behavior():
                try:
                    target()
                except Boom:
                    return "caught"

            return behavior

        target = vat.spawn(fails_late)
        assert vat.spawn(tolerant, target)() == "caught"
        assert box.get() == "after"

    def test_messages_of_the_call_that_failed_are_sent(self, vat):
        box = vat.spawn(cell, "before")

        def fails_late(bcom):
            def behavior():
                tell(box.put, "sent")
                raise Boom

            return behavior

        target = vat.spawn(fails_late)
        with vat, pytest.raises(Boom):
            target()
        assert box.get() == "sent"

    def test_the_change_that_the_failed_call_would_have_returned_is_not_made(self, vat):
        def almost(bcom):
            def behavior():
                bcom(lambda: "changed")
                raise Boom

            return behavior

        target = vat.spawn(almost)
        with vat:
            for _ in range(2):
                with pytest.raises(Boom):
                    target()


class TestEveryTurnStandsAlone:
    """TRN-12, TRN-13"""

    def test_a_failing_turn_loses_only_its_own_changes(self, vat):
        boxes = [vat.spawn(cell, 0) for _ in range(3)]
        run = vat.spawn(caller)

        def fail_after_putting():
            boxes[1].put(1)
            raise Boom

        with vat:
            first = send(run, lambda: boxes[0].put(1))
            second = send(run, fail_after_putting)
            third = send(run, lambda: boxes[2].put(1))
        assert [box.get() for box in boxes] == [1, 0, 1]
        assert first.result(timeout=30) is None
        assert third.result(timeout=30) is None
        with pytest.raises(Boom):
            second.result(timeout=30)

    def test_a_failing_later_turn_is_not_the_callers_error(self, vat):
        """TRN-14"""
        fails, ticks = vat.spawn(failing), vat.spawn(counter)
        with vat:
            promise = send(fails, Boom("later"))
            ticks()
        assert ticks() == 1
        with pytest.raises(Boom, match="later"):
            promise.result(timeout=30)

    def test_a_failing_first_turn_never_discards_later_turns_of_its_churn(self):
        """TRN-13, LIM-30: whoever listens to its promise is told in the same churn."""
        vat = ManualVat(log=True)
        fails, box = vat.spawn(failing), vat.spawn(cell, "before")
        answer = send(fails, Boom("first"))
        vat.run(on, answer, catch=lambda error: box.put(str(error)))
        assert box.get() == "before"
        vat.log.clear()
        assert vat.step()
        first, second = vat.log
        assert (first.kind, first.outcome, second.kind, second.outcome) == (
            "deliver",
            "undone",
            "react",
            "kept",
        )
        assert first.churn == second.churn
        assert box.get() == "first"
        vat.close()

    def test_side_effects_outside_the_vat_are_not_undone(self, vat):
        """TRN-05"""
        outside = []

        def body():
            outside.append(1)
            raise Boom

        in_turn(vat, body)
        assert outside == [1]

    def test_the_vat_goes_on_after_any_number_of_failures(self, vat):
        fails, ticks = vat.spawn(failing), vat.spawn(counter)
        for n in range(200):
            with pytest.raises(Boom):
                fails(Boom(n))
            assert ticks() == n


# Random programs of turns, beside a model that copies everything before each turn.

CELLS, PROMISES = 3, 2

values = st.integers(0, 9)
cells = st.integers(0, CELLS - 1)
simple = st.one_of(
    st.tuples(st.just("put"), cells, values),
    st.tuples(st.just("add"), cells, cells),
    st.tuples(st.just("tell"), cells, values),
    st.tuples(st.just("send"), cells, values),
    st.tuples(st.just("spawn"), cells, values),
    st.tuples(st.just("settle"), st.integers(0, PROMISES - 1), values),
    st.tuples(st.just("raise")),
)
programs = st.recursive(
    st.lists(simple, max_size=4),
    lambda inner: st.lists(
        st.one_of(
            simple,
            st.tuples(st.just("try"), inner),
            st.tuples(st.just("later"), inner),
        ),
        max_size=5,
    ),
    max_leaves=12,
)


class Model:
    """What should happen, the simple way."""

    def __init__(self):
        self.cells = [0] * CELLS
        self.promises = [None] * PROMISES
        self.heard = [None] * PROMISES

    def churn(self, program):
        """Runs a program and all that comes of it; tells whether its first turn failed."""
        queue = deque()
        failed = self.turn(lambda messages: self.do(program, messages), queue)
        while queue:
            self.turn(queue.popleft(), queue)
        return failed

    def turn(self, body, queue):
        before = (list(self.cells), list(self.promises), list(self.heard))
        messages = []
        try:
            body(messages)
        except Boom:
            self.cells, self.promises, self.heard = before
            return True
        queue.extend(messages)
        return False

    def do(self, program, messages):
        for op, *args in program:
            if op in ("put", "spawn"):
                self.cells[args[0]] = args[1]
            elif op == "add":
                self.cells[args[0]] += self.cells[args[1]]
            elif op in ("tell", "send"):
                messages.append(lambda _, args=args: self.cells.__setitem__(*args))
            elif op == "settle" and self.promises[args[0]] is None:
                self.promises[args[0]] = args[1]
                messages.append(lambda _, args=args: self.heard.__setitem__(*args))
            elif op == "raise":
                raise Boom
            elif op == "try":
                with suppress(Boom):
                    self.do(args[0], messages)
            elif op == "later":
                messages.append(lambda later, args=args: self.do(args[0], later))


class Real:
    """The same with actors."""

    def __init__(self, vat, boxes):
        self.vat = vat
        self.boxes = boxes
        self.heard = [None] * PROMISES
        self.pairs = [vat.run(promise_and_resolver) for _ in range(PROMISES)]
        self.runner = vat.spawn(lambda bcom: self.do)
        with vat:
            for index, (promise, _) in enumerate(self.pairs):
                on(promise, lambda value, index=index: self.heard.__setitem__(index, value))

    def churn(self, program):
        try:
            self.runner(program)
        except Boom:
            return True
        return False

    def close(self):
        """Leaves no promise open: it would break, and be logged whenever the collector finds it."""
        for _, resolver in self.pairs:
            resolver.fulfil(None)
        self.vat.drain()
        self.vat.close()

    def do(self, program):
        for op, *args in program:
            if op == "put":
                self.boxes[args[0]].put(args[1])
            elif op == "spawn":
                fresh = spawn(cell, args[1])
                self.boxes[args[0]].put(fresh.get())
            elif op == "add":
                self.boxes[args[0]].put(self.boxes[args[0]].get() + self.boxes[args[1]].get())
            elif op == "tell":
                tell(self.boxes[args[0]].put, args[1])
            elif op == "send":
                on(send(self.boxes[args[0]].put, args[1]), catch=lambda error: None)
            elif op == "settle":
                self.pairs[args[0]][1].fulfil(args[1])
            elif op == "raise":
                raise Boom
            elif op == "try":
                with suppress(Boom):
                    self.runner(args[0])
            elif op == "later":
                tell(self.runner, args[0])


@given(st.lists(programs, min_size=1, max_size=5))
def test_random_programs_do_what_the_model_does(turns):
    """The cells live in a store, so that after each churn the store can be asked too."""
    with quiet_log(), MemoryStore() as store:
        vat, *boxes = spawn_persistent_vat(ENV, lambda: tuple(spawn(cell, 0) for _ in range(CELLS)), store)
        model, real = Model(), Real(vat, boxes)
        for program in turns:
            assert model.churn(program) == real.churn(program)
            assert [box.get() for box in boxes] == model.cells
            assert real.heard == model.heard
        real.close()
        vat, *boxes = spawn_persistent_vat(ENV, must_not_run, store)
        assert [box.get() for box in boxes] == model.cells


@contextmanager
def quiet_log():
    """The programs fail on purpose, and often."""
    logger = logging.getLogger("goblins")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def test_a_turn_that_runs_out_of_memory_is_undone_as_a_whole():
    pytest.importorskip("_testcapi")
    child = run_child("no_memory.py", 120)
    assert (child.returncode, child.stdout) == (0, "all or nothing\n"), child.stderr[-2000:]
