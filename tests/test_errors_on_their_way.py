"""What runs at the end of an object leaves an error that is on its way as it is."""

import gc

import pytest
from goblins import (
    ManualVat,
    MemoryStore,
    PersistenceEnv,
    RocksStore,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import Boom, counter, failing


class TestAnErrorOnItsWay:
    """The interpreter drops what an expression has made while the error of that expression is set."""

    def test_outlives_a_resolver_that_goes_with_it(self):
        with pytest.raises(TypeError, match="fulfil"):
            promise_and_resolver()[1].fulfil()

    def test_outlives_one_whose_promise_somebody_waits_for(self, vat):
        def listen():
            promise, resolver = promise_and_resolver()
            heard = []
            on(promise, catch=heard.append)
            return [resolver], heard

        resolvers, heard = vat.run(listen)
        with pytest.raises(TypeError, match="fulfil"):
            resolvers.pop().fulfil()
        vat.drain()
        assert [str(error) for error in heard] == [
            "the promise was abandoned: nothing can settle it any more"
        ]

    def test_outlives_a_broken_promise_that_nobody_asked(self, vat, caplog):
        promises = [send(vat.run(lambda: spawn(failing)), Boom("unheard"))]
        vat.drain()
        gc.collect()
        with pytest.raises(TypeError, match="result"):
            promises.pop().result(1, 2, 3)
        assert "unheard" in caplog.text


class TestWhatIsNotClosed:
    """A store or a vat that goes unclosed is warned of, beside the error that it goes with."""

    @pytest.mark.parametrize("make", [lambda path: RocksStore(path), lambda _: MemoryStore()])
    @pytest.mark.filterwarnings("ignore:unclosed")
    def test_a_store_that_goes_leaves_the_error_as_it_is(self, make, tmp_path):
        with pytest.raises(TypeError, match="is a str, not 5"):
            make(tmp_path / "store").vat(5)

    @pytest.mark.filterwarnings("ignore:unclosed")
    def test_so_does_one_whose_vat_goes_with_it(self, tmp_path):
        env = PersistenceEnv("errors", counter)
        with pytest.raises(Boom, match="as it is"):
            spawn_persistent_vat(env, lambda: spawn(counter), RocksStore(tmp_path / "store"), log=True)[
                0
            ].run(fail)

    def test_a_vat_with_messages_that_nobody_will_handle_leaves_it_too(self, caplog):
        with pytest.raises(Boom, match="as it is"):
            with_a_message(ManualVat(log=True)).run(fail)
        assert "was not delivered" in caplog.text


def fail():
    raise Boom("as it is")


def with_a_message(vat):
    tell(vat.spawn(counter))
    return vat
