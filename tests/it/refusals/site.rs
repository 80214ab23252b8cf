//! A deployment in which a login can be refused for every reason.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use nats_callout::callout::hash_password;
use nats_callout::store::TokenHash;
use rcgen::SanType;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::callout_scenarios::identities::config as tls;
use crate::events::login;
use crate::harness::client::Connected;
use crate::harness::deployment::{Deployment, Initialised, Mode, Table};
use crate::harness::issuer::{Issuer, Signer};
use crate::harness::tls::{Authority, nameless};
use crate::harness::{eventually, http, servers};
use crate::jwt::add_to_config;
use crate::nkey::Key;

pub(super) const PASSWORD: &str = "correct horse battery staple";
const PAST: &str = "2020-01-01 00:00:00+00:00";
/// What a statement of README has in the place of a hash.
const UNUSABLE: &str = "$2b$10$...";
pub(super) const EXPIRED: &str = "a-token-that-has-ended";
pub(super) const OF_ANOTHER: &str = "a-token-of-another-user";

/// One with a log in text or JSON.
pub(super) struct Site {
    pub(super) deployment: Deployment,
    pub(super) issuer: Issuer,
    pub(super) asked: Issuer,
    pub(super) signer: Signer,
    /// Keys that no JWT tells apart.
    pub(super) many: Issuer,
    pub(super) key: Key,
    /// Certificates of nobody, and of two.
    pub(super) stranger: Arc<ClientConfig>,
    pub(super) both: Arc<ClientConfig>,
    _certificates: TempDir,
}

impl Site {
    pub(super) fn start(format: &str) -> Self {
        let signer = Signer::new("first", Algorithm::EdDSA);
        let (issuer, asked) = (Issuer::start(&[&signer]), Issuer::start(&[]));
        let keyless = |_| {
            let mut jwk = Signer::new("x", Algorithm::EdDSA).jwk();
            jwk.as_object_mut().unwrap().remove("kid");
            jwk
        };
        let many = Issuer::start(&[]);
        many.answer(crate::harness::issuer::Answer::Keys((0..9).map(keyless).collect()));
        let by_policy = "users = \"policy\"\ntenant_claim = \"org\"\nclaims = [\"roles\", \"team.name\"]\n\
                         policy_claim = \"roles\"\npolicies = [\"staff=bb\", \"team=team\", \"group=group\"]\n";
        let introspection = format!(
            "introspection_url = \"{}\"\nclient_id = \"nats\"\nclient_secret = \"s3cret\"\n\
             token_prefix = \"ask_\"\n",
            asked.introspection_url()
        );
        let away = "\n[issuers.away]\nissuer = \"away\"\naudience = [\"nats\"]\n\
                    jwks_url = \"http://127.0.0.1:1/certs\"\n";
        let tables = [
            issuer.table("login", by_policy),
            asked.table("asked", &introspection),
            many.table("many", ""),
            away.to_owned(),
        ];
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "authority");
        let block = format!("allow_non_tls: true\n{}", authority.block(true));
        let deployment = Deployment::start_initialised(
            servers::version(),
            &[("NATS_CALLOUT_LOG_FORMAT", format)],
            || {
                let init = Initialised::on(Mode::Config, Table::Default);
                add_to_config(&init, &tables.concat());
                init.add_to_server_conf("max_payload: 65536\nmax_control_line: 16KB");
                init.add_to_server_conf(&block);
                init.set("dedicated", "{ GONE = \"six\" }");
                init.set("account_failures", "0");
                init.set("source_failures", "0");
                policies(&init);
                init
            },
        );
        eventually("the keys", || {
            let metrics = http::get(deployment.http(), "/metrics")?.body;
            let has = |line: &str| metrics.contains(line);
            (has("nats_callout_issuer_keys{issuer=\"login\"} 1")
                && has("nats_callout_issuer_keys{issuer=\"many\"} 9"))
            .then_some(())
        });
        let key = Key::new();
        rows(&deployment, &key);
        let of = |names: &[&str]| {
            let mut params = nameless();
            let name = |it: &&str| SanType::DnsName((*it).try_into().expect("ascii"));
            params.subject_alt_names = names.iter().map(name).collect();
            tls(&authority, Some(&authority.client(&names.concat(), params)))
        };
        let stranger = of(&["stranger.example.com"]);
        let both = of(&["one.example.com", "two.example.com"]);
        Self { deployment, issuer, asked, signer, many, key, stranger, both, _certificates: folder }
    }

    pub(super) async fn events(&self) -> Connected {
        login(&self.deployment, Mode::Config, "auth").await
    }

    /// Claims of a user of the tenant `one` who has no row, with something else in one of them.
    pub(super) fn claims(&self, claim: &str, value: Value) -> Value {
        let mut claims = self.issuer.claims("gast");
        (claims["org"], claims["roles"]) = (json!("one"), json!(["staff"]));
        claims[claim] = value;
        if claims[claim].is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        }
        claims
    }
}

/// A day of the week that is not near, whenever the test runs.
pub(super) fn another_day() -> String {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).weekday();
    format!("{:?}", today.wrapping_add(3)).chars().take(3).collect()
}

fn policies(init: &Initialised) {
    let folder = init.dir().join("own");
    std::fs::create_dir(&folder).unwrap();
    let lists = "publish = [\"user.{{tenant.id}}.x\"]\nsubscribe = [\"_INBOX_{{tenant.id}}.>\"]\n";
    let never = format!("times = [\"{} 12:00-12:01\"]", another_day());
    for (name, subject) in [
        ("team", "{{claims.team.name}}"),
        ("group", "{{claims.group}}"),
        ("named", "{{user.name}}"),
    ] {
        let publish = format!("publish = [\"user.{{{{tenant.id}}}}.{subject}\"]");
        let subscribe = "subscribe = [\"_INBOX_{{tenant.id}}.>\"]";
        let text = format!("[account]\n{publish}\n{subscribe}\n[shared]\n{publish}\n{subscribe}\n");
        std::fs::write(folder.join(format!("{name}.toml")), text).unwrap();
    }
    for (name, line) in [
        ("elsewhere", "allow_from = [\"192.0.2.0/24\"]"),
        ("mqtt", "connections = [\"mqtt\"]"),
        ("never", &never),
    ] {
        let text = format!("[account]\n{lists}{line}\n[shared]\n{lists}{line}\n");
        std::fs::write(folder.join(format!("{name}.toml")), text).unwrap();
    }
    init.set("folder", "\"own\"");
}

fn rows(deployment: &Deployment, key: &Key) {
    let hash = hash_password(PASSWORD).expect("a hash");
    let hash = hash.expose();
    let subjects: Vec<String> = (0..4_360).map(|n| format!("subject.{n:04}")).collect();
    let list = serde_json::to_string(&subjects).unwrap();
    let nkey = key.public();
    let [ended, of_another] = [EXPIRED, OF_ANOTHER].map(|it| TokenHash::of(it).to_hex());
    deployment.sql(&format!(
        "BEGIN;
         INSERT INTO tenants (id, name) VALUES ('one', 'one');
         INSERT INTO tenants (id, name, status) VALUES ('two', 'two', 'suspended');
         INSERT INTO tenants (id, name, expires_at) VALUES ('three', 'three', '{PAST}');
         INSERT INTO tenants (id, name, account) VALUES ('four', 'four', 'INTAKE');
         INSERT INTO tenants (id, name, max_connections) VALUES ('five', 'five', 0);
         INSERT INTO tenants (id, name, account) VALUES ('six', 'six', 'GONE');
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('one', 'alice', '{hash}');
         INSERT INTO users (tenant_id, name, nkey) VALUES ('one', 'keyed', '{nkey}');
         INSERT INTO users (tenant_id, name, certificate) VALUES ('one', 'first', 'one.example.com');
         INSERT INTO users (tenant_id, name, certificate) VALUES ('one', 'second', 'two.example.com');
         INSERT INTO users (tenant_id, name, password_hash, status) VALUES ('one', 'suspended', '{hash}', 'suspended');
         INSERT INTO users (tenant_id, name, password_hash, expires_at) VALUES ('one', 'ended', '{hash}', '{PAST}');
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('one', 'unusable', '{UNUSABLE}');
         INSERT INTO users (tenant_id, name, password_hash, policy) VALUES ('one', 'astray', '{hash}', 'nowhere');
         INSERT INTO users (tenant_id, name, password_hash, policy) VALUES ('one', 'elsewhere', '{hash}', 'elsewhere');
         INSERT INTO users (tenant_id, name, password_hash, policy) VALUES ('one', 'mqtt', '{hash}', 'mqtt');
         INSERT INTO users (tenant_id, name, password_hash, policy) VALUES ('one', 'never', '{hash}', 'never');
         INSERT INTO users (tenant_id, name, password_hash, policy) VALUES ('one', 'teamless', '{hash}', 'team');
         INSERT INTO users (tenant_id, name, password_hash, policy) VALUES ('one', 'with.dots', '{hash}', 'named');
         INSERT INTO users (tenant_id, name) VALUES ('one', 'one/barred');
         INSERT INTO users (tenant_id, name, kind, password_hash, publish) VALUES ('one', 'large', 'service', '{hash}', '{list}');
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('two', 'of-two', '{hash}');
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('three', 'of-three', '{hash}');
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('four', 'of-four', '{hash}');
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('five', 'of-five', '{hash}');
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('six', 'of-six', '{hash}');
         INSERT INTO tokens (user_name, token_hash, expires_at) VALUES ('alice', '{ended}', '{PAST}');
         INSERT INTO tokens (user_name, token_hash) VALUES ('keyed', '{of_another}');
         COMMIT;"
    ));
}
