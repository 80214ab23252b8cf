//! WebSocket: where a cookie logs in, a page of any origin does so with its visitor's, unless the
//! server compares origins. Servers tell whether they do, and of cookies the `jwt_cookie` alone; the
//! others are looked for in the configuration of a server beside the service's.

use super::Findings;
use crate::config::Config;
use crate::servers::ServerName;
use crate::servers::varz::Varz;

const CHECK: &str = "WebSocket origins";
const COOKIES: [&str; 4] = ["jwt_cookie", "token_cookie", "user_cookie", "pass_cookie"];
const REMEDY: &str = "add `same_origin: true`, or `allowed_origins` with the pages that may, to the \
                      block websocket, and restart the server";

pub(super) fn check(config: &Config, servers: &[(ServerName, Varz)], findings: &mut Findings) {
    let open = servers.iter().filter(|(_, varz)| {
        let websocket = &varz.websocket;
        websocket.port != 0 && !websocket.same_origin && websocket.allowed_origins.is_empty()
    });
    let written = written(config);
    for (server, varz) in open {
        let name = &server.name;
        let told = (!varz.websocket.jwt_cookie.is_empty()).then_some("jwt_cookie");
        match told.or(written) {
            Some(cookie) => findings.warn(
                CHECK,
                format!("{name}: any web page logs in with its visitor's cookie ({cookie})"),
                REMEDY,
            ),
            None => findings.skip(
                CHECK,
                format!(
                    "{name} admits pages of every origin, and does not tell whether cookies log \
                     in there; if they do, {REMEDY}"
                ),
            ),
        }
    }
}

/// A cookie that logs in, by the configuration of a server that lies beside the service's.
fn written(config: &Config) -> Option<&'static str> {
    let files = std::fs::read_dir(&config.folder).ok()?.flatten().filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("nats-server") && name.ends_with(".conf")
    });
    let texts: Vec<String> =
        files.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect();
    let mut lines = texts.iter().flat_map(|text| text.lines());
    lines.find_map(|line| {
        let said = line.split('#').next()?;
        COOKIES.into_iter().find(|cookie| said.contains(cookie))
    })
}
