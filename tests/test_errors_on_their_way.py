"""What runs at the end of an object leaves an error that is on its way as it is."""

import gc

import pytest
from goblins import on, promise_and_resolver, send, spawn
from support import Boom, failing


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
