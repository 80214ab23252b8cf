//! Servers on which tenants do not stay apart, and which of them serve which mode.
//!
//! - Whoever may publish `$JS.API.>` in one account uses the JetStream of every other, by sending the header
//!   `Nats-Request-Info` twice (seen on 2.10.26, 2.11.11, 2.12.2 and 2.12.5).
//! - From 2.11.0, whoever logs in has the server send what it writes of a message to any subject of the
//!   account, by the header `Nats-Trace-Dest`, whatever the permissions (seen on 2.11.0, 2.11.8, 2.11.11,
//!   2.12.1, 2.12.3 and 2.12.5).
//!
//! Both are mended in nats-server 2.11.15, 2.12.6 and 2.14.0.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Cluster, ClusterError, ServerAnswer};

/// Major, minor, patch.
pub(crate) type Version = (u32, u32, u32);

/// What to do about such a server.
pub(crate) const REMEDY: &str =
    "install nats-server 2.14.0 or later, or 2.12.6 or 2.11.15 or later of these lines";

/// Writes `2.15.1`.
pub(crate) fn text((major, minor, patch): Version) -> String {
    format!("{major}.{minor}.{patch}")
}

/// Reads `2.15.1`, with or without a suffix such as `-RC.1`.
pub(crate) fn parse(text: &str) -> Option<Version> {
    let mut parts = text.split(['.', '-', '+']).map(str::parse::<u32>);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

/// The servers of operator mode.
#[cfg(feature = "cli")]
pub(crate) const OPERATOR_MODE: &str = "2.11.15, 2.12.6 or 2.14.0 or later";

/// The servers of config mode. Those of 2.10 as long as no tenant has JetStream.
#[cfg(feature = "cli")]
pub(crate) const CONFIG_MODE: &str = "2.10, 2.11.15, 2.12.6 or 2.14.0 or later";

/// Whether a server of operator mode takes the password of an MQTT client for a JWT, and refuses it by itself
/// where it is none; certificates get through (seen on 2.11.11, 2.11.17 and 2.12.2 to 2.12.6).
pub(crate) fn takes_mqtt_passwords_for_jwts(version: Version) -> bool {
    version < (2, 12, 7)
}

/// What there is to do about that.
pub(crate) const MQTT_REMEDY: &str =
    "install nats-server 2.12.7 or later, or let MQTT clients log in with certificates";

/// Whether accounts share their JetStream on a server of this version.
pub(crate) fn shares_jetstream(version: Version) -> bool {
    match version {
        (2, 11, patch) => patch < 15,
        (2, 12, patch) => patch < 6,
        other => other < (2, 14, 0),
    }
}

/// Whether a client reaches every subject of its account there.
pub(crate) fn traces_anywhere(version: Version) -> bool {
    version >= (2, 11, 0) && shares_jetstream(version)
}

/// Whether there is auth callout in config mode, and what keeps shared tenants apart.
pub(crate) fn serves_config_mode(version: Version) -> bool {
    version >= (2, 10, 0) && !traces_anywhere(version)
}

impl Cluster {
    /// The servers on which accounts share their JetStream: names and versions. One whose version cannot be
    /// read is none.
    pub(crate) async fn sharing_jetstream(
        &self,
    ) -> Result<BTreeMap<String, Version>, ClusterError> {
        let answers = self.ask_all::<ServerAnswer<Varz>>("$SYS.REQ.SERVER.PING.VARZ", b"").await?;
        let found = answers.by_server.into_values().filter_map(|answer| answer.data);
        let versions = found.filter_map(|varz| Some((varz.server_name, parse(&varz.version)?)));
        Ok(versions.filter(|&(_, version)| shares_jetstream(version)).collect())
    }
}

#[derive(Deserialize)]
struct Varz {
    server_name: String,
    version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_over_mqtt() {
        let refused = |text| takes_mqtt_passwords_for_jwts(parse(text).unwrap());
        assert!(
            refused("2.11.17") && refused("2.12.6") && !refused("2.12.7") && !refused("2.14.0")
        );
    }

    #[test]
    fn old_servers() {
        let traces = ["2.11.0", "2.11.14", "2.12.0", "2.12.5", "2.13.0", "2.12.5-RC.1"];
        let mended = ["2.11.15", "2.11.17", "2.12.6", "2.14.0", "2.15.3", "3.0.0", "2.16.0-dev"];
        let shares = |text| shares_jetstream(parse(text).unwrap());
        let config = |text| serves_config_mode(parse(text).unwrap());
        assert!(shares("2.9.25") && !config("2.9.25"), "there is no auth callout");
        assert!(shares("2.10.29") && config("2.10.29"), "there are no traces");
        for old in traces {
            assert!(shares(old) && !config(old), "{old}");
        }
        for new in mended {
            assert!(!shares(new) && config(new), "{new}");
        }
        assert_eq!(parse("x"), None);
    }
}
