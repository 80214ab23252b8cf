//! The claims of a good request as a flat list of JSON texts, cheap to change and to write: what
//! [`super::mutations`] starts from.

use nats_callout::keys::UserNkey;

use super::{Bench, NOW};

/// What a reader looks at before it may answer.
pub(super) const BINDING: [&str; 10] = [
    "aud",
    "exp",
    "iss",
    "nats",
    "nats/type",
    "nats/version",
    "nats/server_id",
    "nats/server_id/id",
    "nats/server_id/xkey",
    "nats/user_nkey",
];

/// What says who the client is.
pub(super) const PROOF: [&str; 2] = ["nats/connect_opts/user", "nats/connect_opts/pass"];

/// Everything else.
pub(super) const REST: [&str; 15] = [
    "iat",
    "jti",
    "sub",
    "nats/server_id/name",
    "nats/server_id/host",
    "nats/server_id/version",
    "nats/client_info",
    "nats/client_info/host",
    "nats/client_info/id",
    "nats/client_info/user",
    "nats/client_info/kind",
    "nats/client_info/type",
    "nats/connect_opts/lang",
    "nats/connect_opts/protocol",
    "nats/anything",
];

/// The last part of a path.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Claims by path, each with its name, which need not be the path's last part, and its JSON text.
/// An object is the fields below its path, unless it has a text of its own.
#[derive(Clone)]
pub(super) struct Flat(Vec<(&'static str, String, String)>);

impl Flat {
    /// What [`Bench::claims`] says of a connection.
    pub(super) fn new(bench: &Bench, connection: &str) -> Self {
        let quoted = |text: &str| format!("\"{text}\"");
        let xkey = bench.service_xkey.as_ref().map(|_| bench.server_xkey.public_key());
        let fields = [
            ("aud", quoted("nats-authorization-request")),
            ("exp", (NOW + 2).to_string()),
            ("iat", NOW.to_string()),
            ("iss", quoted(bench.server.public_key())),
            ("jti", quoted("KBXZQ5FHGD5LPBSCSMKNJDMBIE3WMMF2QPJ5W3PPQXS2KFCJYHFA")),
            ("sub", quoted(&bench.caller)),
            ("nats", String::new()),
            ("nats/server_id", String::new()),
            ("nats/server_id/name", quoted("nats-1")),
            ("nats/server_id/host", quoted("0.0.0.0")),
            ("nats/server_id/id", quoted(bench.server.public_key())),
            ("nats/server_id/version", quoted("2.15.1")),
            ("nats/server_id/xkey", quoted(&xkey.unwrap_or_default())),
            ("nats/user_nkey", quoted(connection)),
            ("nats/client_info", String::new()),
            ("nats/client_info/host", quoted("127.0.0.1")),
            ("nats/client_info/id", "7".to_owned()),
            ("nats/client_info/user", quoted("alice")),
            ("nats/client_info/kind", quoted("Client")),
            ("nats/client_info/type", quoted("nats")),
            ("nats/connect_opts", String::new()),
            ("nats/connect_opts/user", quoted("alice")),
            ("nats/connect_opts/pass", quoted("secret")),
            ("nats/connect_opts/lang", quoted("rust")),
            ("nats/connect_opts/protocol", "1".to_owned()),
            ("nats/type", quoted("authorization_request")),
            ("nats/version", "2".to_owned()),
        ];
        Self(fields.into_iter().map(|(path, text)| (path, last(path).to_owned(), text)).collect())
    }

    /// The JSON text of a claim, which an object has not; `None` if it is not there by its name.
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        let (.., text) = self.0.iter().find(|(at, name, _)| *at == path && *name == last(path))?;
        Some(text)
    }

    pub(super) fn set(&mut self, path: &'static str, text: String) {
        match self.0.iter_mut().find(|(at, ..)| *at == path) {
            Some(field) => field.2 = text,
            None => self.0.push((path, last(path).to_owned(), text)),
        }
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.0.retain(|(at, ..)| *at != path);
    }

    /// Gives a claim another name.
    pub(super) fn rename(&mut self, path: &str, name: String) {
        if let Some(field) = self.0.iter_mut().find(|(at, ..)| *at == path) {
            field.1 = name;
        }
    }

    /// Writes the claim `path` once more, before all others of its object, with this text.
    pub(super) fn double(&mut self, path: &'static str, text: String) {
        let at = self.0.iter().position(|(at, ..)| *at == path).unwrap_or_default();
        self.0.insert(at, (path, last(path).to_owned(), text));
    }

    /// The claims as JSON.
    pub(super) fn json(&self) -> String {
        let mut json = String::with_capacity(1_024);
        self.write("", &mut json);
        json
    }

    fn write(&self, folder: &str, json: &mut String) {
        json.push('{');
        let mut first = true;
        for (path, name, text) in &self.0 {
            let (parent, _) = path.rsplit_once('/').unwrap_or_default();
            if parent != folder {
                continue;
            }
            json.push_str(if first { "\"" } else { ",\"" });
            first = false;
            json.push_str(name);
            json.push_str("\":");
            if text.is_empty() {
                self.write(path, json);
            } else {
                json.push_str(text);
            }
        }
        json.push('}');
    }

    /// Whether they still say, although `path` has been changed, everything that a request must of
    /// one connection.
    pub(super) fn still_bind(&self, path: &str) -> bool {
        let text = |path| self.get(path).map(|text| text.trim_matches('"'));
        match path {
            "exp" => self
                .get("exp")
                .and_then(|text| text.parse().ok())
                .is_some_and(|exp: i64| exp >= NOW - 5),
            "nats/user_nkey" => text(path).is_some_and(|key| key.parse::<UserNkey>().is_ok()),
            // Without an envelope there is no curve key to name.
            "nats/server_id/xkey" => self
                .0
                .iter()
                .all(|(at, name, text)| *at != path || name != "xkey" || text == "\"\""),
            _ => false,
        }
    }
}
