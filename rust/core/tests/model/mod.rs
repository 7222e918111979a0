//! The sequential model of a vat: actors are numbers, a turn works on a copy.
#![allow(unreachable_pub)]

use std::collections::VecDeque;

use proptest::prelude::*;

/// How many promises a program knows.
pub const PROMISES: usize = 4;

/// What a turn may do.
#[derive(Clone, Debug)]
pub enum Op {
    Spawn(i64),
    /// The actor becomes this when the call returns.
    Become(i64),
    Call {
        to: usize,
        ops: Vec<Op>,
        caught: bool,
    },
    Send {
        to: usize,
        ops: Vec<Op>,
        answer: Option<usize>,
    },
    SendOn {
        promise: usize,
        ops: Vec<Op>,
        answer: Option<usize>,
    },
    Fulfil(usize, i64),
    FulfilActor(usize, usize),
    Chain(usize, usize),
    Break(usize),
    Listen {
        promise: usize,
        ops: Vec<Op>,
    },
    Raise,
}

/// A program: calls from outside, one after the other.
pub fn program() -> impl Strategy<Value = Vec<(usize, Vec<Op>)>> {
    prop::collection::vec((0usize..8, prop::collection::vec(op(), 0..6)), 1..6)
}

fn op() -> impl Strategy<Value = Op> {
    let promise = || 0..PROMISES;
    let leaf = prop_oneof![
        2 => (0i64..100).prop_map(Op::Spawn),
        4 => (0i64..100).prop_map(Op::Become),
        2 => (promise(), 0i64..100).prop_map(|(p, n)| Op::Fulfil(p, n)),
        2 => (promise(), 0usize..8).prop_map(|(p, a)| Op::FulfilActor(p, a)),
        2 => (promise(), promise()).prop_map(|(p, q)| Op::Chain(p, q)),
        1 => promise().prop_map(Op::Break),
        1 => Just(Op::Raise),
    ];
    leaf.prop_recursive(4, 40, 4, move |inner| {
        let ops = || prop::collection::vec(inner.clone(), 0..4);
        let answer = || prop::option::of(promise());
        prop_oneof![
            3 => (0usize..8, ops(), any::<bool>()).prop_map(|(to, ops, caught)| Op::Call { to, ops, caught }),
            3 => (0usize..8, ops(), answer()).prop_map(|(to, ops, answer)| Op::Send { to, ops, answer }),
            2 => (promise(), ops(), answer()).prop_map(|(promise, ops, answer)| Op::SendOn { promise, ops, answer }),
            2 => (promise(), ops()).prop_map(|(promise, ops)| Op::Listen { promise, ops }),
        ]
    })
}

/// How a call or a promise ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Number(i64),
    Actor(usize),
    Broken,
}

#[derive(Clone, Copy)]
struct Actor {
    /// `None`: its spawn was undone.
    number: Option<i64>,
    changes: u64,
}

enum Waiter {
    Forward { ops: Vec<Op>, answer: Option<usize> },
    Listen { promise: usize, ops: Vec<Op> },
    Chain(usize),
}

enum Progress {
    Pending,
    Chained(usize),
    Settled(End),
}

struct Promise {
    progress: Progress,
    waiters: Vec<Waiter>,
}

enum Job {
    /// `shown` is how the program names the actor.
    Deliver {
        to: usize,
        shown: usize,
        ops: Vec<Op>,
        answer: Option<usize>,
    },
    React {
        promise: usize,
        ops: Vec<Op>,
        end: End,
    },
}

enum Given {
    End(End),
    Promise(usize),
}

enum Effect {
    Send { to: usize, ops: Vec<Op>, answer: Option<usize> },
    SendOn { promise: usize, ops: Vec<Op>, answer: Option<usize> },
    Settle(usize, Given),
    Listen { promise: usize, ops: Vec<Op> },
}

struct Raised;

pub struct Model {
    actors: Vec<Actor>,
    promises: Vec<Promise>,
    queue: VecDeque<Job>,
    effects: Vec<Effect>,
    settlements: VecDeque<(usize, Given, bool)>,
    pub trace: Vec<String>,
}

impl Model {
    /// Runs a program; gives the model at the end and how each call ended.
    pub fn run(program: &[(usize, Vec<Op>)]) -> (Self, Vec<End>) {
        let actor = |number| Actor { number: Some(number), changes: 0 };
        let promises = (0..PROMISES).map(|_| Promise { progress: Progress::Pending, waiters: Vec::new() });
        let mut model = Self {
            actors: vec![actor(0), actor(1)],
            promises: promises.collect(),
            queue: VecDeque::new(),
            effects: Vec::new(),
            settlements: VecDeque::new(),
            trace: Vec::new(),
        };
        let mut ends = Vec::new();
        for (to, ops) in program {
            let to = to % model.actors.len();
            ends.push(model.turn(|model| model.invoke(to, to, ops)));
            while let Some(job) = model.queue.pop_front() {
                model.handle(job);
            }
        }
        (model, ends)
    }

    pub fn outcomes(&self) -> Vec<Option<End>> {
        let outcome = |promise: &Promise| match &promise.progress {
            Progress::Settled(end) => Some(end.clone()),
            _ => None,
        };
        self.promises.iter().map(outcome).collect()
    }

    pub fn numbers(&self) -> Vec<Option<i64>> {
        self.actors.iter().map(|actor| actor.number).collect()
    }

    fn turn(&mut self, body: impl FnOnce(&mut Self) -> Result<i64, Raised>) -> End {
        let before = self.actors.clone();
        let result = body(self);
        let effects = std::mem::take(&mut self.effects);
        match result {
            Ok(number) => {
                effects.into_iter().for_each(|effect| self.carry_out(effect));
                End::Number(number)
            }
            Err(Raised) => {
                self.actors.iter_mut().for_each(|actor| actor.number = None);
                self.actors[..before.len()].copy_from_slice(&before);
                End::Broken
            }
        }
    }

    fn handle(&mut self, job: Job) {
        match job {
            Job::Deliver { to, shown, ops, answer } => {
                let end = self.turn(|model| model.invoke(to, shown, &ops));
                if let Some(answer) = answer {
                    self.settlements.push_back((answer, Given::End(end), false));
                    self.make_settlements();
                }
            }
            Job::React { promise, ops, end } => {
                self.trace.push(format!("promise {promise}: {end:?}"));
                self.turn(|model| model.execute(&ops).map(|_| 0));
            }
        }
    }

    fn invoke(&mut self, to: usize, shown: usize, ops: &[Op]) -> Result<i64, Raised> {
        let Actor { number: Some(number), changes } = self.actors[to] else {
            return Err(Raised);
        };
        self.trace.push(format!("{shown} holds {number}"));
        let Some(new) = self.execute(ops)? else {
            return Ok(number);
        };
        if self.actors[to].changes != changes {
            return Err(Raised);
        }
        self.actors[to] = Actor { number: Some(new), changes: changes + 1 };
        Ok(new)
    }

    fn execute(&mut self, ops: &[Op]) -> Result<Option<i64>, Raised> {
        let mut new = None;
        for op in ops.iter().cloned() {
            match op {
                Op::Spawn(number) => self.actors.push(Actor { number: Some(number), changes: 0 }),
                Op::Become(number) => new = Some(number),
                Op::Call { to, ops, caught } => {
                    let to = to % self.actors.len();
                    match self.invoke(to, to, &ops) {
                        Ok(number) => self.trace.push(format!("{to} answered {number}")),
                        Err(Raised) if caught => self.trace.push("caught".to_owned()),
                        Err(Raised) => return Err(Raised),
                    }
                }
                Op::Send { to, ops, answer } => {
                    let to = to % self.actors.len();
                    self.effects.push(Effect::Send { to, ops, answer });
                }
                Op::SendOn { promise, ops, answer } => {
                    self.effects.push(Effect::SendOn { promise, ops, answer })
                }
                Op::Fulfil(promise, number) => self.will_settle(promise, End::Number(number)),
                Op::FulfilActor(promise, actor) => {
                    self.will_settle(promise, End::Actor(actor % self.actors.len()))
                }
                Op::Break(promise) => self.will_settle(promise, End::Broken),
                Op::Chain(promise, next) => self.effects.push(Effect::Settle(promise, Given::Promise(next))),
                Op::Listen { promise, ops } => self.effects.push(Effect::Listen { promise, ops }),
                Op::Raise => return Err(Raised),
            }
        }
        Ok(new)
    }

    fn will_settle(&mut self, promise: usize, end: End) {
        self.effects.push(Effect::Settle(promise, Given::End(end)));
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, ops, answer } => {
                self.queue.push_back(Job::Deliver { to, shown: to, ops, answer })
            }
            Effect::SendOn { promise, ops, answer } => self.wait(promise, Waiter::Forward { ops, answer }),
            Effect::Listen { promise, ops } => self.wait(promise, Waiter::Listen { promise, ops }),
            Effect::Settle(promise, given) => self.settlements.push_back((promise, given, false)),
        }
        self.make_settlements();
    }

    /// What follows from a settlement comes after all that waited for the promise itself.
    fn make_settlements(&mut self) {
        while let Some((promise, given, chained)) = self.settlements.pop_front() {
            self.settle(promise, given, chained);
        }
    }

    fn wait(&mut self, promise: usize, waiter: Waiter) {
        let promise = &mut self.promises[promise];
        match &promise.progress {
            Progress::Settled(end) => {
                let end = end.clone();
                self.wake(waiter, end);
            }
            _ => promise.waiters.push(waiter),
        }
    }

    fn wake(&mut self, waiter: Waiter, end: End) {
        match (waiter, end) {
            (Waiter::Forward { ops, answer }, End::Actor(to)) => {
                self.queue.push_back(Job::Deliver { to, shown: usize::MAX, ops, answer });
            }
            (Waiter::Forward { answer: Some(answer), .. }, _) => {
                self.settlements.push_back((answer, Given::End(End::Broken), false));
            }
            (Waiter::Forward { answer: None, .. }, _) => {}
            (Waiter::Listen { promise, ops }, end) => self.queue.push_back(Job::React { promise, ops, end }),
            (Waiter::Chain(promise), end) => self.settlements.push_back((promise, Given::End(end), true)),
        }
    }

    fn settle(&mut self, promise: usize, given: Given, chained: bool) {
        match self.promises[promise].progress {
            Progress::Pending => {}
            Progress::Chained(_) if chained => {}
            Progress::Chained(_) | Progress::Settled(_) => return,
        }
        let end = match given {
            Given::End(end) => end,
            Given::Promise(next) if self.leads_to(next, promise) => End::Broken,
            Given::Promise(next) => {
                self.promises[promise].progress = Progress::Chained(next);
                return self.wait(next, Waiter::Chain(promise));
            }
        };
        self.promises[promise].progress = Progress::Settled(end.clone());
        let waiters = std::mem::take(&mut self.promises[promise].waiters);
        let (first, then): (Vec<_>, Vec<_>) =
            waiters.into_iter().partition(|waiter| matches!(waiter, Waiter::Forward { .. }));
        first.into_iter().chain(then).for_each(|waiter| self.wake(waiter, end.clone()));
    }

    /// Whether a promise waits for another one: as a link of a chain, or as the answer of a message that waits for it.
    fn leads_to(&self, from: usize, goal: usize) -> bool {
        let (mut seen, mut open) = ([false; PROMISES], vec![from]);
        while let Some(here) = open.pop() {
            if here == goal {
                return true;
            }
            if std::mem::replace(&mut seen[here], true) {
                continue;
            }
            match self.promises[here].progress {
                Progress::Chained(next) => open.push(next),
                Progress::Pending => open.extend((0..PROMISES).filter(|&next| {
                    let is_answer = |waiter: &Waiter| matches!(waiter, Waiter::Forward { answer, .. } if *answer == Some(here));
                    self.promises[next].waiters.iter().any(is_answer)
                })),
                Progress::Settled(_) => {}
            }
        }
        false
    }
}
