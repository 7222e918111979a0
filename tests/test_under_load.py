"""Many threads and several vats for a while: nothing is lost, nothing is done twice, and memory stays flat.

GOBLINS_SECONDS is how long each test works; 2 if it is not set. The figures are printed: see them with `-s`.
"""

import os
import sys
import threading
import time
from collections import deque
from pathlib import Path

import pytest
from goblins import Vat, actor, methods, send, tell
from support import collect, counter

SECONDS = float(os.environ.get("GOBLINS_SECONDS", "2"))
THREADS = 8
VATS = 4
# How many answers a thread leaves open before it waits for the oldest.
WINDOW = 64
# What memory may grow by after the warm-up, in bytes, however many messages there were.
SLACK = 8 * 2**20

pytestmark = [
    pytest.mark.timeout(SECONDS * 4 + 120),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc"),
]


def memory():
    """The memory of this process that is in use, in bytes."""
    collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def work_in_threads(work, seconds):
    """Calls `work(index, go_on)` in each thread; gives what each returned, or raises what one raised."""
    end = time.monotonic() + seconds
    results = [None] * THREADS
    errors = []

    def run(index):
        try:
            results[index] = work(index, lambda: time.monotonic() < end and not errors)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def measure(name, work, count):
    """Works for a tenth of the time to warm up, then for all of it; tells how much, and checks the memory."""
    work_in_threads(work, SECONDS / 10)
    before, done = memory(), count()
    work_in_threads(work, SECONDS)
    done, growth = count() - done, memory() - before
    print(f"\n{name}: {done} in {SECONDS:g} s, {done / SECONDS:.0f}/s; memory {growth / 2**20:+.1f} MiB")
    assert done > 0
    assert growth < SLACK


def test_threads_that_call_one_counter_get_each_number_once():
    """VAT-04"""
    vat = Vat("counter")
    ticks = vat.spawn(counter)
    # Each thread checks that its numbers rise; their counts and sums tell whether all were given out, once.
    counts, sums = [0] * THREADS, [0] * THREADS

    def work(index, go_on):
        last = -1
        while go_on():
            number = ticks()
            assert number > last
            last = number
            counts[index] += 1
            sums[index] += number

    measure("calls of one counter", work, lambda: sum(counts))
    total = sum(counts)
    assert ticks() == total
    assert sum(sums) == total * (total - 1) // 2
    vat.close()


def test_messages_that_go_round_several_vats_from_many_threads_all_arrive_once():
    """ASY-04, VAT-04, VAT-05"""
    vats = [Vat(f"vat {index}") for index in range(VATS)]

    @actor
    def station(bcom, following, last, passed=0):
        """Counts, sends on, and checks that the messages of each thread come in the order of sending."""

        def handle(thread, number, hops):
            assert number == last.get(thread, 0) + 1
            last[thread] = number
            answer = send(following[0].handle, thread, number, hops - 1) if hops else (thread, number)
            return bcom(station(bcom, following, last, passed + 1), answer)

        return methods(handle=handle, passed=lambda: passed)

    # A ring for each vat to start in, so that no station gets a number of a thread twice.
    rings = []
    for first in range(VATS):
        followings = [[] for _ in range(VATS)]
        stations = [vats[(first + hop) % VATS].spawn(station, followings[hop], {}) for hop in range(VATS)]
        for hop in range(VATS):
            followings[hop].append(stations[(hop + 1) % VATS])
        rings.append(stations)

    counts = [0] * THREADS
    numbers = [[0] * VATS for _ in range(THREADS)]

    def work(index, go_on):
        answers = deque()
        ring = index % VATS
        while go_on() or answers:
            if go_on():
                ring = (ring + 1) % VATS
                numbers[index][ring] += 1
                number = numbers[index][ring]
                answers.append((send(rings[ring][0].handle, index, number, VATS - 1), number))
            if len(answers) >= WINDOW or not go_on():
                answer, number = answers.popleft()
                assert answer.result(timeout=60) == (index, number)
                counts[index] += 1

    measure(f"rounds through {VATS} vats", work, lambda: sum(counts))
    sent = [sum(numbers[thread][ring] for thread in range(THREADS)) for ring in range(VATS)]
    assert sum(sent) == sum(counts)
    for ring, stations in enumerate(rings):
        assert [each.passed() for each in stations] == [sent[ring]] * VATS
    for vat in vats:
        vat.close()


def test_tells_from_many_threads_to_limited_vats_all_arrive_once():
    """VAT-05: who sends too fast waits, so memory stays flat however slow the vats are."""
    vats = [Vat(f"vat {index}", inbox_limit=1000) for index in range(VATS)]
    counters = [vat.spawn(counter) for vat in vats]
    counts = [0] * THREADS

    def work(index, go_on):
        while go_on():
            for ticks in counters:
                tell(ticks)
            counts[index] += VATS

    def arrived():
        for vat in vats:
            vat.drain(timeout=60)
        return sum(counts)

    measure(f"tells to {VATS} limited vats", work, arrived)
    assert [ticks() for ticks in counters] == [sum(counts) // VATS] * VATS
    for vat in vats:
        vat.close()
