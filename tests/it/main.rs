//! Tests of the whole: real databases and real servers, fresh for each test.

mod policies;
mod store_cache;
mod policies;
mod store_contract;
