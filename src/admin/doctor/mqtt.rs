//! Servers that listen for MQTT: what each does with passwords.

use super::Findings;
use crate::config::{Config, Mode};
use crate::servers::varz::Varz;
use crate::servers::{ServerName, versions};

const MQTT: &str = "mqtt";

pub(super) fn check(config: &Config, servers: &[(ServerName, Varz)], findings: &mut Findings) {
    if matches!(config.mode, Mode::Operator(_)) {
        servers.iter().for_each(|(server, varz)| look(server, varz, findings));
    }
}

fn look(server: &ServerName, varz: &Varz, findings: &mut Findings) {
    let refuses =
        versions::parse(&varz.version).is_some_and(versions::takes_mqtt_passwords_for_jwts);
    if varz.mqtt.port != 0 && refuses {
        let what = format!(
            "{}: {} refuses MQTT clients with a password by itself in operator mode, without asking \
             the service",
            server.name, varz.version
        );
        findings.warn(MQTT, what, versions::MQTT_REMEDY);
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn passwords_are_refused_where_a_server_listens_and_is_old() {
        let warnings = |version: &str, port: u16| {
            let varz =
                serde_json::json!({ "version": version, "now": "", "mqtt": { "port": port } });
            let mut findings = Findings::default();
            let server = ServerName { id: "N".to_owned(), name: "one".to_owned() };
            look(&server, &serde_json::from_value(varz).unwrap(), &mut findings);
            findings.count(State::Warn)
        };
        assert_eq!([warnings("2.11.17", 1883), warnings("2.12.6", 1883)], [1, 1]);
        assert_eq!([warnings("2.12.7", 1883), warnings("2.12.6", 0)], [0, 0]);
    }
}
