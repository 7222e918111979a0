"""No error is silent.

Who waits for an answer gets the error. If nobody does, it is logged, once, on the logger `goblins`: at
once for a message without a promise, and when it is dropped for a broken promise that nobody ever asked.
"""

import logging
import sys
import weakref

import pytest
from goblins import BrokenPromiseError, Vat, all_of, on, promise_and_resolver, send, tell
from support import Boom, cell, collect, counter, echo, failing, run_child


@pytest.fixture
def log(caplog):
    """The texts of what was logged so far, with their errors."""
    caplog.set_level(logging.DEBUG, logger="goblins")

    def entries():
        collect()
        assert {record.name for record in caplog.records} <= {"goblins"}
        return [f"{r.levelname} {r.getMessage()} {r.exc_info[1]!r}" for r in caplog.records]

    return entries


def this_line():
    return sys._getframe(1).f_lineno


class TestMessagesWithoutAPromise:
    def test_a_failing_tell_is_logged_once(self, vat, log):
        ref = vat.spawn(failing)
        tell(ref, Boom("told"))
        vat.drain(timeout=30)
        (entry,) = log()
        assert entry.startswith("ERROR")
        assert "failing" in entry
        assert "Boom('told')" in entry

    def test_the_log_has_the_traceback_of_the_behavior(self, vat, caplog):
        tell(vat.spawn(failing), Boom("told"))
        vat.drain(timeout=30)
        assert "raise error" in caplog.text

    def test_a_tell_from_inside_a_turn_is_logged_too(self, vat, log):
        ref = vat.spawn(failing)
        vat.run(tell, ref, Boom("told"))
        assert len(log()) == 1

    def test_each_failing_tell_is_logged(self, vat, log):
        ref = vat.spawn(failing)
        for n in range(5):
            tell(ref, Boom(n))
        vat.drain(timeout=30)
        assert len(log()) == 5

    def test_a_good_tell_is_not_logged(self, vat, log):
        tell(vat.spawn(counter))
        vat.drain(timeout=30)
        assert log() == []

    def test_a_tell_to_a_broken_promise_is_logged(self, vat, log):
        """LIM-25"""
        promise, resolver = vat.run(promise_and_resolver)
        tell(promise, 1)
        resolver.break_(Boom("broken"))
        vat.drain(timeout=30)
        assert [entry for entry in log() if "Boom('broken')" in entry] == log() != []

    def test_a_tell_to_a_plain_value_is_logged(self, vat, log):
        """LIM-24"""
        promise, resolver = vat.run(promise_and_resolver)
        tell(promise, 1)
        resolver.fulfil("plain")
        vat.drain(timeout=30)
        assert len(log()) == 1

    def test_a_tell_to_a_closed_vat_is_logged(self, log):
        """LIM-27"""
        vat = Vat("gone")
        ref = vat.spawn(counter)
        vat.close()
        tell(ref)
        (entry,) = log()
        assert "VatClosedError" in entry
        assert "gone" in entry

    def test_a_failing_tell_does_not_keep_the_next_one_from_being_handled(self, vat, log):
        box = vat.spawn(cell)
        ref = vat.spawn(failing)
        with vat:
            tell(ref, Boom())
            tell(box.put, "handled")
        assert box.get() == "handled"
        assert len(log()) == 1

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
    def test_a_request_to_stop_in_a_queued_turn_is_logged_and_stops_nothing(self, vat, log, error):
        ref, ticks = vat.spawn(failing), vat.spawn(counter)
        tell(ref, error)
        tell(ticks)
        vat.drain(timeout=30)
        assert ticks() == 1
        assert len(log()) == 1


class TestBrokenPromises:
    def test_one_that_nobody_asked_is_logged_once_when_it_is_dropped(self, vat, log):
        promise = send(vat.spawn(failing), Boom("unheard"))
        vat.drain(timeout=30)
        assert log() == []
        del promise
        (entry,) = log()
        assert entry.startswith("ERROR")
        assert "Boom('unheard')" in entry

    def test_one_that_is_dropped_before_it_breaks_is_logged(self, vat, log):
        send(vat.spawn(failing), Boom("unheard"))
        vat.drain(timeout=30)
        assert len(log()) == 1

    def test_one_that_is_dropped_by_code_that_can_import_nothing_is_logged(self, vat, log):
        """The collector may run anywhere: in a named tuple's constructor, for one, which has no builtins."""
        kept = [send(vat.spawn(failing), Boom("unheard")), promise_and_resolver()]
        with pytest.raises(TimeoutError):
            kept[1][0].result(timeout=0)
        vat.drain(timeout=30)
        eval("kept.clear()", {"__builtins__": {}, "kept": kept})
        (entry,) = log()
        assert "Boom('unheard')" in entry

    def test_one_made_by_a_resolver_is_logged_too(self, vat, log):
        promise, resolver = vat.run(promise_and_resolver)
        resolver.break_(Boom("by hand"))
        del promise, resolver
        assert len(log()) == 1

    def test_the_log_says_where_it_was_sent(self, vat, log):
        send(vat.spawn(failing), Boom("unheard"))
        vat.drain(timeout=30)
        (entry,) = log()
        assert "failing" in entry

    def test_the_log_has_the_file_and_the_line_of_the_send(self, vat, log):
        ref = vat.spawn(failing)
        send(ref, Boom("outside"))
        outside = this_line() - 1

        def body():
            # Each of these makes a promise that breaks.
            send(send(ref, Boom("inside")), 1)
            on(send(ref, Boom("inside")), lambda value: None)
            return this_line() - 2, this_line() - 1

        inside = vat.run(body)
        vat.drain(timeout=30)
        entries = log()
        assert len(entries) == 3
        for entry, line in zip(entries, (outside, *inside), strict=True):
            assert f"{__file__}, line {line}," in entry

    def test_the_log_has_the_place_where_a_promise_with_a_resolver_was_made(self, log):
        promise, resolver = promise_and_resolver()
        line = this_line() - 1
        resolver.break_(Boom("by hand"))
        del promise, resolver
        (entry,) = log()
        assert f"made at {__file__}, line {line}," in entry

    def test_a_place_in_the_library_is_left_out(self, vat, log):
        promise, resolver = vat.run(promise_and_resolver)
        vat.run(lambda: all_of([promise]) and None)
        resolver.break_(Boom("unheard"))
        vat.drain(timeout=30)
        (entry,) = log()
        assert ", line " not in entry

    def test_what_a_promise_remembers_keeps_nothing_of_the_call_alive(self, vat):
        class Local:
            pass

        def sender(ref):
            local = Local()
            return send(ref, 1), weakref.ref(local)

        promise, gone = vat.run(sender, vat.spawn(echo))
        assert gone() is None
        assert promise.result(timeout=30) == 1

    def test_one_whose_result_was_asked_is_not_logged(self, vat, log):
        promise = send(vat.spawn(failing), Boom("heard"))
        with pytest.raises(Boom):
            promise.result(timeout=30)
        del promise
        assert log() == []

    def test_one_that_had_broken_before_its_result_was_asked_is_not_logged(self, vat, log):
        promise = send(vat.spawn(failing), Boom("heard"))
        vat.drain(timeout=30)
        with pytest.raises(Boom):
            promise.result(timeout=30)
        del promise
        assert log() == []

    async def test_one_that_was_awaited_is_not_logged(self, vat, log):
        with pytest.raises(Boom):
            await send(vat.spawn(failing), Boom("heard"))
        assert log() == []

    def test_one_with_a_catch_is_not_logged(self, vat, log):
        seen = []
        ref = vat.spawn(failing)
        vat.run(lambda: on(send(ref, Boom("heard")), catch=seen.append) and None)
        assert len(seen) == 1
        assert log() == []

    def test_one_whose_listener_has_no_catch_is_logged_once(self, vat, log):
        """The promise that `on` gave carries the error on, and nobody listens to that one."""
        ref = vat.spawn(failing)
        vat.run(lambda: on(send(ref, Boom("unheard")), lambda value: None) and None)
        (entry,) = log()
        assert "Boom('unheard')" in entry

    def test_an_error_in_a_handler_is_logged(self, vat, log):
        """ASY-26"""
        ref = vat.spawn(echo)

        def handler(value):
            raise Boom("in the handler")

        vat.run(lambda: on(send(ref, 1), handler) and None)
        (entry,) = log()
        assert "Boom('in the handler')" in entry

    def test_an_error_that_went_along_a_chain_is_logged_once(self, vat, log):
        inner, resolver = vat.run(promise_and_resolver)
        answer = send(vat.spawn(echo), inner)
        vat.drain(timeout=30)
        resolver.break_(Boom("unheard"))
        vat.drain(timeout=30)
        del inner, answer, resolver
        assert len(log()) == 1

    def test_an_error_that_went_along_a_pipeline_and_was_asked_for_at_its_end_is_not_logged(self, vat, log):
        last = send(send(send(vat.spawn(failing), Boom("heard")), 1), 2)
        with pytest.raises(Boom):
            last.result(timeout=30)
        del last
        assert log() == []

    def test_a_fulfilled_one_is_never_logged(self, vat, log):
        send(vat.spawn(echo), 1)
        vat.drain(timeout=30)
        assert log() == []

    def test_one_that_was_never_settled_is_not_logged(self, vat, log):
        promise, resolver = vat.run(promise_and_resolver)
        del promise, resolver
        assert log() == []

    def test_one_of_a_turn_that_was_undone_is_not_logged(self, vat, log):
        ref = vat.spawn(failing)

        def body():
            send(ref, Boom("never sent"))
            raise Boom("turn")

        with pytest.raises(Boom, match="turn"):
            vat.run(body)
        assert log() == []


class TestDroppedByAnEndingCall:
    """What an ending call had held is dropped while its exception is on its way."""

    def test_one_is_logged_and_the_exception_goes_on(self, log):
        def work():
            promise, resolver = promise_and_resolver()
            resolver.break_(Boom("unheard"))
            raise KeyError(promise is None)

        try:
            work()
        except KeyError as error:
            # Here the call's frame goes.
            error.with_traceback(None)
        (entry,) = log()
        assert "Boom('unheard')" in entry

    @pytest.mark.parametrize("count", [1, 3])
    def test_one_in_a_generator_that_ends_with_an_exception_is_logged(self, log, count):
        def made():
            promise, resolver = promise_and_resolver()
            resolver.break_(Boom("unheard"))
            yield promise is None
            del promise
            raise KeyError

        for _ in range(count):
            with pytest.raises(KeyError):
                list(made())
        assert len(log()) == count

    def test_a_promise_that_is_abandoned_then_tells_who_waits(self, vat, log):
        heard = []

        class Held:
            def __init__(self):
                self.promise, self.resolver = promise_and_resolver()
                vat.run(lambda: on(self.promise, catch=heard.append) and None)

            def __add__(self, other):
                raise KeyError

        with pytest.raises(KeyError):
            Held() + 1
        collect()
        vat.drain(timeout=30)
        assert len(heard) == 1


class TestErrorsThatTheCollectorFrees:
    """In children, since one that looks into an emptied error ends the process."""

    def logged(self, how):
        child = run_child("errors_in_cycles.py", how)
        assert child.returncode == 0, child.stderr[-2000:]
        assert "Logging error" not in child.stderr
        return child.stdout

    @pytest.mark.parametrize(
        ("how", "text"),
        [
            ("raised", "ValueError: no number"),
            ("raised_in_c", "ValueError: invalid literal for int() with base 10: 'no number'"),
            ("raised_from_another", "KeyError: 'cause'"),
            ("with_a_text_of_its_own", "Failure: no number at all"),
            ("of_the_system", "FileNotFoundError: [Errno 2] No such file or directory: '/no number'"),
            ("in_a_group", "ExceptionGroup: no number (2 sub-exceptions)"),
            ("in_a_handler", "ValueError: no number"),
            ("in_a_task", "ValueError: no number"),
            ("with_a_handler_that_keeps_all", "ValueError: no number"),
        ],
    )
    def test_one_in_a_cycle_with_its_promise_is_logged_once_and_whole(self, how, text):
        logged = self.logged(how)
        assert logged.count("nobody asked for its outcome") == 1
        assert "errors_in_cycles.py, line " in logged
        assert text in logged
        assert "Traceback" in logged

    def test_each_of_many_is_logged(self):
        assert self.logged("many").count("ValueError: no number") == 1000

    def test_a_disabled_logger_gets_none(self):
        assert self.logged("with_the_logger_disabled").strip() == ""

    def test_of_a_promise_that_a_finalizer_brought_back_at_least_the_class_is_logged(self):
        logged = self.logged("brought_back")
        assert logged.count("nobody asked for its outcome") == 1
        assert "ValueError" in logged

    def test_a_handler_in_a_cycle_with_the_right_to_settle_is_told_while_it_is_whole(self, vat, log):
        called = []

        def listen():
            resolvers = []

            def handle(error):
                called.append((len(resolvers), error))

            promise, resolver = promise_and_resolver()
            resolvers.append(resolver)
            on(promise, catch=handle)

        for _ in range(100):
            vat.run(listen)
        collect()
        vat.drain(timeout=30)
        assert log() == []
        assert [count for count, _ in called] == [1] * 100
        assert {type(error) for _, error in called} == {BrokenPromiseError}


class TestErrorsThatReachSomebody:
    def test_an_error_of_a_call_is_raised_and_not_logged(self, vat, log):
        ref = vat.spawn(failing)
        with pytest.raises(Boom):
            ref(Boom("called"))
        with pytest.raises(Boom):
            vat.run(ref, Boom("run"))
        with pytest.raises(Boom), vat:
            raise Boom("block")
        assert log() == []


def test_a_logger_that_fails_stops_nothing(vat, monkeypatch):
    """What can't be logged goes where Python puts errors that nobody can get."""

    class Broken(logging.Handler):
        def handle(self, record):
            raise RuntimeError("the log is full")

    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: unraisable.append(repr(what.exc_value)))
    logger, handler = logging.getLogger("goblins"), Broken()
    ref, ticks = vat.spawn(failing), vat.spawn(counter)
    logger.addHandler(handler)
    try:
        tell(ref, Boom())
        tell(ticks)
        vat.drain(timeout=30)
    finally:
        logger.removeHandler(handler)
    assert ticks() == 1
    assert "the log is full" in unraisable[0]
