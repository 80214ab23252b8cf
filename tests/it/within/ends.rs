//! A connection ends with what it rests on, within 5 s, and nobody else's does: those of users
//! without a row with their tenant, in shared accounts and in its own; those by nkey and of leaf
//! nodes with their user. `changes` has the rest.

use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::changes::crowd::Held;
use crate::harness::client::{self, Login};
use crate::harness::deployment::Mode;
use crate::harness::issuer::{Issuer, Signer};
use crate::harness::turn::measured;
use crate::harness::{depth, eventually, eventually_async, servers};
use crate::jwt::add_to_config;
use crate::nkey;
use crate::transports::leaf::{self, Leaf};
use crate::transports::{Open, Tls, account_for_alice};

/// Within this time a change is carried through, by contract.
const AT_MOST: Duration = Duration::from_secs(5);

/// Makes a change and waits for the end that it brings.
#[track_caller]
fn in_time(what: &str, change: impl FnOnce(), end: impl FnOnce()) {
    let begun = Instant::now();
    change();
    end();
    assert!(begun.elapsed() < AT_MOST, "{what}: {:?}", begun.elapsed());
}

/// Users without a row, whose issuer says of which tenant they are.
struct Guests<'a> {
    open: &'a Open,
    issuer: &'a Issuer,
    signer: &'a Signer,
}

impl Guests<'_> {
    fn login(&self, user: &str, tenant: &str) -> Login {
        let mut claims = self.issuer.claims(user);
        claims["org"] = json!(tenant);
        Login::Token(self.signer.sign(&claims))
    }

    fn try_hold(&self, user: &str, tenant: &str) -> Result<Held, String> {
        Held::try_connect(self.open.server.port(), &self.login(user, tenant))
    }

    fn hold(&self, user: &str, tenant: &str) -> Held {
        Held::connect(self.open.server.port(), &self.login(user, tenant))
    }

    /// Suspending or removing a tenant closes the connections of its users without a row, by the
    /// command and by plain SQL; and nobody else's.
    fn go_with_their_tenant(&self, id: &str, isolation: &str) {
        let open = self.open;
        let extra = ["--isolation", isolation];
        let neighbour = format!("{id}2");
        open.tenant_add(&neighbour, &extra);
        let mut neighbours = [self.hold("anna", &neighbour), self.hold("x", &neighbour)];
        let end = |what: &str, change: &dyn Fn()| {
            open.tenant_add(id, &extra);
            let mut held = [self.hold("anna", id), self.hold("anna", id), self.hold("bert", id)];
            in_time(what, change, || held.iter_mut().for_each(Held::wait_closed));
            assert!(self.try_hold("anna", id).is_err(), "{what}");
        };
        let kicked = |args: &[&str]| -> Value {
            let all = [&["--json"][..], args].concat();
            open.cli(&all).success().json()["kicked"].clone()
        };
        end("the command suspend", &|| {
            assert_eq!(kicked(&["tenant", "suspend", id]), 3);
        });
        assert_eq!(kicked(&["tenant", "remove", id, "--yes"]), 0);
        end("the command remove", &|| {
            assert_eq!(kicked(&["tenant", "remove", id, "--yes"]), 3);
        });
        let delete = format!("DELETE FROM tenants WHERE id = '{id}'");
        end("UPDATE", &|| {
            open.sql(&format!("UPDATE tenants SET status = 'suspended' WHERE id = '{id}'"));
        });
        open.sql(&delete);
        end("DELETE", &|| {
            open.sql(&delete);
        });
        // A tenant without any row of a user, as a licence server may insert it.
        let isolation = match open.mode {
            Mode::Operator => format!("'{isolation}'"),
            Mode::Config => "NULL".to_owned(),
        };
        open.sql(&format!(
            "INSERT INTO tenants (id, name, isolation) VALUES ('{id}', 'x', {isolation})"
        ));
        let mut held = eventually("the tenant", || self.try_hold("anna", id).ok());
        open.sql(&delete);
        held.wait_closed();
        for neighbour in &mut neighbours {
            assert!(neighbour.is_alive(), "another tenant's connection was closed");
        }
    }
}

async fn by_nkey(open: &Open) {
    open.tenant_add("keyed", &[]);
    let key = nkey::Key::new();
    nkey::add_user(open, "keyed", "signer", &["--nkey", key.public()]);
    let connected = nkey::connect(open, &key, "keyed").await;
    in_time(
        "by nkey",
        || drop(open.sql("UPDATE users SET status = 'suspended' WHERE name = 'signer';")),
        || {
            eventually("the end of the connection", || {
                let state = connected.client.connection_state();
                (state != async_nats::connection::State::Connected).then_some(())
            });
        },
    );
}

async fn of_a_leaf_node(open: &Open) {
    let admin = open.roomy_tenant("alice");
    let edge = open.user_add("alice", "edge", &["--kind", "bb", "--policy", "admin"]);
    let Login::Password(user, password) = &edge else { unreachable!("a password") };
    let hub = eventually_async("the hub's client", || async {
        client::connect(&open.url(), &admin, "_INBOX").await.ok()
    });
    let hub = hub.await;
    let leaf = Leaf::start(&leaf::remote(open, &format!("{user}:{password}@")));
    leaf::hears(&hub, &leaf.client().await, "orders.created").await;
    assert!(!leaf.log().contains("Authorization Violation"));
    in_time(
        "a leaf node",
        || drop(open.sql("UPDATE users SET status = 'suspended' WHERE name = 'edge';")),
        || leaf.refused(),
    );
    hub.round_trip("orders.last").await;
}

/// A tenant, and whether it has an account of its own.
const SHARED: (&str, &str) = ("shop", "shared");
const OWN: (&str, &str) = ("stall", "account");

async fn closed(mode: Mode, tenants: &[(&str, &str)]) {
    let signer = Signer::new("first", Algorithm::RS256);
    let issuer = Issuer::start(&[&signer]);
    let lines = "users = \"policy\"\ntenant_claim = \"org\"\nclaims = [\"realm_access.roles\"]";
    let table = issuer.table("kc", lines);
    let open = Open::start_with(mode, servers::version(), Tls::No, |init| {
        account_for_alice(init, mode);
        add_to_config(init, &table);
    });
    let guests = Guests { open: &open, issuer: &issuer, signer: &signer };
    for (id, isolation) in tenants {
        guests.go_with_their_tenant(id, isolation);
    }
    by_nkey(&open).await;
    of_a_leaf_node(&open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_guests_nkeys_and_leaf_nodes_end_in_time_in_operator_mode() {
    measured();
    closed(Mode::Operator, depth(&[OWN][..], &[SHARED, OWN])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_guests_nkeys_and_leaf_nodes_end_in_time_in_config_mode() {
    measured();
    closed(Mode::Config, &[SHARED]).await;
}
