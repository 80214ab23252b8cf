//! Tests of the whole: real databases and real servers, fresh for each test.

mod store_cache;
#[cfg(feature = "sqlite")]
mod store_contract;
