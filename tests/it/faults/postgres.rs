//! A PostgreSQL server that is stopped, frozen, restarted, read-only, full, or locked.

use std::sync::Mutex;

use super::{Deployment, Holder, Mode, observe};
use crate::harness::deployment::Table;
use crate::harness::postgres::{self, PostgresServer};

const ROLE: &str = "service";

/// A server, and a deployment whose service logs in with a role of its own, as in production.
struct Own {
    deployment: Deployment,
    server: PostgresServer,
}

impl Own {
    fn start() -> Self {
        let server = PostgresServer::start();
        server.psql(&format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'"));
        server.psql(&format!("CREATE DATABASE tenants OWNER {ROLE}"));
        let url = server.url(ROLE, ROLE, "tenants");
        let table = || Table::OwnPostgres(url.clone());
        Self { deployment: Deployment::start_on(Mode::Config, table), server }
    }

    fn observe(self, name: &str, begin: fn(&mut PostgresServer), end: fn(&mut PostgresServer)) {
        let server = Mutex::new(self.server);
        let act = |what: fn(&mut PostgresServer)| what(&mut server.lock().expect("no panic"));
        observe(&format!("PostgreSQL: {name}"), &self.deployment, || act(begin), |()| act(end));
    }
}

#[test]
fn a_server_that_is_stopped() {
    Own::start().observe("stopped", PostgresServer::stop, PostgresServer::restart);
}

#[test]
fn a_server_that_is_killed() {
    Own::start().observe("killed", PostgresServer::kill9, PostgresServer::restart);
}

#[test]
fn a_server_that_is_frozen() {
    let freeze = |server: &mut PostgresServer| server.freeze();
    let thaw = |server: &mut PostgresServer| server.thaw();
    Own::start().observe("frozen (SIGSTOP)", freeze, thaw);
}

#[test]
fn a_server_that_is_restarted() {
    Own::start().observe("restarted", PostgresServer::restart, |_| {});
}

#[test]
fn a_server_that_is_read_only() {
    let begin = |server: &mut PostgresServer| {
        server.psql("ALTER SYSTEM SET default_transaction_read_only = on");
        server.reload();
    };
    let end = |server: &mut PostgresServer| {
        server.psql("ALTER SYSTEM RESET default_transaction_read_only");
        server.reload();
    };
    Own::start().observe("read-only", begin, end);
}

#[test]
fn a_server_without_a_free_connection() {
    let begin = |server: &mut PostgresServer| {
        server.psql(&format!("ALTER ROLE {ROLE} CONNECTION LIMIT 0"));
        server.psql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
        ));
    };
    let end = |server: &mut PostgresServer| {
        server.psql(&format!("ALTER ROLE {ROLE} CONNECTION LIMIT -1"));
    };
    Own::start().observe("out of connections", begin, end);
}

fn locked(table: &str) {
    let own = Own::start();
    let url = own.server.url(ROLE, ROLE, "tenants");
    let name = format!("PostgreSQL: table `{table}` locked");
    let lock = format!("BEGIN; LOCK TABLE {table}; SELECT 'locked';\n");
    observe(&name, &own.deployment, || Holder::start(postgres::shell(&url), &lock), drop);
}

#[test]
fn a_table_of_users_that_is_locked() {
    locked("users");
}

#[test]
fn a_table_of_changes_that_is_locked() {
    locked("changes");
}
