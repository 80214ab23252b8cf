//! nats-server's own tests of auth callout (`server/auth_callout_test.go`, 2.15.1), replayed against
//! this service as a black box: what each of them demands of an auth service, or promises to a
//! client of one, has to hold here too, in operator and in config mode.
//!
//! Each scenario is a [`Row`] of a table, with what is expected and what was seen. To read it:
//! `cargo test --test it -- callout_scenarios --nocapture | grep '^|'`.
//!
//! [`tap::Tap`] hears what servers ask and what the service answers; [`wire::Wire`] is a client that
//! also does what no library would.

mod attempts;
mod basics;
mod events;
mod forged;
pub(crate) mod identities;
mod leafnodes;
mod mqtt;
mod operator;
mod placement;
mod silence;
mod static_users;
mod tap;
mod tokens;
mod transports;
mod websocket;
pub(crate) mod wire;

use std::sync::Once;

use serde_json::Value;

use self::tap::Tap;
use self::wire::Wire;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::{eventually, http, servers};

/// The tests of nats-server that are replayed, by the names of their rows.
const REPLAYED: [&str; 38] = [
    "Basics",
    "UpdateAccountClaimsClearsExternalAuthorization",
    "MQTTJwtPassedInConnectOptions",
    "NonOperatorMQTTOpaquePassword",
    "MultiAccounts",
    "AllowedAccounts",
    "NoAuthUserPreConnectInvokesCallout",
    "NoAuthUserPreConnectHonorsExpiration",
    "ClientTLSCerts",
    "VerifiedUserCalloutsWithSig",
    "OperatorModeBasics",
    "ScopedUserAssignedAccount",
    "ScopedUserAllAccount",
    "ServerConfigEncryption",
    "OperatorModeEncryption",
    "ServerTags",
    "ServerClusterAndVersion",
    "ErrorResponse",
    "AuthUserFailDoesNotInvokeCallout",
    "AuthErrEvents",
    "ConnectEvents",
    "BadServer",
    "BadUser",
    "ExpiredUser",
    "ExpiredResponse",
    "Operator_AnyAccount",
    "WSClientTLSCerts",
    "ClientAuthErrorConf",
    "ClientAuthErrorOperatorMode",
    "OperatorModeUserRevocation",
    "LeafNodeAndOperatorMode",
    "LeafNodeAndConfigMode",
    "ProxyRequiredInUserNotInAuthJWT",
    "OperatorModeMismatchedCalloutCreds",
    "LeafNodeOperatorModeMismatchedCreds",
    "RegisterWithAccountAfterClose",
    "ZombieInflatesAccountConnections",
    "OperatorModeMQTTOpaquePasswordUsesDefaultSentinel",
];

/// The others, and why.
const LEFT_OUT: [(&str, &str); 2] = [
    ("TitleCaseEmptyString", "a function of nats-server's own, which no service can reach"),
    (
        "OperatorNoServerConfigCalloutAllowed",
        "the server refuses its configuration before anything of the service runs",
    ),
];

/// What a scenario showed in a mode.
#[derive(Debug)]
struct Row {
    scenario: &'static str,
    mode: Mode,
    checks: Vec<Check>,
}

#[derive(Debug)]
struct Check {
    what: &'static str,
    expected: String,
    seen: String,
}

impl Row {
    /// A row without findings. The name is that of nats-server's test, without `TestAuthCallout`, or
    /// begins with a small letter.
    #[track_caller]
    fn of(scenario: &'static str, mode: Mode) -> Self {
        let own = scenario.starts_with(char::is_lowercase);
        assert!(own || REPLAYED.contains(&scenario), "{scenario} is not listed");
        Self { scenario, mode, checks: Vec::new() }
    }

    /// Adds a finding.
    fn saw(&mut self, what: &'static str, expected: impl ToString, seen: impl ToString) {
        let (expected, seen) = (expected.to_string(), seen.to_string());
        self.checks.push(Check { what, expected, seen });
    }

    fn cell(&self, value: impl Fn(&Check) -> &str) -> String {
        let parts: Vec<String> =
            self.checks.iter().map(|check| format!("{}: {}", check.what, value(check))).collect();
        parts.join("; ").replace('|', "\\|")
    }
}

/// Prints the rows, and panics if one differs from what is expected.
#[track_caller]
fn report(rows: &[Row]) {
    static HEAD: Once = Once::new();
    HEAD.call_once(|| print!("\n| scenario | mode | expected | seen |\n|---|---|---|---|\n"));
    let mut wrong = Vec::new();
    for row in rows {
        let mode = match row.mode {
            Mode::Operator => "operator",
            Mode::Config => "config",
        };
        let (expected, seen) = (row.cell(|check| &check.expected), row.cell(|check| &check.seen));
        // The runner may have left a line unfinished.
        print!("\n| {} | {mode} | {expected} | {seen} |\n", row.scenario);
        assert!(!row.checks.is_empty(), "{} found nothing", row.scenario);
        wrong.extend(row.checks.iter().filter(|check| check.expected != check.seen));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_test_of_nats_server_is_replayed_or_left_out_for_a_reason() {
    let mut names: Vec<&str> = REPLAYED.to_vec();
    names.extend(LEFT_OUT.map(|(name, _)| name));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 40);
    for (name, why) in LEFT_OUT {
        print!("\n| {name} | | n/a: {why} | |\n");
    }
    // Each replayed one has its row in the source.
    let source: String = [
        include_str!("callout_scenarios/attempts.rs"),
        include_str!("callout_scenarios/basics.rs"),
        include_str!("callout_scenarios/events.rs"),
        include_str!("callout_scenarios/forged.rs"),
        include_str!("callout_scenarios/identities.rs"),
        include_str!("callout_scenarios/leafnodes.rs"),
        include_str!("callout_scenarios/mqtt.rs"),
        include_str!("callout_scenarios/operator.rs"),
        include_str!("callout_scenarios/placement.rs"),
        include_str!("callout_scenarios/silence.rs"),
        include_str!("callout_scenarios/static_users.rs"),
    ]
    .concat();
    for name in REPLAYED {
        assert!(source.contains(&format!("\"{name}\"")), "{name} has no row");
    }
}

/// A tenant with an admin, and a `bb` user of its own who has a token too.
#[derive(Debug)]
struct Tenant {
    id: &'static str,
    admin: Login,
    app: Login,
    token: String,
}

impl Tenant {
    fn add(deployment: &Deployment, id: &'static str) -> Self {
        let admin = deployment.tenant_add(id, &["--memory", "1MB", "--storage", "16MB"]);
        let name = format!("{id}-app");
        let app = deployment.user_add(id, &name, &["--kind", "bb"]);
        let token = deployment.token_add(id, &name);
        Self { id, admin, app, token }
    }

    /// The login name of the `bb` user.
    fn name(&self) -> String {
        format!("{}-app", self.id)
    }

    fn password(&self) -> &str {
        let Login::Password(_, password) = &self.app else { unreachable!("a password") };
        password
    }
}

/// A deployment with the tenants `one` and `two`, watched.
#[derive(Debug)]
struct Scene {
    tap: Tap,
    deployment: Deployment,
    one: Tenant,
    two: Tenant,
}

impl Scene {
    async fn start(mode: Mode) -> Self {
        Self::on(Deployment::start(mode)).await
    }

    /// On a deployment whose files were edited before anything started.
    async fn edited(mode: Mode, edit: impl Fn(&Initialised)) -> Self {
        Self::on(Deployment::start_prepared(mode, servers::version(), edit)).await
    }

    async fn on(deployment: Deployment) -> Self {
        let [one, two] = ["one", "two"].map(|id| Tenant::add(&deployment, id));
        let tap = Tap::on(&deployment, deployment.mode, &deployment.url()).await;
        Self { tap, deployment, one, two }
    }

    fn mode(&self) -> Mode {
        self.deployment.mode
    }

    fn port(&self) -> u16 {
        self.deployment.server.port()
    }

    /// The user and the account of an open connection, as its server reports them.
    fn who(&self, name: &str) -> String {
        let report = self.connz();
        let connections = report["connections"].as_array().expect("a list");
        let of_name = |connection: &&Value| connection["name"] == name;
        let Some(found) = connections.iter().find(of_name) else {
            return "not connected".to_owned();
        };
        let text = |field: &str| found[field].as_str().unwrap_or("nothing").to_owned();
        format!("{} in {}", text("authorized_user"), self.named(&text("account")))
    }

    /// [`Self::who`] once there is no such connection: a server may close one and list it for a
    /// moment longer.
    fn gone(&self, name: &str) -> String {
        eventually("the end of a connection", || {
            (self.who(name) == "not connected").then(|| self.who(name))
        })
    }

    fn connz(&self) -> Value {
        self.monitor("/connz?auth=true&limit=1024")
    }

    /// A report of the server's monitor.
    fn monitor(&self, path: &str) -> Value {
        let address = format!("127.0.0.1:{}", self.deployment.monitor);
        let report = http::get(&address, path).expect("a report");
        serde_json::from_str(&report.body).expect("JSON")
    }

    /// The account that a tenant's users are placed in, by the server's name for it.
    fn account(&self, tenant: &Tenant) -> String {
        match self.mode() {
            Mode::Config => "USERS".to_owned(),
            Mode::Operator => self.deployment.sql(&format!(
                "SELECT account FROM tenant_accounts WHERE tenant_id = '{}';",
                tenant.id
            )),
        }
    }

    /// [`Self::account`] as the table has it.
    fn home(&self, tenant: &Tenant) -> String {
        self.named(&self.account(tenant))
    }

    /// An account's name in the table: in operator mode `A:` and the tenant whose own it is, or the
    /// name of one of `init`'s.
    fn named(&self, account: &str) -> String {
        if self.mode() == Mode::Config {
            return account.to_owned();
        }
        for (name, key) in [("AUTH", "offline/auth.nk"), ("USERS", "offline/users.nk")] {
            if tokens::key(&self.deployment, key).public_key() == account {
                return name.to_owned();
            }
        }
        let query = format!("SELECT tenant_id FROM tenant_accounts WHERE account = '{account}';");
        match self.deployment.sql(&query).as_str() {
            "" => account.to_owned(),
            tenant => format!("A:{tenant}"),
        }
    }
}

/// Replaces text in a file that `init` wrote.
#[track_caller]
fn replace(path: &std::path::Path, text: &str, with: &str) {
    let before = std::fs::read_to_string(path).expect("a file of init's");
    assert!(before.contains(text), "no {text} in {}", path.display());
    std::fs::write(path, before.replacen(text, with, 1)).expect("is written");
}

/// In config mode, gives the tenant `one` the account BAZ, which has JetStream, to itself.
fn dedicate(init: &Initialised, mode: Mode) {
    if mode == Mode::Config {
        let with = "accounts {\n    BAZ { jetstream { max_mem: 1MB, max_file: 16MB }, \
                    limits { max_conn: 5 } }\n";
        replace(&init.server_conf(), "accounts {\n", with);
        init.set("dedicated", "{ BAZ = \"one\" }");
    }
}

/// Has `one` placed in the account of [`dedicate`], and returns once the service has closed what it
/// granted before.
fn place_one(scene: &Scene) {
    if scene.mode() == Mode::Config {
        let mut before = Wire::tcp(scene.port());
        let fields = scene.one.app.connect_fields();
        assert_eq!(before.login("before", &fields), "admitted");
        scene.deployment.sql("UPDATE tenants SET account = 'BAZ' WHERE id = 'one';");
        before.end();
    }
}
