//! Tests of the whole: real databases and real servers, fresh for each test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod store_cache;
#[cfg(feature = "sqlite")]
mod store_contract;
