//! Servers on which accounts do not keep JetStream apart: whoever may publish `$JS.API.>` in one uses that of
//! every other, by sending the header `Nats-Request-Info` twice. Mended in nats-server 2.11.15, 2.12.6 and
//! 2.14.0 (seen on 2.10.26, 2.11.11, 2.12.2 and 2.12.5).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::connections::{Cluster, ClusterError};
use super::occupants::Answer;

/// Major, minor, patch.
pub type Version = (u32, u32, u32);

/// What to do about such a server.
pub const REMEDY: &str =
    "install nats-server 2.14.0 or later, or 2.12.6 or 2.11.15 or later of these lines";

/// Reads `2.15.1`, with or without a suffix such as `-RC.1`.
#[must_use]
pub fn parse(text: &str) -> Option<Version> {
    let mut parts = text.split(['.', '-', '+']).map(str::parse::<u32>);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Whether accounts share their JetStream on a server of this version. One that is not known is none.
#[must_use]
pub fn shares_jetstream(version: &str) -> bool {
    parse(version).is_some_and(|version| match version {
        (2, 11, patch) => patch < 15,
        (2, 12, patch) => patch < 6,
        other => other < (2, 14, 0),
    })
}

impl Cluster {
    /// The servers on which accounts share their JetStream: names and versions.
    pub async fn sharing_jetstream(&self) -> Result<BTreeMap<String, String>, ClusterError> {
        let answers = self.ask_all::<Answer<Varz>>("$SYS.REQ.SERVER.PING.VARZ", b"").await?;
        let found = answers.by_server.into_values().filter_map(|answer| answer.data);
        let old = found.filter(|varz| shares_jetstream(&varz.version));
        Ok(old.map(|varz| (varz.server_name, varz.version)).collect())
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
    fn versions_that_share_it() {
        for old in ["2.9.25", "2.10.29", "2.11.14", "2.12.0", "2.12.5", "2.13.0", "2.12.5-RC.1"] {
            assert!(shares_jetstream(old), "{old}");
        }
        for new in ["2.11.15", "2.11.17", "2.12.6", "2.14.0", "2.15.3", "3.0.0", "2.16.0-dev", "x"]
        {
            assert!(!shares_jetstream(new), "{new}");
        }
    }
}
