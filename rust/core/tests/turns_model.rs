//! Random programs of spawns, calls, sends, becomes, settlements and errors do what a plain sequential
//! model does: a turn is all or nothing (G1), and work is done in the order in which it was asked for.
#![allow(clippy::unwrap_used)]

mod common;
mod model;

use std::sync::{Arc, Mutex};

use common::{raised, runtime, vat};
use goblins_core::churn::Churn;
use goblins_core::toy::{Actor, Fault, Message, Promise, Reply, Turn, Value, behavior, call, outcome, spawn};
use model::{End, Model, Op, PROMISES, program};
use proptest::prelude::*;

/// The program's view of the real thing. Like a variable outside the vat, it is never rolled back.
struct World {
    actors: Mutex<Vec<Actor>>,
    promises: Vec<Promise>,
    trace: Mutex<Vec<String>>,
}

impl World {
    fn actor(&self, index: usize) -> (usize, Actor) {
        let actors = self.actors.lock().unwrap();
        let index = index % actors.len();
        (index, actors[index].clone())
    }

    fn note(&self, text: String) {
        self.trace.lock().unwrap().push(text);
    }

    fn end(&self, result: Result<Value, Fault>) -> End {
        match result {
            Ok(Value::Actor(actor)) => End::Actor(
                self.actors.lock().unwrap().iter().position(|known| Arc::ptr_eq(known, &actor)).unwrap(),
            ),
            Ok(value) => End::Number(common::int(&value)),
            Err(_) => End::Broken,
        }
    }
}

/// Code for a puppet: runs the operations in a turn of actor `me`.
fn script(world: &Arc<World>, me: usize, ops: &[Op]) -> Value {
    let (world, ops) = (world.clone(), ops.to_vec());
    Value::Code(behavior(move |turn, message| {
        let number = common::int(&message.value);
        world.note(format!("{me} holds {number}"));
        let new = execute(&world, turn, &ops)?;
        Ok(match new {
            Some(new) => Reply::Become(common::puppet(new), Value::Int(new)),
            None => Reply::Value(Value::Int(number)),
        })
    }))
}

fn execute(world: &Arc<World>, turn: &Turn<'_>, ops: &[Op]) -> Result<Option<i64>, Fault> {
    let mut new = None;
    for op in ops {
        match op {
            Op::Spawn(number) => {
                let actor = turn.spawn(common::puppet(*number));
                world.actors.lock().unwrap().push(actor);
            }
            Op::Become(number) => new = Some(*number),
            Op::Call { to, ops, caught } => {
                let (index, actor) = world.actor(*to);
                match turn.call(&actor, "do", script(world, index, ops)) {
                    Ok(value) => world.note(format!("{index} answered {value:?}")),
                    Err(_) if *caught => world.note("caught".to_owned()),
                    Err(error) => return Err(error),
                }
            }
            Op::Send { to, ops, answer } => {
                let (index, actor) = world.actor(*to);
                post(
                    turn.churn(),
                    (&actor).into(),
                    script(world, index, ops),
                    answer.map(|p| &world.promises[p]),
                );
            }
            Op::SendOn { promise, ops, answer } => {
                let target = (&world.promises[*promise]).into();
                post(
                    turn.churn(),
                    target,
                    script(world, usize::MAX, ops),
                    answer.map(|p| &world.promises[p]),
                );
            }
            Op::Fulfil(promise, number) => turn.fulfil(&world.promises[*promise], Value::Int(*number)),
            Op::FulfilActor(promise, actor) => {
                let (_, actor) = world.actor(*actor);
                turn.fulfil(&world.promises[*promise], Value::Actor(actor));
            }
            Op::Chain(promise, next) => {
                turn.fulfil(&world.promises[*promise], Value::Promise(world.promises[*next].clone()));
            }
            Op::Break(promise) => turn.break_(&world.promises[*promise], "broken"),
            Op::Listen { promise, ops } => {
                let (me, ops, world, on) = (*promise, ops.clone(), world.clone(), &world.promises[*promise]);
                turn.on(on, move |turn, result| {
                    let end = world.end(result);
                    world.note(format!("promise {me}: {end:?}"));
                    execute(&world, turn, &ops).map(|_| Value::Unit)
                });
            }
            Op::Raise => return raised("raised"),
        }
    }
    Ok(new)
}

fn post(
    churn: &std::rc::Rc<Churn<goblins_core::toy::Toy>>,
    target: goblins_core::Target<goblins_core::toy::Toy>,
    value: Value,
    answer: Option<&Promise>,
) {
    churn.send(target, Message { method: "do", value }, answer.cloned());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// TRN-01, 02, 04, 12; ACT-21; ASY-04, 10, 15, 16, 28; LIM-23, 24, 25, 30.
    #[test]
    fn programs_do_what_the_model_does(program in program()) {
        let (expected, ends) = Model::run(&program);

        let runtime = runtime();
        let vat = vat(&runtime, "model");
        let first = spawn(&vat, common::puppet(0)).unwrap();
        let second = spawn(&vat, common::puppet(1)).unwrap();
        let world = Arc::new(World {
            actors: Mutex::new(vec![first, second]),
            promises: (0..PROMISES).map(|_| Promise::default()).collect(),
            trace: Mutex::default(),
        });
        for ((to, ops), end) in program.iter().zip(ends) {
            let (index, actor) = world.actor(*to);
            let result = call(&actor, "do", script(&world, index, ops));
            prop_assert_eq!(world.end(result), end);
        }

        prop_assert_eq!(&*world.trace.lock().unwrap(), &expected.trace);
        let promises: Vec<_> =
            world.promises.iter().map(|promise| outcome(promise).map(|result| world.end(result))).collect();
        prop_assert_eq!(promises, expected.outcomes());
        let numbers: Vec<_> =
            world.actors.lock().unwrap().iter().map(|actor| call(actor, "get", Value::Unit).ok()).collect();
        let model: Vec<_> = expected.numbers().into_iter().map(|number| number.map(Value::Int)).collect();
        prop_assert_eq!(numbers, model);
    }
}
