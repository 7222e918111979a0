//! The kernel with a small host in Rust, through its public API. One binary: to link one for each file takes longer than
//! to compile them.

mod common;
mod model;

mod collecting;
mod event_loops;
mod far_references;
mod founding;
mod generations;
mod interrupts;
mod log_events;
mod looking_back;
mod output_commit;
mod partial_updates;
mod poison;
mod promises;
mod replacing;
mod restoring;
mod saving;
mod saving_by_hand;
mod scheduling;
mod sleeping;
mod trails;
mod turns;
mod turns_model;
