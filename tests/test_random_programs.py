"""Random programs over several vats do what a simple model of the rules does.

The vats are run by hand, so that the program says which one goes on next. After each command the model and
the real vats are compared: the state of every actor, the outcome of every promise, and the order in which
messages and outcomes were delivered. The model is the rules of docs/semantics.md, written the simple way:

* a turn is a transaction: what it sends, settles and listens to happens at its end, if it succeeds;
* a churn is a message from the inbox and all near messages that come of it, first in, first out;
* messages to other vats are handed over after the churn, then what was settled is told to others;
* what waits for a promise waits in the vat whose turn asked for it. That vat is told by one message, and then
  passes on the messages that wait, and runs the handlers, each oldest first;
* the first settlement wins; a promise that would wait for itself breaks.

GOBLINS_PROGRAMS is the number of programs; 300 if it is not set.
"""

import logging
import os
from collections import deque
from typing import Any, NamedTuple

import pytest
from goblins import ManualVat, Promise, Ref, methods, on, promise_and_resolver, send, spawn, tell
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import Boom, collect

PAIRS = 3


# What programs are made of. A number for an actor, a promise or a vat counts those that there are, round and
# round: so it always names one.


class Actor(NamedTuple):
    index: int


class Promised(NamedTuple):
    index: int


class Number(NamedTuple):
    value: int


class Add(NamedTuple):
    """Changes the actor that does it, when it has come to its end."""

    amount: int


class Call(NamedTuple):
    to: Any
    body: tuple


class Send(NamedTuple):
    to: Any
    body: tuple


class Tell(NamedTuple):
    to: Any
    body: tuple


class Try(NamedTuple):
    body: tuple


class Raise(NamedTuple):
    pass


class Spawn(NamedTuple):
    state: int


class On(NamedTuple):
    promise: Promised
    fulfilled: tuple | None
    catch: tuple | None
    finally_: tuple | None


class Fulfil(NamedTuple):
    pair: int
    value: Any


class Break(NamedTuple):
    pair: int


class Return(NamedTuple):
    value: Any


class Enter(NamedTuple):
    """A turn from outside."""

    vat: int
    body: tuple


class Outside(NamedTuple):
    """A Send, Tell, Fulfil or Break in no turn."""

    op: Any


class Step(NamedTuple):
    vat: int


small = st.integers(0, 4)
actors = st.builds(Actor, small)
promises = st.builds(Promised, st.integers(0, 7))
targets = st.one_of(actors, promises)
values = st.one_of(st.builds(Number, small), actors, promises)
settlements = st.one_of(st.builds(Fulfil, small, values), st.builds(Break, small))
simple = st.one_of(
    st.builds(Add, st.integers(1, 9)),
    settlements,
    st.builds(Return, values),
    st.builds(Spawn, small),
    st.builds(Raise),
)


def bodies_of(depth, least=0):
    if depth == 0:
        return st.lists(simple, max_size=2).map(tuple)
    inner = bodies_of(depth - 1)
    handler = st.one_of(inner, st.none())
    nested = st.one_of(
        st.builds(Call, targets, inner),
        st.builds(Send, targets, inner),
        st.builds(Tell, targets, inner),
        st.builds(Try, inner),
        st.builds(On, promises, handler, handler, handler),
    )
    return st.lists(st.one_of(nested, nested, simple), min_size=least, max_size=4).map(tuple)


bodies = bodies_of(3)
enter = st.builds(Enter, small, bodies_of(3, least=1))
outside = st.builds(
    Outside, st.one_of(st.builds(Send, targets, bodies), st.builds(Tell, targets, bodies), settlements)
)
commands = st.one_of(enter, enter, outside, st.builds(Step, small))


class World:
    """What programs act on. It carries them out with the means that the model and the real vats give it."""

    def __init__(self, vats):
        self.vats = range(vats)
        self.actors: list = []
        self.promises: list = []
        self.resolvers: list = []
        self.heard: list[str] = []
        self.numbers = 0

    def number(self):
        """Numbers messages, handlers and errors, in the order in which they are made."""
        self.numbers += 1
        return self.numbers

    def actor(self, index):
        return self.actors[index % len(self.actors)]

    def promise(self, index):
        return self.promises[index % len(self.promises)]

    def value(self, value):
        match value:
            case Number(number):
                return number
            case Actor(index):
                return self.actor(index)
            case Promised(index):
                return self.promise(index)

    def command(self, command):
        match command:
            case Enter(vat, body):
                return self.enter(vat % len(self.vats), body)
            case Outside(op):
                self.outside(op)
            case Step(vat):
                return self.step(vat % len(self.vats))

    def perform(self, body):
        """Carries a body out; gives its result, and by how much it changes the actor that does it."""
        result, change = None, 0
        for op in body:
            match op:
                case Add(amount):
                    change += amount
                case Call(to, inner):
                    result = self.call(self.value(to), self.number(), inner)
                case Send(to, inner):
                    self.promises.append(self.send(self.value(to), self.number(), inner))
                case Tell(to, inner):
                    self.tell(self.value(to), self.number(), inner)
                case Try(inner):
                    try:
                        inner_result, inner_change = self.perform(inner)
                    except Exception as error:
                        self.heard.append(f"caught {name_of(error)}")
                    else:
                        result, change = inner_result, change + inner_change
                case Raise():
                    raise Boom(self.number())
                case Spawn(state):
                    self.actors.append(self.spawn(len(self.actors), state))
                case On(Promised(index), fulfilled, catch, finally_):
                    handlers = fulfilled, catch, finally_
                    self.promises.append(self.on(self.promise(index), self.number(), *handlers))
                case Fulfil(pair, value):
                    self.fulfil(self.resolvers[pair % PAIRS], self.value(value))
                case Break(pair):
                    self.break_(self.resolvers[pair % PAIRS], Boom(self.number()))
                case Return(value):
                    result = self.value(value)
        return result, change

    def outside(self, op):
        self.perform((op,))


def name_of(error):
    return f"{type(error).__name__} {error}" if isinstance(error, Boom) else type(error).__name__


class Real(World):
    """The vats of goblins."""

    def __init__(self, vats):
        super().__init__(vats)
        self.vats = [ManualVat(f"vat {index}") for index in range(vats)]
        self.player = make_player(self)
        for vat in self.vats:
            with vat:
                self.actors.append(self.spawn(len(self.actors), 0))
        for _ in range(PAIRS):
            promise, resolver = promise_and_resolver()
            self.promises.append(promise)
            self.resolvers.append(resolver)

    def enter(self, vat, body):
        try:
            result, _ = self.vats[vat].run(self.perform, body)
        except Exception as error:
            return name_of(error)
        return self.describe(result)

    def step(self, vat):
        return self.vats[vat].step()

    def spawn(self, index, state):
        return spawn(self.player, index, state)

    def call(self, target, *message):
        return target.do(*message)

    def send(self, target, *message):
        return send(target.do, *message)

    def tell(self, target, *message):
        tell(target.do, *message)

    def on(self, promise, number, fulfilled, catch, finally_):
        def handler(body, what):
            def handle(*heard):
                self.heard.append(f"{number} {what} {', '.join(map(self.describe, heard))}")
                return self.perform(body)[0]

            return None if body is None else handle

        return on(
            promise,
            handler(fulfilled, "fulfilled with"),
            catch=handler(catch, "broken with"),
            finally_=handler(finally_, "finally"),
        )

    def fulfil(self, resolver, value):
        resolver.fulfil(value)

    def break_(self, resolver, error):
        resolver.break_(error)

    def describe(self, value):
        if isinstance(value, Ref):
            return f"actor {self.actors.index(value)}"
        if isinstance(value, Promise):
            return f"promise {self.promises.index(value)}"
        return name_of(value) if isinstance(value, Exception) else str(value)

    def states(self):
        def state_of(actor):
            try:
                return actor.state()
            except Exception as error:
                return name_of(error)

        return [state_of(actor) for actor in self.actors]

    def outcomes(self):
        def outcome_of(promise):
            if "fulfilled" not in repr(promise) and "broken" not in repr(promise):
                return "open"
            try:
                return f"fulfilled with {self.describe(promise.result(timeout=0))}"
            except Exception as error:
                return f"broken with {name_of(error)}"

        return [outcome_of(promise) for promise in self.promises]

    def close(self):
        for vat in self.vats:
            vat.close()


def make_player(world):
    """Its messages are bodies that it carries out."""

    def player(bcom, index, state):
        def do(number, body):
            world.heard.append(f"actor {index} gets {number}")
            result, change = world.perform(body)
            if change:
                return bcom(player(bcom, index, state + change), result)
            return result

        return methods(do=do, state=lambda: state)

    return player


# The model.


class FarCallError(Exception):
    pass


class NoSuchActorError(Exception):
    pass


class NoTurnError(Exception):
    pass


class BehaviorError(Exception):
    pass


class BrokenPromiseError(Exception):
    pass


class ModelActor:
    def __init__(self, index, vat, state):
        self.index = index
        self.vat = vat
        self.state = state
        self.changes = 0
        self.gone = False


class ModelPromise:
    def __init__(self):
        self.chained = False
        self.outcome = None  # a pair: whether it was fulfilled, and with what it was settled
        self.waiting = []  # pairs: the vat, or None for outside, and the reaction
        self.source = None  # the promise for which whoever settles this one waits first

    def next(self):
        """The promise that has to settle before this one."""
        if self.outcome:
            return None
        if self.chained:
            return self.chained
        if self.source and any(reaction.settles() is self for _, reaction in self.source.waiting):
            return self.source
        return None

    def take(self, vat):
        """What a vat waits for here: messages first."""
        mine = [reaction for where, reaction in self.waiting if where == vat]
        self.waiting = [(where, reaction) for where, reaction in self.waiting if where != vat]
        return sorted(mine, key=lambda reaction: not isinstance(reaction, Forward))


class Deliver(NamedTuple):
    actor: ModelActor
    message: tuple
    answer: ModelPromise | None


class Forward(NamedTuple):
    message: tuple
    answer: ModelPromise | None

    def settles(self):
        return self.answer


class Chain(NamedTuple):
    promise: ModelPromise

    def settles(self):
        return self.promise


class Listen(NamedTuple):
    fulfilled: Any
    catch: Any
    derived: ModelPromise

    def settles(self):
        return self.derived


class Finally(NamedTuple):
    handler: Any
    derived: ModelPromise

    def settles(self):
        return self.derived


class Hear(NamedTuple):
    promise: ModelPromise


class Model(World):
    def __init__(self, vats):
        super().__init__(vats)
        self.inboxes = [deque() for _ in range(vats)]
        self.vat = None  # the one that runs
        self.effects = None  # of the open turn
        self.queue = deque()  # near messages of this churn
        self.outbox = []
        self.settled = []
        self.settlements = deque()  # still to be made
        self.is_settling = False
        self.actors = [ModelActor(index, index, 0) for index in range(vats)]
        self.promises = [ModelPromise() for _ in range(PAIRS)]
        self.resolvers = list(self.promises)

    # Turns and churns.

    def enter(self, vat, body):
        self.vat = vat
        _, result = self.turn(lambda: self.perform(body)[0])
        self.churn()
        return self.describe(result)

    def step(self, vat):
        if not self.inboxes[vat]:
            return False
        self.vat = vat
        self.job(self.inboxes[vat].popleft())
        self.churn()
        return True

    def churn(self):
        """Goes on until nothing near is left, then hands over what is for others."""
        while self.queue:
            self.job(self.queue.popleft())
        self.vat = None
        self.settling(self.hand_over)

    def hand_over(self):
        for vat, job in self.take("outbox"):
            self.inboxes[vat].append(job)
        for promise in self.take("settled"):
            self.release(promise)

    def take(self, name):
        taken = getattr(self, name)
        setattr(self, name, [])
        return taken

    def turn(self, body):
        before = [(actor.state, actor.changes) for actor in self.actors]
        self.effects = []
        try:
            outcome = (True, body())
        except Exception as error:
            outcome = (False, error)
            for actor, (state, changes) in zip(self.actors, before, strict=False):
                actor.state, actor.changes = state, changes
            for actor in self.actors[len(before) :]:
                actor.gone = True
            self.effects = []
        effects, self.effects = self.effects, None
        for effect, *args in effects:
            effect(*args)
        return outcome

    def job(self, job):
        match job:
            case Deliver(actor, message, answer):
                outcome = self.turn(lambda: self.call(actor, *message))
                if answer:
                    self.settle(answer, outcome)
            case (Listen(fulfilled, catch, derived), outcome):
                handler = fulfilled if outcome[0] else catch
                if handler:
                    _, heard = outcome
                    outcome = self.turn(lambda: handler(heard))
                self.settle(derived, outcome)
            case (Finally(handler, derived), outcome):
                fulfilled, error = self.turn(handler)
                self.settle(derived, outcome if fulfilled else (False, error))
            case Hear(promise):
                self.settling(self.tell_waiting, promise)

    # What programs do in a turn.

    def call(self, target, number, body):
        if isinstance(target, ModelPromise):
            target = self.receiver(self.look(target))
        if target.vat != self.vat:
            raise FarCallError
        if target.gone:
            raise NoSuchActorError
        self.heard.append(f"actor {target.index} gets {number}")
        before = target.changes
        state = target.state
        result, change = self.perform(body)
        if change:
            if target.changes != before:
                raise BehaviorError
            target.state = state + change
            target.changes += 1
        return result

    def look(self, promise):
        """The outcome as a turn sees it: what it has settled itself counts already."""
        passed = []
        while promise not in passed:
            passed.append(promise)
            if promise.outcome:
                return promise.outcome
            if promise.chained:
                break
            own = [args for effect, *args in self.effects if effect == self.settle and args[0] is promise]
            if not own:
                break
            outcome = own[0][1]
            if not (outcome[0] and isinstance(outcome[1], ModelPromise)):
                return outcome
            promise = outcome[1]
        raise NoTurnError

    def later(self, effect, *args):
        if self.effects is None:
            effect(*args)
        else:
            self.effects.append((effect, *args))

    def send(self, target, *message):
        answer = ModelPromise()
        answer.source = target if isinstance(target, ModelPromise) else None
        self.later(self.post, target, message, answer)
        return answer

    def tell(self, target, *message):
        self.later(self.post, target, message, None)

    def spawn(self, index, state):
        return ModelActor(index, self.vat, state)

    def on(self, promise, number, fulfilled, catch, finally_):
        def handler(body, what):
            def handle(*heard):
                self.heard.append(f"{number} {what} {', '.join(map(self.describe, heard))}")
                return self.perform(body)[0]

            return None if body is None else handle

        handlers = handler(fulfilled, "fulfilled with"), handler(catch, "broken with")
        last = handler(finally_, "finally")
        derived = ModelPromise()
        derived.source = promise
        if any(handlers) or not last:
            self.later(self.wait, promise, Listen(*handlers, derived))
        if last:
            promise, derived = derived if any(handlers) else promise, ModelPromise()
            derived.source = promise
            self.later(self.wait, promise, Finally(last, derived))
        return derived

    def fulfil(self, promise, value):
        self.later(self.settle, promise, (True, value))

    def break_(self, promise, error):
        self.later(self.settle, promise, (False, error))

    # Messages and promises.

    def post(self, target, message, answer):
        if isinstance(target, ModelPromise):
            self.wait(target, Forward(message, answer))
            return
        job = Deliver(target, message, answer)
        if self.vat is None:
            self.inboxes[target.vat].append(job)
        elif target.vat == self.vat:
            self.queue.append(job)
        else:
            self.outbox.append((target.vat, job))

    def wait(self, promise, reaction):
        in_line = any(where == self.vat for where, _ in promise.waiting)
        if promise.outcome and not in_line:
            self.react(reaction, promise.outcome)
        else:
            promise.waiting.append((self.vat, reaction))

    def settle(self, promise, outcome, chained=False):
        self.settling(self.settlements.append, (promise, outcome, chained))

    def settling(self, action, *args):
        """What is to be settled because of an action is settled after it, not in the midst of it."""
        inside, self.is_settling = self.is_settling, True
        action(*args)
        if not inside:
            while self.settlements:
                self.settle_one(*self.settlements.popleft())
            self.is_settling = False

    def settle_one(self, promise, outcome, chained):
        if promise.outcome or (promise.chained and not chained):
            return
        fulfilled, value = outcome
        if fulfilled and isinstance(value, ModelPromise):
            if self.waits_for(value, promise):
                outcome = (False, BrokenPromiseError())
            else:
                promise.chained = value
                self.wait(value, Chain(promise))
                return
        promise.outcome = outcome
        if self.vat is None:
            self.release(promise)
        else:
            self.tell_waiting(promise)
            self.settled.append(promise)

    def waits_for(self, promise, other):
        while promise and promise is not other:
            promise = promise.next()
        return promise is other

    def release(self, promise):
        """Tells others: those outside at once, each vat by one message."""
        self.tell_waiting(promise)
        for vat in dict.fromkeys(vat for vat, _ in promise.waiting):
            self.inboxes[vat].append(Hear(promise))

    def tell_waiting(self, promise):
        for reaction in promise.take(self.vat):
            self.react(reaction, promise.outcome)

    def react(self, reaction, outcome):
        match reaction:
            case Forward(message, answer):
                try:
                    self.post(self.receiver(outcome), message, answer)
                except Exception as error:
                    if answer:
                        self.settle(answer, (False, error))
            case Chain(promise):
                self.settle(promise, outcome, chained=True)
            case _:
                self.queue.append((reaction, outcome))

    def receiver(self, outcome):
        fulfilled, value = outcome
        if not fulfilled:
            raise value
        if not isinstance(value, ModelActor):
            raise BrokenPromiseError
        return value

    # For comparing.

    def describe(self, value):
        if isinstance(value, ModelActor):
            return f"actor {self.actors.index(value)}"
        if isinstance(value, ModelPromise):
            return f"promise {self.promises.index(value)}"
        return name_of(value) if isinstance(value, Exception) else str(value)

    def states(self):
        return ["NoSuchActorError" if actor.gone else actor.state for actor in self.actors]

    def outcomes(self):
        def outcome_of(promise):
            if not promise.outcome:
                return "open"
            fulfilled, value = promise.outcome
            return f"{'fulfilled' if fulfilled else 'broken'} with {self.describe(value)}"

        return [outcome_of(promise) for promise in self.promises]


@pytest.fixture(autouse=True, scope="module")
def quiet_log():
    """The programs fail on purpose, and often."""
    logger = logging.getLogger("goblins")
    logger.disabled = True
    yield
    collect()
    logger.disabled = False


def check(real, model, command):
    assert real.command(command) == model.command(command)
    assert real.heard == model.heard
    assert real.states() == model.states()
    assert real.outcomes() == model.outcomes()


@settings(
    max_examples=int(os.environ.get("GOBLINS_PROGRAMS", "300")),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.sampled_from([1, 2, 2, 3, 3, 4, 5]), st.lists(commands, min_size=1, max_size=12))
def test_random_programs_do_what_the_model_does(vats, program):
    real, model = Real(vats), Model(vats)
    for command in program:
        check(real, model, command)
    # To the end: each vat in turn, until none has anything left.
    while any(model.inboxes):
        for vat in range(vats):
            check(real, model, Step(vat))
    real.close()
