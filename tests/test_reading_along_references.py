"""Chains, rings and fans of actors in any order: what is read ahead is what a read at its time would give."""

import itertools
import random

import pytest
from goblins import Actor, PersistenceEnv, lru, spawn

COUNT = 100


class Link(Actor):
    number: int = 0
    before: object = None
    after: object = None
    others: list = []

    def join(self, before, after):
        self.before, self.after = before, after

    def refer(self, others):
        self.others = others

    def number_and_next(self):
        return self.number, self.after

    def add(self, by):
        self.number += by
        return self.after

    def sum_of_others(self):
        return sum(other.number_and_next()[0] for other in self.others)

    def add_to_others(self, by):
        for other in self.others:
            other.add(by)


ENV = PersistenceEnv("links", Link)


def ring(seed=1):
    """A ring in a random order of its slots, and one that refers to all, in another order."""
    links = [spawn(Link, number) for number in range(COUNT)]
    chance = random.Random(seed)
    order = chance.sample(links, COUNT)
    for before, link, after in zip(order[-1:] + order, order, order[1:] + order[:1], strict=False):
        link.join(before, after)
    hub = spawn(Link)
    hub.refer(chance.sample(links, COUNT))
    return order[0], hub


def numbers(first):
    found, link = [], first
    for _ in range(COUNT):
        number, link = link.number_and_next()
        found.append(number)
    assert link is first
    return found


@pytest.fixture(params=[None, lru(max_actors=10)], ids=["awake", "asleep"])
def sleep(request):
    return request.param


def test_a_ring_in_any_order_is_walked_as_it_was_made(place, sleep):
    vat, first, _ = place.spawn(ring, env=ENV)
    made = vat.run(numbers, first)
    vat, first, hub = place.restart(vat, env=ENV, sleep=sleep)
    assert vat.run(numbers, first) == made
    assert numbers(first) == made
    assert hub.sum_of_others() == sum(range(COUNT))


def test_what_changes_on_the_way_is_what_the_next_one_sees(place, sleep):
    vat, first, hub = place.spawn(ring, env=ENV)
    made = numbers(first)
    vat, first, hub = place.restart(vat, env=ENV, sleep=sleep)
    for _ in range(2):
        link = first
        for step in range(COUNT):
            # Each is a churn: what was read ahead may be of those that change.
            if step % 25 == 0:
                hub.add_to_others(1)
            link = link.add(100)
    changes = [100 * 2 + 2 * len(range(0, COUNT, 25))] * COUNT
    expected = [number + change for number, change in zip(made, changes, strict=True)]
    assert numbers(first) == expected
    vat, first, hub = place.restart(vat, env=ENV, sleep=sleep)
    assert vat.run(numbers, first) == expected


def test_a_fan_in_any_order_is_walked_as_it_was_made(place, sleep):
    vat, _, hub = place.spawn(ring, env=ENV)
    vat, _, hub = place.restart(vat, env=ENV, sleep=sleep)
    for turn in range(3):
        assert hub.sum_of_others() == sum(range(COUNT)) + turn * COUNT
        hub.add_to_others(1)


def test_what_was_read_ahead_and_then_changed_is_read_anew_after_a_sleep(place):
    def line():
        links = [spawn(Link, number) for number in range(COUNT)]
        order = [links[37 * number % COUNT] for number in range(COUNT)]
        for link, after in itertools.pairwise(order):
            link.join(None, after)
        return order[0], order[12]

    vat, *_ = place.spawn(line, env=ENV)
    vat, link, changed = place.restart(vat, env=ENV, sleep=lru(max_actors=4))
    # Awake, and so nobody asks for the record that the walk brings.
    changed.add(1)
    passed = [link]
    for step in range(12):
        if step == 3:
            changed.add(1)
        passed.append(passed[-1].number_and_next()[1])
    assert passed[-1] is changed
    assert changed.number_and_next()[0] == 37 * 12 % COUNT + 2
