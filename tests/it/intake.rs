//! The intake of events on a real server, in front of a stream of BB's: whose an event is, what is
//! refused and how, and that what is acknowledged is stored.

mod attacks;
mod bounds;
pub(crate) mod field;
mod flow;
mod instances;
