//! What holds while others log in all the time.

mod bench;
mod guessing;
mod instances;
mod keys;
pub(super) mod load;
mod policies;
mod service;
mod slow_hashes;
