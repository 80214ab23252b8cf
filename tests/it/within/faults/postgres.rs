//! A PostgreSQL server that is stopped, frozen, restarted, read-only, full, or locked.

use std::sync::Mutex;

use super::{Deployment, Holder, Mode, observe, observe_blind};
use crate::harness::deployment::Table;
use crate::harness::postgres::{self, PostgresServer};
use crate::harness::turn::alone;

const ROLE: &str = "service";

/// A server, and a deployment whose service logs in with a role of its own, as in production.
struct Own {
    deployment: Deployment,
    server: Mutex<PostgresServer>,
    url: String,
}

impl Own {
    fn start() -> Self {
        let server = PostgresServer::start();
        server.psql(&format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'"));
        server.psql(&format!("CREATE DATABASE tenants OWNER {ROLE}"));
        let url = server.url(ROLE, ROLE, "tenants");
        let deployment = Deployment::start_on(Mode::Config, || Table::OwnPostgres(url.clone()));
        Self { deployment, server: Mutex::new(server), url }
    }

    fn act(&self, what: fn(&mut PostgresServer)) {
        what(&mut self.server.lock().expect("no panic"));
    }

    fn observe(&self, name: &str, begin: fn(&mut PostgresServer), end: fn(&mut PostgresServer)) {
        let name = format!("PostgreSQL: {name}");
        observe(&name, &self.deployment, || self.act(begin), |()| self.act(end));
    }

    fn blind(&self, name: &str, begin: fn(&mut PostgresServer), end: fn(&mut PostgresServer)) {
        let name = format!("PostgreSQL: {name}");
        observe_blind(&name, &self.deployment, || self.act(begin), |()| self.act(end));
    }

    fn lock(&self, tables: &str) -> Holder {
        let lock = format!("BEGIN; LOCK TABLE {tables}; SELECT 'locked';\n");
        Holder::start(postgres::shell(&self.url), &lock)
    }

    fn locked(&self, table: &str) {
        let name = format!("PostgreSQL: table `{table}` locked");
        observe(&name, &self.deployment, || self.lock(table), drop);
    }

    /// Where changes alone cannot be read, everybody is asked for anew.
    fn both_locked(&self) {
        let name = "PostgreSQL: tables `changes` and `users` locked";
        observe_blind(name, &self.deployment, || self.lock("changes, users"), drop);
    }
}

fn stopped(own: &Own) {
    own.blind("stopped", PostgresServer::stop, PostgresServer::restart);
}

fn killed(own: &Own) {
    own.blind("killed", PostgresServer::kill9, PostgresServer::restart);
}

fn frozen(own: &Own) {
    own.blind("frozen (SIGSTOP)", |server| server.freeze(), |server| server.thaw());
}

fn restarted(own: &Own) {
    own.observe("restarted", PostgresServer::restart, |_| {});
}

fn read_only(own: &Own) {
    let begin = |server: &mut PostgresServer| {
        server.psql("ALTER SYSTEM SET default_transaction_read_only = on");
        server.reload();
    };
    let end = |server: &mut PostgresServer| {
        server.psql("ALTER SYSTEM RESET default_transaction_read_only");
        server.reload();
    };
    own.observe("read-only", begin, end);
}

fn without_a_free_connection(own: &Own) {
    let begin = |server: &mut PostgresServer| {
        server.psql(&format!("ALTER ROLE {ROLE} CONNECTION LIMIT 0"));
        server.psql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
        ));
    };
    let end = |server: &mut PostgresServer| {
        server.psql(&format!("ALTER ROLE {ROLE} CONNECTION LIMIT -1"));
    };
    own.blind("out of connections", begin, end);
}

#[test]
fn a_server_that_is_stopped_killed_frozen_restarted_read_only_full_or_locked() {
    alone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let own = Own::start();
            stopped(&own);
            killed(&own);
        });
        scope.spawn(|| {
            let own = Own::start();
            frozen(&own);
            restarted(&own);
        });
        scope.spawn(|| {
            let own = Own::start();
            read_only(&own);
            without_a_free_connection(&own);
        });
        scope.spawn(|| {
            let own = Own::start();
            own.locked("users");
            own.locked("changes");
            own.both_locked();
        });
    });
}
