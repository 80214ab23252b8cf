//! An issuer of others' making, as a process: `oidc-provider` of npm, with JWTs, keys, discovery, introspection
//! and revocation of its own.

use std::process::Command;

use serde_json::Value;

use super::clients;
use super::process::Process;
use super::{eventually, http};

/// Its process, and where it listens.
#[derive(Debug)]
pub(crate) struct Provider {
    _process: Process,
    _folder: tempfile::TempDir,
    address: String,
}

/// What a token is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Jwt,
    Opaque,
}

impl Provider {
    /// `None` where there is no npm.
    pub(crate) fn start() -> Option<Self> {
        let installed = clients::issuer()?;
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("issuer.log");
        let mut command = Command::new("node");
        command.arg(installed.join("issuer.mjs"));
        let process = Process::spawn("oidc-provider", &mut command, &log);
        let address = eventually("oidc-provider", || {
            let log = process.log();
            let said = log.lines().find_map(|line| serde_json::from_str::<Value>(line).ok())?;
            Some(said["issuer"].as_str()?.strip_prefix("http://")?.to_owned())
        });
        Some(Self { _process: process, _folder: folder, address })
    }

    /// Its `iss`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A token of the client `app`, by its credentials.
    pub(crate) fn token(&self, kind: Kind) -> String {
        let resource = match kind {
            Kind::Jwt => "urn:nats:jwt",
            Kind::Opaque => "urn:nats:opaque",
        };
        let form = format!("grant_type=client_credentials&resource={resource}&scope=orders");
        let said: Value = serde_json::from_str(&self.post("/token", &form)).expect("json");
        said["access_token"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    /// Takes a token back.
    pub(crate) fn revoke(&self, token: &str) {
        self.post("/token/revocation", &format!("token={token}"));
    }

    fn post(&self, path: &str, form: &str) -> String {
        let form = format!("{form}&client_id=app&client_secret=secret");
        let answer = http::post_form(&self.address, path, &form).expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }
}
