//! What load costs, on real parts: `cargo bench --bench load -- PART`, each with `--help`:
//! tenants, users, guessing, events, beside, sizing, logins, storms, figures. It uses the harness of the tests
//! beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark fails by panicking"
)]
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the harness of the tests is larger than this needs"
)]

#[path = "load/beside.rs"]
mod beside;
#[path = "load/contenders.rs"]
mod contenders;
#[path = "load/events.rs"]
mod events;
#[path = "intake/field.rs"]
mod field;
#[path = "load/figures.rs"]
mod figures;
#[path = "load/guessing.rs"]
mod guessing;
mod harness;
#[path = "load/logins.rs"]
mod logins;
#[path = "load/simulation.rs"]
mod simulation;
#[path = "load/sizing.rs"]
mod sizing;
#[path = "login/states.rs"]
mod states;
#[path = "load/steady.rs"]
mod steady;
#[path = "load/storms.rs"]
mod storms;
#[path = "load/tenants.rs"]
mod tenants;
#[path = "load/users.rs"]
mod users;

use clap::{Parser, Subcommand};

/// What load costs.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Cargo's own, without a meaning here
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    Tenants(tenants::Args),
    Users(users::Args),
    Guessing(guessing::Args),
    Events(events::Args),
    Beside(beside::Args),
    Sizing(sizing::Args),
    Logins(logins::Args),
    Storms(storms::Args),
    Figures(figures::Args),
}

fn main() {
    match Args::parse().what {
        What::Tenants(args) => tenants::run(&args),
        What::Users(args) => {
            tokio::runtime::Runtime::new().expect("a runtime").block_on(users::run(&args));
        }
        What::Guessing(args) => guessing::run(&args),
        What::Sizing(args) => sizing::run(&args),
        What::Logins(args) => logins::run(&args),
        What::Storms(args) => storms::run(&args),
        What::Figures(args) => figures::run(&args),
        What::Events(args) => {
            tokio::runtime::Runtime::new().expect("a runtime").block_on(events::run(&args));
        }
        What::Beside(args) => {
            tokio::runtime::Runtime::new().expect("a runtime").block_on(beside::run(&args));
        }
    }
}
