//! What is promised within a time, and what must be answered in time under load: the tests that
//! measure. Each begins with [`measured`](crate::harness::turn::measured), which has it wait until
//! the others are through; the name of this module puts them last.

mod bench;
pub(crate) mod changes;
mod ends;
mod faults;
mod guessing;
mod instances;
mod keys;
mod load;
mod policies;
mod service;
mod store;
mod watchdog;
