"""What a turn starts outside is output: it starts when all that the turn did is durable (G2)."""

import asyncio
import signal

import pytest
from goblins import (
    GoblinsError,
    NoLoopError,
    all_of,
    from_awaitable,
    methods,
    send,
    to_thread,
)
from support import Boom, collect, run_child


def outcome_of_a_kill(path, kind, way, how, sync="sync", persist_on="churn"):
    """What stands in the shop that was killed by what it has started outside."""
    child = run_child("killed_outside.py", path, kind, way, how, sync, persist_on)
    assert (child.returncode, child.stdout) == (-signal.SIGKILL, "cart\n"), child.stderr
    child = run_child("killed_outside.py", path, "pool", "read", how, sync, persist_on)
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


class TestItStartsWhenTheTurnIsDurable:
    @pytest.mark.parametrize("way", ["async", "late", "plain", "on", "call", "run", "with"])
    def test_whatever_the_way_into_the_vat(self, tmp_path, way):
        assert outcome_of_a_kill(tmp_path / "s", "pool", way, "thread") == "paying"

    @pytest.mark.parametrize("kind", ["pool", "asyncio"])
    def test_what_runs_on_a_loop(self, tmp_path, kind):
        assert outcome_of_a_kill(tmp_path / "s", kind, "async", "loop") == "paying"

    def test_in_a_manual_vat(self, tmp_path):
        assert outcome_of_a_kill(tmp_path / "s", "manual", "step", "thread") == "paying"
        assert outcome_of_a_kill(tmp_path / "t", "manual", "step", "loop") == "paying"

    @pytest.mark.parametrize("how", ["thread", "loop"])
    def test_without_a_sync_it_is_enough_that_it_was_written(self, tmp_path, how):
        assert outcome_of_a_kill(tmp_path / "s", "pool", "async", how, sync="none") == "paying"

    def test_in_a_vat_that_is_saved_by_hand_it_waits_for_no_save(self, tmp_path):
        assert outcome_of_a_kill(tmp_path / "s", "pool", "async", "thread", persist_on="manual") == "cart"


class TestATurnThatFails:
    async def test_starts_nothing_and_closes_the_coroutine_in_silence(self, vat, caplog, recwarn):
        started = []

        async def work():
            started.append("asyncio")

        def both():
            from_awaitable(work(), loop)
            to_thread(started.append, "thread")
            raise Boom

        loop = asyncio.get_running_loop()
        with pytest.raises(Boom):
            vat.run(both)
        collect()
        await asyncio.sleep(0)
        assert started == []
        assert not caplog.records
        assert not recwarn.list

    def test_leaves_the_promise_abandoned(self, vat):
        kept = []

        def start():
            kept.append(to_thread(len, "text"))
            raise Boom

        with pytest.raises(Boom):
            vat.run(start)
        with pytest.raises(GoblinsError, match="abandoned"):
            kept[0].result(30)


class TestCallsThatBlock:
    def test_may_wait_for_one_another_to_any_depth(self):
        def nested(depth):
            return 0 if depth == 0 else to_thread(nested, depth - 1).result(30) + 1

        assert to_thread(nested, 60).result(30) == 60

    def test_more_of_them_than_there_are_threads_come_in_turn(self):
        assert all_of(*(to_thread(abs, -n) for n in range(1000))).result(30) == list(range(1000))

    def test_use_a_thread_again_that_has_become_free(self):
        child = run_child(
            "run_code.py",
            "import threading, goblins\n"
            "used = {goblins.to_thread(threading.get_ident).result(30) for _ in range(50)}\n"
            "print(len(used) < 50)\n",
        )
        assert (child.stdout, child.stderr) == ("True\n", "")

    def test_one_that_hangs_does_not_keep_the_process_from_ending(self):
        child = run_child(
            "run_code.py",
            "import threading, goblins\n"
            "begun = threading.Event()\n"
            "goblins.to_thread(lambda: (begun.set(), threading.Event().wait()))\n"
            "begun.wait()\n",
            timeout=20,
        )
        assert (child.returncode, child.stderr) == (0, "")

    def test_one_that_ends_soon_is_waited_for_at_exit(self):
        child = run_child(
            "run_code.py",
            "import threading, time, goblins\n"
            "begun, main = threading.Event(), threading.main_thread()\n"
            "def work():\n"
            "    begun.set()\n"
            "    main.join()\n"
            "    print('done', flush=True)\n"
            "goblins.to_thread(work)\n"
            "begun.wait()\n",
        )
        assert (child.returncode, child.stdout, child.stderr) == (0, "done\n", "")

    def test_work_in_a_forked_child_that_has_not_used_goblins_before(self):
        child = run_child(
            "run_code.py",
            "import os, goblins\n"
            "assert goblins.to_thread(abs, -1).result(30) == 1\n"
            "if (pid := os.fork()) == 0:\n"
            "    os._exit(goblins.to_thread(abs, -7).result(30))\n"
            "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7\n",
            # From 3.12 on CPython warns of every fork of a process with threads.
            options=("-W", "ignore:This process:DeprecationWarning"),
        )
        assert (child.returncode, child.stderr) == (0, "")

    @pytest.mark.parametrize("use", ["to_thread(abs, -1)", "from_awaitable(asyncio.sleep(0), loop)"])
    def test_in_a_forked_child_of_one_that_has_vats_are_refused(self, use):
        child = run_child(
            "run_code.py",
            "import asyncio, os\n"
            "from goblins import GoblinsError, Vat, cell, from_awaitable, to_thread\n"
            "loop = asyncio.new_event_loop()\n"
            "assert Vat().spawn(cell, 1)() == 1\n"
            "if (pid := os.fork()) == 0:\n"
            "    try:\n"
            f"        {use}\n"
            "    except GoblinsError as error:\n"
            "        os._exit(7 if 'forked' in str(error) else 1)\n"
            "    os._exit(2)\n"
            "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7\n",
        )
        assert child.returncode == 0, child.stderr


class TestWithoutALoop:
    def test_from_awaitable_says_what_to_do(self, vat):
        def asker(bcom):
            async def ask():
                await from_awaitable(asyncio.sleep(0))

            return ask

        with pytest.raises(NoLoopError, match="AsyncioVat"):
            send(vat.spawn(asker)).result(30)

    @pytest.mark.parametrize(
        "use",
        [lambda: asyncio.sleep(1), lambda: asyncio.timeout(1).__aenter__(), asyncio.get_running_loop],
        ids=["sleep", "timeout", "get_running_loop"],
    )
    def test_what_asyncio_says_gets_a_note_that_says_what_to_do(self, vat, use):
        def asker(bcom):
            async def ask():
                await use()

            return methods(later=ask, now=lambda: asyncio.get_running_loop())

        asks = vat.spawn(asker)
        for message in [asks.later, asks.now]:
            with pytest.raises(RuntimeError) as caught:
                send(message).result(30)
            if str(caught.value) == "no running event loop":
                assert any("from_awaitable" in note for note in caught.value.__notes__)

    def test_what_can_not_be_awaited_is_an_error_at_once(self):
        with pytest.raises(TypeError, match="awaited, not int"):
            from_awaitable(7)
