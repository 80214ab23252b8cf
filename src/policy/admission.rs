//! Who may connect at all: from which addresses, by which kinds of connection and at which times.
//! nats-server ignores all of this in the user JWT of an auth callout, so it is enforced here.

use std::net::IpAddr;

use ipnet::IpNet;
use strum::{EnumIter, EnumString, IntoStaticStr, VariantNames};

use super::times::Schedule;
use crate::authn::DenyReason;
use crate::causes::quoted;
use crate::clock::UnixSeconds;
use crate::protocol::claims::ClientInfo;

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
#[non_exhaustive]
pub enum ConnectionType {
    /// NATS' own protocol, over TCP or TLS.
    Nats,
    /// The same in a WebSocket.
    Websocket,
    /// MQTT.
    Mqtt,
    /// A leaf node, over whatever.
    Leafnode,
}

impl ConnectionType {
    /// The type's name in a policy file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The type of a client; `None` if it is none that is known.
    #[must_use]
    pub fn of(client: &ClientInfo) -> Option<Self> {
        if client.kind.eq_ignore_ascii_case("leafnode") {
            return Some(Self::Leafnode);
        }
        [Self::Nats, Self::Websocket, Self::Mqtt]
            .into_iter()
            .find(|it| it.as_str() == client.connection_type)
    }

    /// What nats-server says of a client of this type.
    #[must_use]
    pub(crate) fn client(self) -> ClientInfo {
        let (kind, connection_type) = match self {
            Self::Leafnode => ("Leafnode", ""),
            other => ("Client", other.as_str()),
        };
        ClientInfo {
            kind: kind.to_owned(),
            connection_type: connection_type.to_owned(),
            ..ClientInfo::default()
        }
    }
}

/// A key of a section with its line, counted from 1. A default has none.
#[derive(Debug, Clone)]
pub(crate) struct Lined<T> {
    pub(crate) value: T,
    pub(crate) line: Option<usize>,
}

/// What a section asks of a connection; what is missing is not asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admission {
    pub(crate) connections: Option<Lined<Vec<ConnectionType>>>,
    pub(crate) allow_from: Option<Lined<Vec<IpNet>>>,
    pub(crate) times: Option<Lined<Schedule>>,
}

/// Not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotAdmitted {
    pub(crate) reason: DenyReason,
    pub(crate) line: Option<usize>,
    pub(crate) what: String,
}

impl Admission {
    /// Until when the client is admitted; `None` for no end.
    pub(crate) fn admit(
        &self,
        client: &ClientInfo,
        now: UnixSeconds,
    ) -> Result<Option<UnixSeconds>, NotAdmitted> {
        if let Some(Lined { value: types, line }) = &self.connections {
            let found = ConnectionType::of(client);
            if !found.is_some_and(|found| types.contains(&found)) {
                let found = found.map_or("of an unknown type", ConnectionType::as_str);
                let what = format!("`connections` does not list connections {found}");
                let reason = DenyReason::ConnectionType;
                return Err(NotAdmitted { reason, line: *line, what });
            }
        }
        if let Some(Lined { value: nets, line }) = &self.allow_from {
            let host = address(&client.host);
            if !host.is_some_and(|host| nets.iter().any(|net| net.contains(&host))) {
                let what = match client.host.is_empty() {
                    true => "`allow_from` is there, and the address is not known".to_owned(),
                    false => {
                        format!("`allow_from` does not hold the address {}", quoted(&client.host))
                    }
                };
                return Err(NotAdmitted { reason: DenyReason::Address, line: *line, what });
            }
        }
        let Some(Lined { value: times, line }) = &self.times else { return Ok(None) };
        times.open_until(now).map(Some).ok_or_else(|| NotAdmitted {
            reason: DenyReason::Time,
            line: *line,
            what: "`times` is closed".to_owned(),
        })
    }
}

/// The client's address as the server names it, with the zone of a link-local one left out and an
/// IPv4 address in IPv6 as what it is.
fn address(host: &str) -> Option<IpAddr> {
    let host = host.split_once('%').map_or(host, |(host, _)| host);
    host.parse::<IpAddr>().ok().map(|host| host.to_canonical())
}

/// A network, or an address alone.
pub(crate) fn parse_net(text: &str) -> Result<IpNet, (String, String)> {
    let remedy = || "write \"10.0.0.0/8\", \"2001:db8::/32\" or one address".to_owned();
    let wrong = || (format!("`{text}` is no network"), remedy());
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| wrong())?,
    };
    if net != net.trunc() {
        let what = format!("`{text}` has bits behind its prefix");
        return Err((what, format!("write \"{}\", or one address", net.trunc())));
    }
    match net {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err((format!("`{text}` is IPv4 in IPv6"), "write the IPv4 network".to_owned()))
        }
        net => Ok(net),
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    fn admits(nets: &[&str], host: &str) -> bool {
        let nets = nets.iter().map(|net| parse_net(net).unwrap()).collect();
        let allow_from = Some(Lined { value: nets, line: Some(7) });
        let admission = Admission { allow_from, ..Admission::default() };
        let client = ClientInfo { host: host.to_owned(), ..ConnectionType::Nats.client() };
        match admission.admit(&client, 0) {
            Ok(until) => until.is_none(),
            Err(refused) => {
                assert_eq!((refused.reason, refused.line), (DenyReason::Address, Some(7)));
                false
            }
        }
    }

    #[test]
    fn addresses() {
        let nets = ["10.0.0.0/8", "192.168.1.5", "2001:db8::/32", "fe80::/10"];
        for host in [
            "10.0.0.0",
            "10.255.255.255",
            "192.168.1.5",
            "2001:db8::1",
            "::ffff:10.1.2.3",
            "fe80::1%eth0",
        ] {
            assert!(admits(&nets, host), "{host}");
        }
        for host in [
            "11.0.0.0",
            "192.168.1.6",
            "2001:db9::1",
            "::ffff:11.1.2.3",
            "::1",
            "",
            "localhost",
            "10.0.0.1:4222",
            "[2001:db8::1]",
            "10.0.0",
            "0x0a000001",
            " 10.0.0.1",
        ] {
            assert!(!admits(&nets, host), "{host}");
        }
        assert!(!admits(&["::/0"], "10.0.0.1") && !admits(&["0.0.0.0/0"], "2001:db8::1"));
    }

    #[test]
    fn what_is_no_network() {
        for text in ["", "10.0.0.0/33", "10.0.0", "10.0.0.1/8", "::ffff:10.0.0.0/104", "all"] {
            let (what, remedy) = parse_net(text).unwrap_err();
            assert!(what.contains(text) && remedy.contains("write"), "{text}");
        }
    }

    #[test]
    fn types_of_connections() {
        for kind in ConnectionType::iter() {
            assert_eq!(ConnectionType::of(&kind.client()), Some(kind));
            for other in ConnectionType::iter() {
                let connections = Some(Lined { value: vec![other], line: None });
                let admission = Admission { connections, ..Admission::default() };
                assert_eq!(admission.admit(&kind.client(), 0).is_ok(), kind == other);
            }
        }
        let connections = Some(Lined { value: ConnectionType::iter().collect(), line: None });
        let all = Admission { connections, ..Admission::default() };
        let refused = all.admit(&ClientInfo::default(), 0).unwrap_err();
        assert_eq!(refused.reason, DenyReason::ConnectionType);
    }
}
