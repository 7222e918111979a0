"""Sleep: actors that were not used lately go back to the store, and nobody can tell (SLP-01 to SLP-06)."""

import gc
import weakref

import goblins
import pytest
from goblins import (
    Actor,
    List,
    ManualVat,
    Map,
    MemoryStore,
    Migrations,
    PersistenceEnv,
    Ref,
    Set,
    actor,
    field,
    lru,
    methods,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ENV, PLACES, Boom, cell, collect, counter, failing_turn


class Account(Actor):
    owner: str
    balance: int = 0
    history: list[int] = []

    def deposit(self, amount):
        self.balance += amount
        self.history.append(amount)
        return self.balance

    def show(self):
        return self.balance, self.history

    def hand_out(self, to):
        to.append(self)
        to.append(self.history)

    def later(self, promise):
        return on(promise, lambda amount: self.deposit(amount))

    def later_in_place(self, promise):
        history = self.history
        return on(promise, lambda amount: history.append(amount))

    async def after(self, promise):
        before = self.balance
        amount = await promise
        self.balance = before + amount
        self.history.append(amount)
        return self.balance


class Friend(Actor):
    others: list[Ref] = []
    restored_count: int = 0

    def restored(self):
        RESTORED.append(self.ref)

    def add(self, other):
        self.others.append(other)

    def get(self):
        return self.others


@actor
def waiter(bcom, value=0):
    async def wait(promise):
        more = await promise
        return bcom(waiter(bcom, value + more), value + more)

    return methods(wait=wait, get=lambda: value)


class Keeper(Actor):
    table: Map = field(default_factory=Map)
    items: List = field(default_factory=List)

    def put(self, key, value):
        self.table[key] = value
        self.items.append(value)

    def get(self):
        return dict(self.table), list(self.items)


RESTORED: list[Ref] = []
BANK = PersistenceEnv("bank", Account, Friend, Keeper, waiter, counter, cell)
ALL_SLEEP = lru(max_actors=0)


def quiet(vat):
    """A churn that uses nobody."""
    vat.run(lambda: None)


def befriend(friend, *arguments):
    friend.add(spawn(Account, *arguments))


def show_all(friend):
    return [account.show() for account in friend.get()]


# What lru takes


def test_lru_needs_a_limit_and_takes_numbers_only():
    with pytest.raises(TypeError, match="max_actors, max_bytes, or both"):
        lru()
    with pytest.raises(TypeError, match="max_actors is a number"):
        lru(max_actors="many")
    with pytest.raises(TypeError, match="max_bytes is a number"):
        lru(max_bytes=True)
    with pytest.raises(ValueError, match="at least 0"):
        lru(max_actors=-1)
    both = lru(max_actors=10, max_bytes=1 << 80)
    assert both.max_actors == 10
    assert both.max_bytes > 1 << 60
    assert repr(lru(max_actors=3)) == "lru(max_actors=3, max_bytes=None)"


def test_sleep_is_an_lru_or_nothing(memory):
    with pytest.raises(TypeError, match=r"sleep is lru\(\.\.\.\) or None, not 10"):
        memory.spawn(lambda: spawn(counter), sleep=10)


def test_a_vat_without_a_store_counts_nobody(vat):
    vat.spawn(counter)
    assert vat.awake is None


# Sleeping and waking


def test_no_more_than_the_limit_stay_awake_after_a_churn(place):
    """SLP-01."""
    vat, *roots = place.spawn(lambda: tuple(spawn(counter, n) for n in range(20)), sleep=lru(max_actors=3))
    assert vat.awake == 3
    for _ in range(3):
        for root in roots:
            root()
            assert vat.awake == 3
    assert [root() for root in roots] == [n + 3 for n in range(20)]
    vat.run(lambda: [root() for root in roots])
    assert vat.awake == 3


def test_bytes_are_those_of_the_records(place):
    vat, *roots = place.spawn(
        lambda: tuple(spawn(cell, "x" * 1000) for _ in range(20)), sleep=lru(max_bytes=5_500)
    )
    assert vat.awake == 5
    roots[3].put("y" * 6000)
    assert vat.awake == 0
    assert roots[3].get() == "y" * 6000


def test_nobody_sleeps_without_being_asked_to(memory):
    vat, *_ = memory.spawn(lambda: tuple(spawn(counter) for _ in range(20)))
    quiet(vat)
    assert vat.awake == 20


def test_after_a_restart_all_sleep_and_one_that_is_used_wakes(place):
    """SLP-02."""
    options = {"env": BANK, "sleep": lru(max_actors=5)}
    vat, friend = place.spawn(
        lambda: spawn(Friend, [spawn(Account, "Ada", 7), spawn(Account, "Bob", 8)]), **options
    )
    vat, friend = place.restart(vat, **options)
    assert vat.awake == 0
    ada, bob = friend.get()
    assert vat.awake == 1
    assert (ada.show(), bob.show()) == ((7, []), (8, []))
    assert vat.awake == 3


def test_the_ref_stays_the_same_object_and_so_do_those_it_holds(place):
    """SLP-01, SLP-02."""
    ada = None

    def make():
        nonlocal ada
        ada = spawn(Account, "Ada")
        return spawn(Friend, [ada]), spawn(cell, ada), ada

    vat, friend, holder, root = place.spawn(make, env=BANK, sleep=ALL_SLEEP)
    assert vat.awake == 0
    assert root is ada
    assert friend.get()[0] is ada
    assert holder.get() is ada
    holder.put(friend)
    friend.add(friend)
    assert friend.get() == [ada, friend]
    assert vat.awake == 0


def test_what_a_sleeper_held_is_released(memory):
    instances = []

    def make():
        return spawn(Account, "Ada"), spawn(Friend, [spawn(Account, "only here")])

    vat, ada, friend = memory.spawn(make, env=BANK)
    kept = []
    ada.hand_out(kept)
    instances.append(weakref.ref(kept[0]))
    inner = weakref.ref(friend.get()[0])
    vat.close()
    kept.clear()
    vat, ada, friend = memory.spawn(lambda: None, env=BANK, sleep=ALL_SLEEP)
    ada.hand_out(kept)
    instances.append(weakref.ref(kept[0]))
    inner = weakref.ref(friend.get()[0])
    kept.clear()
    quiet(vat)
    collect()
    assert vat.awake == 0
    assert instances[1]() is None
    assert inner() is None


def test_in_place_changes_and_failed_turns_are_as_without_sleep(place):
    options = {"env": BANK, "sleep": ALL_SLEEP}
    vat, ada, bob = place.spawn(lambda: (spawn(Account, "Ada"), spawn(Account, "Bob")), **options)
    for amount in range(5):
        ada.deposit(amount)
        with failing_turn(vat):
            bob.deposit(1)
            ada.deposit(100)
            raise Boom
        assert vat.awake == 0
    assert ada.show() == (10, [0, 1, 2, 3, 4])
    assert bob.show() == (0, [])
    vat, ada, bob = place.restart(vat, **options)
    assert ada.show() == (10, [0, 1, 2, 3, 4])
    assert bob.show() == (0, [])


def test_collections_sleep_page_by_page(place):
    options = {"env": BANK, "sleep": lru(max_actors=2)}
    vat, keeper = place.spawn(lambda: spawn(Keeper), **options)
    for number in range(300):
        keeper.put(f"key {number}", number)
        assert vat.awake <= 2
    expected = {f"key {number}": number for number in range(300)}, list(range(300))
    assert keeper.get() == expected
    vat, keeper = place.restart(vat, **options)
    assert keeper.get() == expected


def test_actors_spawned_after_sleepers_get_slots_of_their_own(place):
    """SLP-03."""
    options = {"env": BANK, "sleep": ALL_SLEEP}
    vat, friend = place.spawn(lambda: spawn(Friend), **options)
    for round_ in range(3):
        for number in range(5):
            vat.run(befriend, friend, f"{round_}.{number}")
        vat, friend = place.restart(vat, **options)
    owners = [account.show() for account in friend.get()]
    assert owners == [(0, [])] * 15
    friend.get()[3].deposit(5)
    assert [account.show()[0] for account in friend.get()] == [0, 0, 0, 5] + [0] * 11


def test_the_hook_for_restored_actors_runs_each_time_one_wakes(memory):
    RESTORED.clear()
    vat, friend = memory.spawn(lambda: spawn(Friend), env=BANK, sleep=ALL_SLEEP)
    friend.get()
    friend.get()
    assert [friend, friend] == RESTORED
    RESTORED.clear()


# Those that stay awake


def test_one_in_an_async_method_stays_awake_until_the_method_has_returned(memory):
    """SLP-04."""
    vat, ada, tally = memory.spawn(
        lambda: (spawn(Account, "Ada", 1), spawn(waiter)), env=BANK, sleep=ALL_SLEEP
    )
    (promise, resolver), (other, other_resolver) = vat.run(
        lambda: (promise_and_resolver(), promise_and_resolver())
    )
    answers = send(ada.after, promise), send(tally.wait, other)
    vat.drain()
    for _ in range(3):
        quiet(vat)
        assert vat.awake == 2
    ada.deposit(50)
    assert tally.get() == 0
    resolver.fulfil(10)
    other_resolver.fulfil(20)
    assert [answer.result(timeout=30) for answer in answers] == [11, 20]
    quiet(vat)
    assert vat.awake == 0
    assert ada.show() == (11, [50, 10])
    assert tally.get() == 20


def test_one_that_a_listener_refers_to_stays_awake(memory):
    """SLP-04: the handler would go on with an instance that is not the actor's any more."""
    vat, ada, bob = memory.spawn(
        lambda: (spawn(Account, "Ada", 1), spawn(Account, "Bob", 1)), env=BANK, sleep=ALL_SLEEP
    )
    (promise, resolver), (other, other_resolver) = vat.run(
        lambda: (promise_and_resolver(), promise_and_resolver())
    )
    done = ada.later(promise)
    in_place = bob.later_in_place(other)
    for _ in range(3):
        quiet(vat)
        assert vat.awake == 2
    resolver.fulfil(10)
    other_resolver.fulfil(20)
    assert done.result(timeout=30) == 11
    in_place.result(timeout=30)
    assert ada.show() == (11, [10])
    assert bob.show()[1] == [20]
    del done, in_place
    vat.drain()
    collect()
    quiet(vat)
    assert vat.awake == 1, "Bob's history was changed where nobody saw it: it is not in the store"
    assert bob.deposit(1) == 2
    quiet(vat)
    assert vat.awake == 0
    assert bob.show() == (2, [20, 1])


@pytest.mark.parametrize("which", [0, 1], ids=["the instance", "a list in a field"])
def test_what_others_hold_never_becomes_a_stale_copy(memory, which):
    """Who holds an instance, or a container in a field, holds what the actor has, as without sleep."""
    vat, ada = memory.spawn(lambda: spawn(Account, "Ada", 1, [1]), env=BANK, sleep=ALL_SLEEP)
    kept = []
    ada.hand_out(kept)
    held = kept[which]
    kept.clear()
    quiet(vat)
    assert vat.awake == 1
    if which == 0:
        vat.run(held.deposit, 5)
        assert ada.show() == (6, [1, 5])
        with pytest.raises(goblins.NoTurnError):
            held.balance = 100
    else:
        held.append(5)
        assert ada.show() == (1, [1, 5])
        held.remove(5)
    del held
    quiet(vat)
    assert vat.awake == 0


def test_what_was_changed_where_nobody_saw_it_is_not_lost_by_sleeping(place):
    """SLP-04: such an actor stays awake until it is stored with the next change that is seen."""

    @actor
    def sly(bcom, items):
        def add(item):
            items.append(item)

        return methods(add=add, get=lambda: list(items), renew=lambda: bcom(sly(bcom, list(items))))

    options = {"env": PersistenceEnv("test", sly, Account), "sleep": ALL_SLEEP}
    vat, tally, ada = place.spawn(lambda: (spawn(sly, []), spawn(Account, "Ada")), **options)
    assert vat.awake == 0
    kept = []
    ada.hand_out(kept)
    kept.pop().append(7)
    tally.add(1)
    kept.clear()
    for _ in range(3):
        quiet(vat)
        assert vat.awake == 2
    assert tally.get() == [1]
    tally.renew()
    assert ada.deposit(8) == 8
    quiet(vat)
    assert vat.awake == 0
    vat, tally, ada = place.restart(vat, **options)
    assert (tally.get(), ada.show()) == ([1], (8, [7, 8]))


def test_a_container_that_an_actor_holds_twice_does_not_keep_it_awake(memory):
    class Pair(Actor):
        left: list[int] = []
        right: list[int] = []
        both: dict = {}

        def share(self):
            self.right = self.left
            self.both = {"left": self.left, "all": (self.left, [self.left])}

        def add(self, number):
            self.left.append(number)
            return self.left, self.right, self.both

    vat, pair = memory.spawn(lambda: spawn(Pair), env=PersistenceEnv("test", Pair), sleep=ALL_SLEEP)
    pair.share()
    pair.add(1)
    assert vat.awake == 0


def test_a_container_is_released_once_the_turn_that_used_it_is_over(memory):
    vat, ada = memory.spawn(lambda: spawn(Account, "Ada"), env=BANK, sleep=ALL_SLEEP)
    for amount in range(3):
        ada.show()
        ada.deposit(amount)
        assert vat.awake == 0


# The event log


def test_a_sleeper_is_looked_at_as_it_was(memory):
    """LOG-05, LOG-22."""
    vat, tally, other = memory.spawn(
        lambda: (spawn(counter), spawn(counter, 100)), env=ENV, sleep=ALL_SLEEP, log=True
    )
    for _ in range(4):
        tally()
    events = [event for event in vat.log if "#0" in (event.target or "")]
    assert vat.awake == 0
    for number, event in enumerate(events):
        assert event.peek(tally) == number + 1
        assert event.peek(tally, before=True) == number
        assert event.peek(other) == 100
        assert vat.awake == 0
    assert (tally(), other()) == (4, 100)


def test_an_instance_that_the_log_needs_stays_awake_and_can_be_looked_at(memory):
    vat, ada, bob = memory.spawn(
        lambda: (spawn(Account, "Ada"), spawn(Account, "Bob")),
        env=BANK,
        sleep=ALL_SLEEP,
        log=True,
        log_capacity=8,
    )
    for amount in range(1, 5):
        ada.deposit(amount)
    events = [event for event in vat.log if "#0" in (event.target or "")]
    assert [event.peek(ada.show) for event in events] == [
        (1, [1]),
        (3, [1, 2]),
        (6, [1, 2, 3]),
        (10, [1, 2, 3, 4]),
    ]
    assert events[0].peek(bob.show) == (0, [])
    del events
    for _ in range(10):
        bob.show()
    collect()
    quiet(vat)
    assert vat.awake == 0
    assert ada.show() == (10, [1, 2, 3, 4])


# Upgrades


def test_roots_are_upgraded_while_all_sleep(place):
    """SLP-05."""
    options = {"env": BANK, "sleep": ALL_SLEEP}
    vat, _ = place.spawn(
        lambda: spawn(Friend, [spawn(Account, "Ada", 7), spawn(Account, "Bob", 8)]), **options
    )
    upgrade = Migrations()

    @upgrade.to(1)
    def _(friend):
        ada, bob = friend.get()
        ada.deposit(3)
        return friend, spawn(cell, bob)

    vat, friend, holder = place.restart(vat, version=1, upgrade=upgrade, **options)
    assert vat.awake == 0
    assert [account.show()[0] for account in friend.get()] == [10, 8]
    assert holder.get() is friend.get()[1]
    vat, friend, holder = place.restart(vat, version=1, upgrade=upgrade, **options)
    assert [account.show()[0] for account in friend.get()] == [10, 8]


def test_an_actor_whose_record_is_upgraded_sleeps_with_its_new_portrait(place):
    class Old(Actor, label="item"):
        price: int = 1

        def get(self):
            return self.price

    def double(version, fields):
        return {"cents": fields["price"] * 100}

    class New(Actor, label="item", version=1, upgrade=double):
        cents: int = 0

        def get(self):
            return self.cents

    vat, *_ = place.spawn(
        lambda: tuple(spawn(Old, n) for n in range(5)), env=PersistenceEnv("shop", Old), sleep=ALL_SLEEP
    )
    vat, *items = place.restart(vat, env=PersistenceEnv("shop", New), sleep=ALL_SLEEP)
    for _ in range(2):
        assert [item.get() for item in items] == [0, 100, 200, 300, 400]
        assert vat.awake == 0


def test_it_works_with_other_vats_too(memory):
    vat, tally = memory.spawn(lambda: spawn(counter), sleep=ALL_SLEEP, vat_constructor=ManualVat)
    promise = send(tally)
    assert vat.step()
    assert promise.result(timeout=30) == 0
    assert vat.awake == 0
    assert tally() == 1


# All of it at random

PROGRAMS = st.lists(
    st.tuples(st.sampled_from(["deposit", "befriend", "fail", "gc", "restart", "all"]), st.integers(0, 9)),
    max_size=25,
)


def run_program(place, program, sleep):
    options = {"env": BANK, "sleep": sleep}

    def make():
        accounts = [spawn(Account, str(number)) for number in range(5)]
        return spawn(Friend, accounts), spawn(Keeper)

    vat, friend, keeper = place.spawn(make, **options)
    seen = []
    for what, number in program:
        accounts = friend.get()
        account = accounts[number % len(accounts)]
        match what:
            case "deposit":
                seen.append(account.deposit(number))
            case "befriend":
                vat.run(befriend, friend, "new", number)
                keeper.put(f"{number}", account)
            case "fail":
                with failing_turn(vat):
                    account.deposit(number)
                    keeper.put("lost", number)
                    raise Boom
            case "gc":
                del accounts, account
                gc.collect()
            case "restart":
                vat, friend, keeper = place.restart(vat, **options)
            case "all":
                seen.append(vat.run(show_all, friend))
    table, items = keeper.get()
    names = {account: index for index, account in enumerate(friend.get())}
    seen.append([account.show() for account in names])
    seen.append(
        [sorted((key, names[account]) for key, account in table.items()), [names[one] for one in items]]
    )
    vat.close()
    return seen


@settings(max_examples=30)
@given(program=PROGRAMS, most=st.integers(0, 4))
def test_programs_do_the_same_with_sleep_and_without(program, most, tmp_path_factory):
    """SLP-04."""
    folder = tmp_path_factory.mktemp("sleep")
    expected = run_program(PLACES["memory"](folder), program, None)
    assert run_program(PLACES["memory"](folder), program, lru(max_actors=most)) == expected
    assert run_program(PLACES["memory"](folder), program, lru(max_bytes=most * 40)) == expected


class Shelf(Actor):
    entries: Map = field(default_factory=Map)
    names: Set = field(default_factory=Set)

    def fill(self, count):
        self.entries.update((f"k{number}", number) for number in range(count))
        self.names.update(f"k{number}" for number in range(count))

    def table(self):
        return self.entries

    def members(self):
        return self.names


@pytest.mark.parametrize("limits", [{"max_actors": 0}, {"max_actors": 2}, {"max_bytes": 20}], ids=str)
def test_collections_are_walked_through_from_outside_though_their_pages_go_to_sleep_at_once(limits):
    """SLP-02"""
    env = PersistenceEnv("shelves", Shelf)
    vat, shelf = spawn_persistent_vat(env, lambda: spawn(Shelf), MemoryStore(), sleep=lru(**limits))
    shelf.fill(200)
    keys = [f"k{number}" for number in range(200)]
    assert list(shelf.table()) == list(shelf.members()) == keys
    assert list(reversed(shelf.table().items())) == [(key, int(key[1:])) for key in reversed(keys)]
    vat.close()
