"""Whatever nobody can reach any more goes, in cycles too.

A `Ref` is its actor: when Python's collector finds that nobody can reach it, actor and behavior go, with
all that only they held. Nothing that is over (undone turns, answered messages, heard promises, closed
vats) is kept alive by what goes on.
"""

import asyncio
import gc
import os
import threading
import weakref

import pytest
from goblins import (
    Actor,
    AsyncioVat,
    ManualVat,
    MemoryStore,
    PersistenceEnv,
    Ref,
    Vat,
    VatClosedError,
    actor,
    lru,
    methods,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import Boom, cell, collect, counter, echo, failing, failing_turn, run_child


class Marker:
    """Something that can be watched."""


@pytest.fixture
def watched():
    """A marker to be hidden in something, and a function that tells whether it is gone."""
    marker = Marker()
    weak = weakref.ref(marker)

    def gone():
        collect()
        return weak() is None

    hide = [marker]
    del marker
    return hide.pop, gone


def settle_for(vat, value, handler):
    promise, resolver = promise_and_resolver()
    vat.run(on, promise, handler)
    resolver.fulfil(value)


def node(bcom, peers):
    return lambda: peers


def holding(*things):
    """A handler that holds some things."""
    return lambda value: things and None


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Linked(Actor):
    others: list[Ref] = []

    def link(self, other):
        self.others.append(other)

    def count(self):
        return len(self.others)


def refs_alive():
    return sum(type(thing) is Ref for thing in gc.get_objects())


def make_ring(length):
    """Actors in a ring, each of which knows the next one and the one before."""
    peers = [[] for _ in range(length)]
    ring = [spawn(node, known) for known in peers]
    for index, known in enumerate(peers):
        known += [ring[index - 1], ring[(index + 1) % length]]
    return ring[0]


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc to see the memory")
def test_a_hundred_thousand_actors_in_cycles_come_and_go_ten_times_and_memory_returns(vat):
    """ACT-20"""
    # The report of a slow turn holds its frames for a moment, and so all that they made.
    vat.slow_turn = None
    collect()
    before, memory = refs_alive(), []
    for _ in range(10):
        with vat:
            ring = make_ring(100_000)
        assert ring()[1]()[0] is ring
        assert refs_alive() - before == 100_000
        del ring
        collect()
        assert refs_alive() == before
        memory.append(resident_bytes())
    # The first rounds may leave the allocator larger; a leak of one word per actor would show.
    assert memory[-1] - memory[2] < 5_000_000, memory


class TestActors:
    def test_an_actor_that_nobody_holds_goes_at_once(self, vat, watched):
        """ACT-20"""
        take, gone = watched
        ref = vat.spawn(cell, take())
        assert not gone()
        weak = weakref.ref(ref)
        del ref
        assert weak() is None
        assert gone()

    def test_an_actor_that_another_one_holds_stays(self, vat):
        inner = vat.spawn(counter)
        weak = weakref.ref(inner)
        outer = vat.spawn(cell, inner)
        del inner
        collect()
        assert weak() is not None
        assert outer.get()() == 0

    @pytest.mark.parametrize("log", [False, True])
    def test_classes_of_actors_that_were_linked_in_a_ring_by_changes_in_place_go(self, log):
        """ACT-20: what undoes a change is not kept beyond its turn."""
        vat = Vat(log=log)
        ring = [vat.spawn(Linked) for _ in range(10)]
        for index, ref in enumerate(ring):
            ref.link(ring[(index + 1) % 10])
        assert ring[0].count() == 1
        weak = [weakref.ref(ref) for ref in ring]
        del ring, ref
        vat.log.clear()
        collect()
        assert [ref() for ref in weak] == [None] * 10

    def test_an_actor_that_holds_itself_goes(self, vat, watched):
        take, gone = watched
        box = vat.spawn(cell)
        box.put((box, take()))
        assert not gone()
        del box
        assert gone()

    def test_actors_of_two_vats_that_hold_each_other_go(self, vat, other_vat, watched):
        take, gone = watched
        one, two = vat.spawn(cell), other_vat.spawn(cell)
        one.put(two)
        two.put((one, take()))
        del one, two
        assert gone()

    def test_an_old_behavior_goes_when_the_actor_becomes_another(self, vat, watched):
        take, gone = watched
        box = vat.spawn(cell, take())
        box.put("something else")
        assert gone()
        assert box.get() == "something else"

    def test_an_undone_behavior_goes(self, vat, watched):
        take, gone = watched
        box = vat.spawn(cell, "old")
        with failing_turn(vat):
            box.put(take())
            raise Boom
        assert gone()

    def test_an_undone_spawn_goes(self, vat, watched):
        take, gone = watched

        def body():
            spawn(cell, take())
            raise Boom

        with pytest.raises(Boom):
            vat.run(body)
        assert gone()

    def test_a_constructor_and_its_actors_go_with_the_scope_that_made_them(self, vat, watched):
        take, gone = watched

        def scope():
            marker = take()

            @actor
            def local(bcom, n=0):
                return methods(again=lambda: bcom(local(bcom, n + 1)), marker=lambda: marker)

            ref = vat.spawn(local)
            ref.again()
            assert ref.marker() is marker

        scope()
        assert gone()


class TestCyclesThroughOurObjects:
    """Each class that holds Python objects is part of a cycle here."""

    @pytest.mark.parametrize(
        "hold",
        [
            pytest.param(lambda ref: ref.get, id="bound message"),
            pytest.param(lambda ref: methods(get=lambda: ref), id="methods"),
            pytest.param(lambda ref: actor(lambda bcom: lambda: ref), id="constructor"),
            pytest.param(lambda ref: send(ref.get), id="answer"),
        ],
    )
    def test_an_actor_that_holds_it_goes(self, vat, watched, hold):
        take, gone = watched
        box = vat.spawn(cell)
        box.put([take(), hold(box)])
        vat.drain(timeout=30)
        assert not gone()
        del box
        assert gone()

    def test_an_actor_that_holds_its_vat_goes(self, watched):
        take, gone = watched
        vat = Vat()
        box = vat.spawn(cell)
        box.put([take(), vat, box])
        assert not gone()
        del box, vat
        assert gone()

    def test_a_token_that_holds_itself_goes(self, vat, watched):
        take, gone = watched

        def maker(bcom):
            def make(marker):
                kept = [marker]
                kept.append(bcom(lambda: kept, kept))
                return kept

            return make

        kept = vat.spawn(maker)(take())
        assert not gone()
        del kept
        assert gone()

    def test_a_behavior_that_holds_its_bcom_and_its_own_ref_goes(self, vat, watched):
        take, gone = watched

        @actor
        def knot(bcom, things):
            things.append(bcom)
            return lambda: things

        things = [take()]
        ref = vat.spawn(knot, things)
        things.append(ref)
        del ref, things
        assert gone()


class TestPromises:
    def test_a_promise_that_waits_for_itself_goes(self, vat, watched):
        take, gone = watched
        promise, resolver = vat.run(promise_and_resolver)
        with vat:
            on(promise, holding(promise, resolver, take()))
        assert not gone()
        del promise, resolver
        assert gone()

    def test_a_promise_that_holds_itself_goes(self, vat, watched):
        take, gone = watched
        promise, resolver = vat.run(promise_and_resolver)
        resolver.fulfil([promise, resolver, take()])
        assert promise.result(timeout=30)[0] is promise
        del promise, resolver
        assert gone()

    def test_promises_that_are_chained_and_hold_each_other_go(self, vat, watched):
        take, gone = watched
        one, resolve_one = vat.run(promise_and_resolver)
        two, resolve_two = vat.run(promise_and_resolver)
        resolve_one.fulfil(two)
        with vat:
            on(two, holding(one, resolve_two, take()))
        assert not gone()
        del one, two, resolve_one, resolve_two
        assert gone()

    def test_messages_that_wait_for_a_promise_go_with_it(self, vat, watched):
        take, gone = watched
        promise, resolver = vat.run(promise_and_resolver)
        answer = send(promise, [promise, take()])
        tell(promise.method, answer)
        assert not gone()
        del promise, resolver, answer
        assert gone()

    def test_an_actor_and_the_promise_that_it_holds_go(self, vat, watched):
        take, gone = watched
        promise, resolver = vat.run(promise_and_resolver)
        box = vat.spawn(cell, [promise, resolver, take()])
        resolver.fulfil(box)
        del promise, resolver
        assert not gone()
        del box
        assert gone()

    def test_listeners_go_when_they_have_been_told(self, vat, watched):
        take, gone = watched
        promise, resolver = vat.run(promise_and_resolver)
        with vat:
            on(promise, holding(take()))
        assert not gone()
        resolver.fulfil(1)
        vat.drain(timeout=30)
        assert gone()
        assert promise.result(timeout=30) == 1

    def test_a_broken_promise_lets_go_of_what_its_traceback_holds(self, vat, watched):
        take, gone = watched

        def fails_with_local(bcom):
            def behavior(marker):
                raise Boom

            return behavior

        promise = send(vat.spawn(fails_with_local), take())
        with pytest.raises(Boom):
            promise.result(timeout=30)
        del promise
        assert gone()

    def test_a_broken_promise_that_the_traceback_of_its_own_error_leads_to_goes(self, vat, watched):
        """So it is wherever a function waits for a promise that breaks."""
        take, gone = watched

        def wait():
            promise, local = send(vat.spawn(failing), Boom()), take()
            with pytest.raises(Boom):
                promise.result(timeout=30)
            return local is not None

        assert wait()
        assert gone()

    def test_a_broken_promise_that_its_error_holds_goes_and_was_logged(self, vat, watched, caplog):
        take, gone = watched
        error = Boom()
        error.holds = [send(vat.spawn(failing), error), take()]
        vat.drain(timeout=30)
        del error
        collect()
        assert len(caplog.records) == 1
        caplog.clear()
        assert gone()

    def test_a_broken_promise_of_an_actor_that_holds_it_goes(self, vat, watched, caplog):
        take, gone = watched
        box = vat.spawn(cell)
        ref = vat.spawn(failing)
        box.put([box, take(), send(ref, Boom())])
        vat.drain(timeout=30)
        del box
        # The log record keeps the error, with its traceback.
        caplog.clear()
        collect()
        caplog.clear()
        assert gone()


class TestMessages:
    def test_arguments_go_when_the_message_was_handled(self, vat, watched):
        take, gone = watched
        ref = vat.spawn(lambda bcom: lambda value: None)
        tell(ref, take())
        vat.drain(timeout=30)
        assert gone()

    def test_so_do_those_of_calls(self, vat, watched):
        take, gone = watched
        vat.spawn(lambda bcom: lambda value: None)(take())
        assert gone()

    def test_the_value_of_an_answer_goes_with_its_promise(self, vat, watched):
        take, gone = watched
        promise = send(vat.spawn(echo), take())
        vat.drain(timeout=30)
        assert not gone()
        del promise
        assert gone()

    def test_unhandled_messages_of_a_closed_vat_go(self, watched):
        take, gone = watched
        vat = Vat()
        entered, leave = threading.Event(), threading.Event()
        run = vat.spawn(lambda bcom: lambda fn: fn())
        ref = vat.spawn(echo)

        def busy():
            entered.set()
            leave.wait()

        tell(run, busy)
        entered.wait()
        promise = send(ref, take())
        closer = threading.Thread(target=vat.close)
        closer.start()
        leave.set()
        closer.join()
        del promise
        assert gone()


class TestVats:
    def test_a_vat_that_nobody_holds_goes(self):
        vat = Vat()
        vat.spawn(counter)()
        weak = weakref.ref(vat)
        del vat
        collect()
        assert weak() is None

    def test_an_actor_keeps_its_vat_going(self, watched):
        """VAT-18: a vat needs no holder of its own."""
        take, gone = watched

        def make():
            return Vat().spawn(cell, take())

        ref = make()
        collect()
        assert type(ref.get()) is Marker
        del ref
        assert gone()

    def test_a_message_on_its_way_keeps_its_actor(self):
        answers = []
        for n in range(200):
            answers.append(send(Vat().spawn(echo), n))
        collect()
        assert [answer.result(timeout=60) for answer in answers] == list(range(200))

    def test_actors_of_a_closed_vat_go(self, watched):
        take, gone = watched
        vat = Vat()
        box = vat.spawn(cell)
        box.put([box, take()])
        vat.close()
        del box
        assert gone()
        assert vat.name

    @pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
    def test_ten_thousand_vats_come_and_go_and_memory_returns(self):
        memory = []
        for _ in range(6):
            vats = [Vat() for _ in range(10_000)]
            rings = [vat.spawn(cell) for vat in vats]
            for ring, vat in zip(rings, vats, strict=True):
                ring.put([ring, vat])
            del vats, rings, ring, vat
            collect()
            memory.append(resident_bytes())
        assert memory[-1] - memory[1] < 5_000_000, memory


class TestStoredActors:
    def test_a_stored_actor_that_nobody_holds_leaves_memory_and_comes_back(self, place):
        """The behaviors of who is asleep hold nobody in memory: neither a variable nor the root does."""
        vat, root = place.spawn(lambda: spawn(cell, spawn(cell, spawn(cell, "stored"))))
        vat, root = place.restart(vat, sleep=lru(max_actors=1))
        child = root.get()
        inner = child.get()
        assert inner.get() == "stored"
        weak = weakref.ref(inner)
        del inner
        # Others are used, and so these two go to sleep.
        others = [vat.spawn(cell, n) for n in range(20)]
        for _ in range(3):
            assert [other.get() for other in others] == list(range(20))
        del child
        collect()
        assert weak() is None
        assert root.get().get().get() == "stored"
        vat.close()

    def test_stored_actors_in_cycles_that_no_root_reaches_leave_memory(self, place):
        vat, root = place.spawn(lambda: spawn(cell))
        with vat:
            one, two = spawn(cell), spawn(cell)
            one.put(two)
            two.put(one)
            root.put(one)
        weak = weakref.ref(one)
        del one, two
        collect()
        assert weak() is not None
        root.put("nothing")
        collect()
        assert weak() is None
        vat.close()

    def test_a_persistent_vat_that_was_closed_goes_with_its_actors(self, place):
        vat, root = place.spawn(lambda: spawn(cell))
        root.put([root])
        weak_vat, weak_root = weakref.ref(vat), weakref.ref(root)
        vat.close()
        del vat, root
        collect()
        assert weak_vat() is None
        assert weak_root() is None


def test_collecting_while_other_threads_run_vats_is_safe(vat):
    """The collector looks into actors from any thread, at any moment."""
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            with vat:
                make_ring(50)
            send(vat.spawn(echo), object()).result(timeout=60)

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            gc.collect()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    ticks = vat.spawn(counter)
    assert [ticks(), ticks()] == [0, 1]


class TestRings:
    def test_a_class_whose_methods_refer_to_its_own_actor_goes(self, watched):
        take, gone = watched

        def make():
            thing = take()

            class Local(Actor):
                def show(self):
                    return thing, ref

            ref = Vat().spawn(Local)
            assert ref.show()[1] is ref

        make()
        assert gone()

    @pytest.mark.parametrize("close", ["the vat", "the store"])
    def test_constructors_that_refer_to_their_vat_go_when_it_is_closed(self, watched, close):
        take, gone = watched

        def make():
            thing = take()

            class Local(Actor):
                def show(self):
                    return thing, vat, ref

            @actor
            def function(bcom):
                return lambda: (thing, vat, other)

            store = MemoryStore()
            env = PersistenceEnv("test", Local, function)
            vat, ref, other = spawn_persistent_vat(env, lambda: (spawn(Local), spawn(function)), store)
            ref.show()
            other()
            (vat if close == "the vat" else store).close()

        make()
        assert gone()

    def test_what_waits_in_a_manual_vat_that_nobody_has_goes(self, watched):
        take, gone = watched
        vat = ManualVat("left alone")
        box = vat.spawn(cell)
        tell(box.put, take())
        answer = send(box.get)
        assert not gone()
        del vat
        assert gone()
        with pytest.raises(VatClosedError, match=r"ManualVat left alone .* keep it"):
            answer.result(30)
        with pytest.raises(VatClosedError, match="left alone"):
            send(box.get).result(30)
        assert box.get() is None, "calls go on"

    LEADS = {
        "an argument": lambda vat, box, thing: tell(box.put, (thing, vat)),
        "a function": lambda vat, box, thing: tell(box.put, lambda: (thing, vat)),
        "a method": lambda vat, box, thing: send(box.put, [vat.run, thing]),
        "a keyword": lambda vat, box, thing: tell(box.put, new=(thing, vat)),
        "a handler": lambda vat, box, thing: settle_for(vat, 1, lambda _: (thing, vat)),
        "a value": lambda vat, box, thing: settle_for(vat, (thing, vat), lambda _: None),
    }

    @pytest.mark.parametrize("lead", LEADS)
    def test_so_does_what_leads_to_the_vat_itself(self, watched, lead):
        take, gone = watched

        def make():
            vat = ManualVat()
            self.LEADS[lead](vat, vat.spawn(cell), take())
            collect()
            assert vat.backlog == 1
            return weakref.ref(vat)

        weak = make()
        assert gone()
        assert weak() is None

    def test_what_waits_in_a_manual_vat_that_somebody_has_stays(self, watched):
        take, gone = watched
        vat = ManualVat()
        box = vat.spawn(cell)
        tell(box.put, (take(), vat))
        collect()
        assert not gone()
        vat.drain()
        assert box.get()[1] is vat

    def test_a_promise_that_waits_for_a_manual_vat_that_nobody_has_goes(self):
        def make():
            promise = send(ManualVat().spawn(counter))
            return weakref.ref(promise)

        weak = make()
        collect()
        assert weak() is None

    def test_an_event_loop_that_refers_to_its_vat_goes(self):
        def make():
            loop = asyncio.new_event_loop()
            vat = AsyncioVat(loop)

            async def main():
                return vat.spawn(counter), await send(vat.spawn(counter))

            ref, _ = loop.run_until_complete(main())
            loop.set_exception_handler(lambda *_: (vat, ref))
            loop.close()
            return weakref.ref(loop), weakref.ref(vat)

        weak = make()
        collect()
        assert [thing() for thing in weak] == [None, None]


ENDS = [
    "instances",
    "instances_with_lists",
    "functions",
    "functions_without_portraits",
    "messages",
    "promises_of_actors",
    "promises_in_tuples",
    "promises_in_dicts",
    "promises_of_several",
    "restored_instances",
    "restored_functions",
]


@pytest.mark.parametrize("how", ["dropped", "collector"])
@pytest.mark.parametrize("shape", ENDS)
def test_a_line_of_actors_of_any_length_may_go(shape, how):
    """In a child, since a line that is too long for the stack would end the process."""
    child = run_child("long_ends.py", shape, how, 5_000)
    assert (child.returncode, child.stdout) == (0, "done\n"), child.stderr[-2000:]
