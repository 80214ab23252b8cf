//! A deployment with all listeners, whose servers, service and database can fail, and whose BB sends
//! numbered notifications to one tenant.

use std::time::Duration;

use crate::bb::Backend;
use crate::bb::notifier::Notifier;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Initialised, Mode, Table};
use crate::harness::postgres::PostgresServer;
use crate::harness::staying::{Library, Staying, Subjects};
use crate::harness::{ports, servers};
use crate::within::faults::sqlite;

/// The tenant.
pub(super) const TENANT: &str = "one";

/// Between two notifications.
const PERIOD: Duration = Duration::from_millis(10);

/// See the module. Operator mode has its tenants in PostgreSQL, config mode in SQLite.
pub(super) struct Site {
    notifier: Notifier,
    pub(super) deployment: Deployment,
    postgres: Option<PostgresServer>,
    websocket: u16,
    mqtt: u16,
}

impl Site {
    /// With this `[callout] ttl`.
    pub(super) fn start(mode: Mode, ttl: &str) -> Self {
        const ROLE: &str = "service";
        let (websocket, mqtt) = (ports::free(), ports::free());
        let blocks = format!(
            "websocket {{ listen: \"127.0.0.1:{websocket}\", no_tls: true }}\n\
             mqtt {{ listen: \"127.0.0.1:{mqtt}\" }}\n"
        );
        let postgres = (mode == Mode::Operator).then(PostgresServer::start);
        let url = postgres.as_ref().map(|server| {
            server.psql(&format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'"));
            server.psql(&format!("CREATE DATABASE tenants OWNER {ROLE}"));
            server.url(ROLE, ROLE, "tenants")
        });
        let settings = [
            ("NATS_CALLOUT_CALLOUT_TTL", ttl),
            ("NATS_CALLOUT_LOG_LEVEL", "info,nats_callout::renewal=debug"),
        ];
        let deployment = Deployment::start_initialised(servers::version(), &settings, || {
            let table = url.clone().map_or(Table::Default, Table::OwnPostgres);
            let init = Initialised::on(mode, table);
            init.add_to_server_conf(&blocks);
            init
        });
        deployment.tenant_add(TENANT, &["--memory", "16MB", "--storage", "64MB"]);
        let notifier = Notifier::start(Backend::connect(&deployment), TENANT, PERIOD);
        Self { notifier, deployment, postgres, websocket, mqtt }
    }

    /// The libraries that can be had here and log in in this mode: MQTT takes an account of the
    /// tenant's own.
    pub(super) fn libraries(&self) -> impl Iterator<Item = Library> {
        let takes_mqtt = self.deployment.mode == Mode::Operator
            && !servers::takes_mqtt_passwords_for_jwts(servers::version());
        Library::ALL.into_iter().filter(move |it| takes_mqtt || *it != Library::Paho)
    }

    /// Starts a client; `None` where its toolchain is missing.
    pub(super) fn client(&self, library: Library, login: &Login) -> Option<Staying> {
        let url = match library {
            Library::WsConnect => format!("ws://127.0.0.1:{}", self.websocket),
            Library::Paho => format!("mqtt://127.0.0.1:{}", self.mqtt),
            _ => self.deployment.url(),
        };
        let subjects = Subjects::of(self.deployment.mode, TENANT);
        Staying::start(library, &url, login, &subjects)
    }

    /// The number of the last notification.
    pub(super) fn sent(&self) -> u64 {
        self.notifier.sent().number()
    }

    /// The service hangs.
    pub(super) fn service_hangs(&self, time: Duration) {
        self.deployment.freeze(&self.deployment.service);
        std::thread::sleep(time);
        self.deployment.service.thaw();
    }

    /// `kill -9` for the service, which comes back after this time.
    pub(super) fn service_down(&mut self, time: Duration) {
        self.deployment.service.kill9();
        std::thread::sleep(time);
        self.deployment.service.restart();
    }

    /// `kill -9` for nats-server, which comes back after this time.
    pub(super) fn server_down(&mut self, time: Duration) {
        self.deployment.server.kill9();
        std::thread::sleep(time);
        self.deployment.server.restart();
    }

    /// PostgreSQL hangs, or SQLite is locked.
    pub(super) fn database_frozen(&self, time: Duration) {
        if let Some(server) = &self.postgres {
            server.freeze();
            std::thread::sleep(time);
            server.thaw();
        } else {
            let _lock = sqlite::locked(&self.deployment.dir().join("nats-callout.db"));
            std::thread::sleep(time);
        }
    }
}
