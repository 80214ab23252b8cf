//! How long a JWT may be: a server reads so many bytes of a CONNECT, and closes whoever sends more before
//! anybody is asked.

use super::Findings;
use crate::config::Config;
use crate::protocol::credentials::fitting;
use crate::servers::ServerName;
use crate::servers::varz::Varz;

const CHECK: &str = "max_control_line";

pub(super) fn check(config: &Config, found: &[(ServerName, Varz)], findings: &mut Findings) {
    let lines = found.iter().map(|(_, varz)| varz.max_control_line).filter(|line| *line > 0);
    let Some(least) = lines.min().filter(|_| !config.issuers.is_empty()) else { return };
    findings.ok(
        CHECK,
        format!(
            "{least} bytes of a CONNECT are read, so that JWTs of about {} log in; longer ones need more in \
             nats-server.conf",
            fitting(least)
        ),
    );
}
