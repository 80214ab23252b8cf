//! Every way to connect: what the server hands on of each, and that logins, grants and refusals
//! are the same over all of them. [`Open`] is a deployment with every listener that a server has;
//! what is not about TLS is tried on one of each mode.

mod browser;
pub(crate) mod leaf;
mod mqtt;
mod table;
mod websocket;
pub(crate) mod wire;

use std::ops::Deref;

use tempfile::TempDir;

use crate::harness::choice::either_mode;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::tls::{Authority, Identity, nameless};
use crate::harness::{loudly, ports, servers};

/// Whether listeners speak TLS and ask for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    No,
    Verified,
}

/// A deployment with listeners for clients, WebSocket, MQTT and leaf nodes.
pub(crate) struct Open {
    pub(crate) deployment: Deployment,
    pub(crate) websocket: u16,
    pub(crate) mqtt: u16,
    leafnodes: u16,
    authority: Authority,
    _folder: TempDir,
}

impl Deref for Open {
    type Target = Deployment;

    fn deref(&self) -> &Deployment {
        &self.deployment
    }
}

impl Open {
    pub(crate) fn start_with(
        mode: Mode,
        version: &'static str,
        tls: Tls,
        prepare: impl Fn(&Initialised),
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "authority");
        let service = authority.client("service", nameless());
        let (websocket, mqtt, leafnodes) = (ports::free(), ports::free(), ports::free());
        let block = match tls {
            Tls::No => String::new(),
            Tls::Verified => authority.block(true),
        };
        let no_tls = if tls == Tls::No { "no_tls: true" } else { "" };
        // 2.10 has no cookie for anything but JWTs.
        let cookies = match servers::is(version, "2.10") {
            true => "",
            false => "user_cookie: nats_user, pass_cookie: nats_pass, token_cookie: nats_token",
        };
        let blocks = format!(
            "{block}\
             websocket {{ listen: \"127.0.0.1:{websocket}\", {no_tls}\n{block} {cookies} }}\n\
             mqtt {{ listen: \"127.0.0.1:{mqtt}\"\n{block} }}\n\
             leafnodes {{ listen: \"127.0.0.1:{leafnodes}\"\n{block} }}\n"
        );
        let deployment = Deployment::start_prepared(mode, version, |init| {
            init.add_to_server_conf(&blocks);
            if tls == Tls::Verified {
                init.set("tls_ca", &format!("{:?}", authority.ca));
                init.set("tls_certificate", &format!("{:?}", service.certificate));
                init.set("tls_key", &format!("{:?}", service.key));
            }
            prepare(init);
        });
        Self { deployment, websocket, mqtt, leafnodes, authority, _folder: folder }
    }

    /// Adds a tenant with room for JetStream, which MQTT keeps its sessions in; in config mode it
    /// has the account `ALICE` if it is `alice`.
    pub(crate) fn roomy_tenant(&self, id: &str) -> Login {
        let login = self.tenant_add(id, &["--memory", "16MB", "--storage", "64MB"]);
        if self.mode == Mode::Config {
            self.sql(&format!("UPDATE tenants SET account = 'ALICE' WHERE id = '{id}';"));
        }
        login
    }

    /// The options of `login.py` and `mqtt.py` that show a certificate.
    fn tls_options(&self, by: &Identity) -> [String; 6] {
        let path = |path: &std::path::Path| path.display().to_string();
        [
            "--ca".to_owned(),
            path(&self.authority.ca),
            "--cert".to_owned(),
            path(&by.certificate),
            "--key".to_owned(),
            path(&by.key),
        ]
    }
}

/// Config mode: gives the tenant `alice` an account of its own, with JetStream. Operator mode has
/// one for every tenant.
pub(crate) fn account_for_alice(init: &Initialised, mode: Mode) {
    if mode == Mode::Config {
        let conf = std::fs::read_to_string(init.server_conf()).expect("a configuration");
        let conf = conf.replacen(
            "\naccounts {\n",
            "\naccounts {\n    ALICE { jetstream { max_mem: 16MB, max_file: 64MB } }\n",
            1,
        );
        std::fs::write(init.server_conf(), conf).expect("a configuration");
        init.set("dedicated", "{ ALICE = \"alice\" }");
    }
}

async fn logins_and_grants(mode: Mode) {
    let version = servers::version();
    let open = Open::start_with(mode, version, Tls::No, |init| account_for_alice(init, mode));
    websocket::passwords_and_tokens_work_in_the_connect_and_in_cookies(&open);
    browser::a_page_logs_in_with_a_token_and_exchanges_messages(&open).await;

    let shared = open.tenant_add("shared", &["--isolation", "shared"]);
    leaf::a_leaf_is_refused_where_tenants_share_an_account(&open, &shared);
    let alice = open.roomy_tenant("alice");
    leaf::clients_of_a_leaf_exchange_messages_with_clients_of_the_hub(&open, &alice).await;
    if mode == Mode::Operator && servers::takes_mqtt_passwords_for_jwts(version) {
        loudly("SKIPPED: MQTT, whose passwords this server takes for JWTs in operator mode");
    } else {
        mqtt::a_device_is_refused_where_tenants_share_an_account(&open, &shared);
        mqtt::a_device_publishes_and_subscribes_in_its_tenants_own_account(&open, &alice).await;
    }
    // It is the way that was refused.
    open.cli(&["test", "shared"]).success();
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_grants_and_refusals_over_websocket_mqtt_and_leaf_nodes() {
    for mode in either_mode() {
        logins_and_grants(mode).await;
    }
}
