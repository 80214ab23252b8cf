//! A Keycloak as a process, with the realm of `tests/clients/keycloak`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::clients;
use super::process::Process;
use super::{eventually_in, http, ports};

/// It has a database to make, on a machine that may have much else to do.
const START: Duration = Duration::from_secs(300);

const REALM: &str = "/realms/shop";

/// Its process, and where it listens.
#[derive(Debug)]
pub(crate) struct Keycloak {
    process: Process,
    _folder: tempfile::TempDir,
    address: String,
}

/// What it gives to a client for a user.
#[derive(Debug)]
pub(crate) struct Tokens(Value);

impl Tokens {
    pub(crate) fn get(&self, kind: &str) -> &str {
        self.0[kind].as_str().unwrap_or_else(|| panic!("no {kind}: {}", self.0))
    }
}

impl Keycloak {
    /// `None` where there is no Java or Maven.
    pub(crate) fn start() -> Option<Self> {
        let home = clients::keycloak()?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = ports::free();
        let process = Process::spawn(
            "Keycloak",
            &mut command(&home, port),
            &folder.path().join("keycloak.log"),
        );
        let address = format!("127.0.0.1:{port}");
        eventually_in(START, "Keycloak's realm", || {
            http::get(&address, REALM).filter(|answer| answer.status == 200).map(drop)
        });
        Some(Self { process, _folder: folder, address })
    }

    /// The realm's `iss`.
    pub(crate) fn issuer(&self) -> String {
        format!("http://{}{REALM}", self.address)
    }

    /// What a user gets by the client of this name.
    pub(crate) fn tokens(&self, client: &str, user: &str) -> Tokens {
        let form = format!(
            "grant_type=password&client_id={client}&client_secret=s3cret&scope=openid\
             &username={user}&password=pw"
        );
        Tokens(self.post_form("token", &form))
    }

    /// What the client `nats` gets for itself.
    pub(crate) fn of_client(&self) -> Tokens {
        let form = "grant_type=client_credentials&client_id=nats&client_secret=s3cret";
        Tokens(self.post_form("token", form))
    }

    /// Ends the session that tokens of the client `nats` are of.
    pub(crate) fn log_out(&self, tokens: &Tokens) {
        let token = tokens.get("refresh_token");
        self.post_form(
            "logout",
            &format!("client_id=nats&client_secret=s3cret&refresh_token={token}"),
        );
    }

    /// Has it sign with a new key from now on; those before stay in its set.
    pub(crate) fn rotate_keys(&self) {
        let form = "grant_type=password&client_id=admin-cli&username=admin&password=admin";
        let path = "/realms/master/protocol/openid-connect/token";
        let answer = http::post_form(&self.address, path, form).expect("an answer");
        let admin: Value = serde_json::from_str(&answer.body).expect("json");
        let admin = admin["access_token"].as_str().unwrap_or_else(|| panic!("{admin}"));
        let key = json!({
            "name": "next", "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider", "config": { "priority": ["200"] },
        });
        let path = "/admin/realms/shop/components";
        let answer = http::post_json(&self.address, path, admin, &key).expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    /// It hangs from now on.
    pub(crate) fn freeze(&self) {
        self.process.freeze();
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.process.thaw();
    }

    fn post_form(&self, endpoint: &str, form: &str) -> Value {
        let path = format!("{REALM}/protocol/openid-connect/{endpoint}");
        let answer = http::post_form(&self.address, &path, form).expect("an answer");
        assert!(matches!(answer.status, 200 | 204), "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap_or_default()
    }
}

/// What `bin/kc.sh` runs, as the process itself and not behind a shell.
fn command(home: &Path, port: u16) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xms64m", "-Xmx512m", "-XX:TieredStopAtLevel=1"])
        .args(
            ["util", "util.concurrent", "security"]
                .map(|it| format!("--add-opens=java.base/java.{it}=ALL-UNNAMED")),
        )
        .arg(format!("-Dkc.home.dir={}", home.display()))
        .arg(format!("-Djboss.server.config.dir={}", home.join("conf").display()))
        .arg("-Djava.util.logging.manager=org.jboss.logmanager.LogManager")
        .arg("-cp")
        .arg(home.join("lib/quarkus-run.jar"))
        .arg("io.quarkus.bootstrap.runner.QuarkusEntryPoint")
        .args(["start", "--optimized", "--import-realm", "--cache=local"])
        .args(["--http-enabled=true", "--hostname-strict=false", "--http-host=127.0.0.1"])
        .arg(format!("--http-port={port}"))
        .env("KC_BOOTSTRAP_ADMIN_USERNAME", "admin")
        .env("KC_BOOTSTRAP_ADMIN_PASSWORD", "admin");
    command
}
