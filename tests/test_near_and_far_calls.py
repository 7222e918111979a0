"""Synchronous calls: within a vat, from outside any vat, and from another vat.

A near call is part of the turn that makes it. A call from a thread that is in no turn is one turn of
its own, on that thread, and returns when all that came of it is done. An actor of another vat can't be
called, only sent to: the error says so.
"""

import threading

import pytest
from goblins import FarCallError, GoblinsError, NoTurnError, on, send, spawn, tell
from support import Boom, caller, cell, counter, echo, failing, failing_turn


class TestNearCalls:
    def test_a_call_gives_the_result_at_once(self, vat):
        """SYN-01"""
        ticks, run = vat.spawn(counter), vat.spawn(caller)
        assert run(lambda: [ticks(), ticks()]) == [0, 1]

    def test_arguments_and_keywords_arrive_as_given(self, vat):
        run = vat.spawn(caller)
        marker = object()
        show = vat.spawn(lambda bcom: lambda *args, **kwargs: (args, kwargs))
        args, kwargs = run(show, 1, marker, key=marker)
        assert args == (1, marker)
        assert kwargs == {"key": marker}

    def test_errors_go_up_like_ordinary_exceptions(self, vat):
        """SYN-09"""
        fails = vat.spawn(failing)

        def careful():
            try:
                fails(Boom("inner"))
            except Boom as error:
                return f"caught {error}"

        assert vat.spawn(caller)(careful) == "caught inner"

    def test_an_endless_recursion_is_a_recursion_error_and_undoes_its_turn(self, vat):
        """SYN-08"""
        box = vat.spawn(cell, "before")
        me = []

        def endless(bcom):
            def behavior():
                box.put("after")
                return me[0]()

            return behavior

        me.append(vat.spawn(endless))
        with pytest.raises(RecursionError):
            me[0]()
        assert box.get() == "before"


class TestFarCalls:
    def test_a_call_of_another_vats_actor_is_an_error_that_names_send(self, vat, other_vat):
        """SYN-02"""
        far, run = other_vat.spawn(counter), vat.spawn(caller)
        with pytest.raises(FarCallError, match="send"):
            run(far)
        assert far() == 0

    def test_so_is_a_call_of_its_method(self, vat, other_vat):
        far, run = other_vat.spawn(cell, 1), vat.spawn(caller)
        with pytest.raises(FarCallError, match="send"):
            run(far.put, 2)
        assert far.get() == 1

    def test_the_error_names_the_actor_and_its_vat(self, vat, other_vat):
        far = other_vat.spawn(counter)
        with pytest.raises(FarCallError, match=r"counter") as caught:
            vat.run(far)
        assert "abroad" in str(caught.value)

    def test_it_is_an_error_in_a_with_block_too(self, vat, other_vat):
        far = other_vat.spawn(counter)
        with vat, pytest.raises(FarCallError):
            far()

    def test_the_error_can_be_caught_and_the_turn_goes_on(self, vat, other_vat):
        far, box = other_vat.spawn(counter), vat.spawn(cell)

        def body():
            try:
                far()
            except FarCallError:
                box.put("went on")

        vat.run(body)
        assert box.get() == "went on"

    def test_sending_is_the_way(self, vat, other_vat):
        far, box = other_vat.spawn(echo), vat.spawn(cell)
        with vat:
            on(send(far, "hello"), box.put)
        other_vat.drain(timeout=30)
        vat.drain(timeout=30)
        assert box.get() == "hello"

    def test_a_far_actor_can_be_passed_and_kept(self, vat, other_vat):
        far = other_vat.spawn(counter)
        box = vat.spawn(cell, far)
        assert box.get() is far

    def test_another_vat_cannot_be_entered_from_inside_a_turn(self, vat, other_vat):
        """VAT-12: it would block this vat until the other one has time."""
        ticks = other_vat.spawn(counter)

        def enter():
            with other_vat:
                pass

        for body in (enter, lambda: other_vat.run(lambda: None), lambda: other_vat.spawn(counter)):
            with pytest.raises(GoblinsError):
                vat.run(body)
        assert ticks() == 0


class TestCallsFromOutside:
    def test_a_call_is_a_turn_on_the_calling_thread(self, vat):
        where = vat.spawn(lambda bcom: threading.get_ident)
        assert where() == threading.get_ident()
        assert vat.run(threading.get_ident) == threading.get_ident()
        seen = []
        thread = threading.Thread(target=lambda: seen.append((where(), threading.get_ident())))
        thread.start()
        thread.join()
        assert seen[0][0] == seen[0][1] != threading.get_ident()

    def test_each_call_is_a_turn_of_its_own(self, vat):
        ticks, fails = vat.spawn(counter), vat.spawn(failing)
        ticks()
        with pytest.raises(Boom):
            fails(Boom())
        assert ticks() == 1

    def test_it_returns_when_all_that_came_of_it_is_done(self, vat):
        """VAT-08: the whole churn."""
        box = vat.spawn(cell, 0)

        def start(bcom, me):
            def behavior(n):
                box.put(n)
                if n < 50:
                    tell(me[0], n + 1)

            return behavior

        me = []
        me.append(vat.spawn(start, me))
        me[0](1)
        with vat:
            assert box.get() == 50

    def test_calls_of_one_thread_come_after_what_it_has_sent(self, vat):
        box = vat.spawn(cell, 0)
        for n in range(1, 100):
            tell(box.put, n)
            assert box.get() == n

    def test_a_call_after_an_undone_turn_sees_the_old_state(self, vat):
        ticks = vat.spawn(counter)
        with failing_turn(vat):
            ticks()
            raise Boom
        assert ticks() == 0

    def test_a_turn_belongs_to_its_thread(self, vat):
        """A thread started in a turn is in no turn."""
        errors = []

        def elsewhere():
            try:
                spawn(counter)
            except NoTurnError as error:
                errors.append(error)

        def body():
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()

        vat.run(body)
        assert len(errors) == 1
