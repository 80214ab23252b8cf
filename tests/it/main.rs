//! Tests of the whole: real databases and real servers, fresh for each test.

mod store_cache;
mod store_contract;
