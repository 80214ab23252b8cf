//! How long whoever asks the tenant table waits for an answer while the database fails, and how soon
//! what others wrote is known.

mod postgres;
mod sqlite;
