//! Web pages of others that log in by a browser's cookies.

use std::fs;

use super::{Findings, changed, without_line};
use crate::harness::deployment::Mode;
use crate::harness::{ports, servers};

/// README's block, without TLS and on this port.
fn as_printed(port: u16) -> String {
    let page = include_str!("../../../../README.md");
    let (_, block) = page.split_once("```text\nwebsocket {").expect("the block");
    let (block, _) = block.split_once("```").expect("its end");
    let tls = "tls { cert_file: \"server.pem\", key_file: \"server.key\" }";
    assert!(block.contains("0.0.0.0:8443") && block.contains(tls), "{block}");
    let block = block.replace("0.0.0.0:8443", &format!("127.0.0.1:{port}"));
    format!("websocket {{{}", block.replace(tls, "no_tls: true"))
}

#[test]
fn what_lets_in_more_than_it_seems_to() {
    let port = ports::free();
    let jwt = servers::is(servers::version(), "2.10");
    let cookie = if jwt { "jwt_cookie" } else { "token_cookie" };
    let block = |origin: &str| {
        format!(
            "websocket {{ listen: \"127.0.0.1:{port}\", no_tls: true\n{cookie}: t\n{origin} }}\n"
        )
    };
    let (open, closed) = if jwt {
        (block(""), block("same_origin: true"))
    } else {
        let printed = as_printed(port);
        (without_line(&printed, "same_origin:"), printed)
    };
    let mut deployment = changed(Mode::Config, |text| format!("{text}\n{open}"));
    let none = |findings: &Findings, check: &str| findings.0.iter().all(|(name, ..)| name != check);
    let findings = Findings::of(&deployment);
    findings.fail_only(&[]);
    findings.has("WebSocket origins", "warn", &["web page", cookie, "same_origin: true"]);

    let conf = deployment.server_conf();
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, text.replace(&open, &closed)).unwrap();
    deployment.server.restart();
    let findings = Findings::of(&deployment);
    assert!(none(&findings, "WebSocket origins"), "{:#?}", findings.0);
}
