//! What is promised within a time, and what must be answered in time under load. A test that measures
//! begins with [`measured`](crate::harness::turn::measured), or what says in its place how much it does
//! itself, and waits until the others are through; the name of this module puts them last.

pub(crate) mod changes;
mod ends;
mod events;
pub(crate) mod faults;
mod refusals;
mod store;
mod under_load;
mod watchdog;
