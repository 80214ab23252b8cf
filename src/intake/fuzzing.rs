//! What a server may send to the intake, whatever it is: what the intake writes in return is
//! well-formed, and goes where events, answers and acknowledgements go.

use std::time::Instant;

use tokio::sync::oneshot;

use super::Settings;
use super::carrier::Carrier;
use super::wire::{self, Frame};
use crate::store::{Isolation, TenantId};

/// Reads frames of a connection in INTAKE, or in USERS if the first byte is `u`, where [names]
/// stand for what the server was told. The tenant `42` has an account of its own, `43` has none.
///
/// [names]: Carrier::names
pub(crate) fn read(input: &[u8]) {
    let Ok(mut carrier) = Carrier::new(Settings::default()) else { return };
    let now = Instant::now();
    let most = Settings::default().max_message;
    for isolation in [Isolation::Account, Isolation::Shared] {
        carrier.up(isolation, most);
    }
    for (id, isolation) in [("42", Isolation::Account), ("43", Isolation::Shared)] {
        let Ok(id) = id.parse() else { return };
        carrier.add(&id, isolation, oneshot::channel().0, now);
    }
    for isolation in [Isolation::Account, Isolation::Shared] {
        carrier.line(isolation).take(Vec::new());
    }
    let (isolation, input) = match input.strip_prefix(b"u") {
        Some(rest) => (Isolation::Shared, rest),
        None => (Isolation::Account, input),
    };
    let mut input = input.to_vec();
    for (name, meant) in carrier.names("42") {
        input = replaced(&input, name, meant.as_bytes());
    }
    let mut rest = input.as_slice();
    while let Ok(Some((frame, length))) = wire::parse(rest, |sid| carrier.knows(isolation, sid)) {
        carrier.take(isolation, frame, now);
        rest = rest.get(length..).unwrap_or_default();
    }
    carrier.bar(isolation, rest);
    carrier.tick(now);
    for isolation in [Isolation::Account, Isolation::Shared] {
        let written = carrier.line(isolation).take(Vec::new());
        sound(&written);
    }
}

fn replaced(mut input: &[u8], name: &[u8], meant: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    while let Some((first, rest)) = input.split_first() {
        match input.strip_prefix(name) {
            Some(rest) => {
                output.extend_from_slice(meant);
                input = rest;
            }
            None => {
                output.push(*first);
                input = rest;
            }
        }
    }
    output
}

/// What is written is read back as a server would.
fn sound(mut written: &[u8]) {
    while !written.is_empty() {
        let end = written.windows(2).position(|pair| pair == b"\r\n").expect("a line's end");
        let (line, rest) = written.split_at(end + 2);
        let line = std::str::from_utf8(line).expect("subjects are plain").trim_end();
        let words: Vec<&str> = line.split(' ').collect();
        written = match words.as_slice() {
            ["PONG" | "PING"] => rest,
            [kind @ ("PUB" | "HPUB"), subject, .., length] => {
                let sender = subject.strip_prefix("bb.").and_then(|it| it.strip_suffix(".Events"));
                let to = sender.is_some_and(|id| id.parse::<TenantId>().is_ok())
                    || subject.starts_with("_R_.")
                    || subject.starts_with("_INBOX_");
                assert!(to && !subject.contains(['*', '>']), "{line}");
                // Read back as a message with the same parts.
                let as_message =
                    format!("{}{subject} 1 ", if *kind == "PUB" { "MSG " } else { "HMSG " });
                let header = words.iter().rev().nth(1).filter(|_| *kind == "HPUB");
                let lengths = header.map(|it| format!("{it} ")).unwrap_or_default() + length;
                let frame = [format!("{as_message}{lengths}\r\n").as_bytes(), rest].concat();
                let Ok(Some((Frame::Message(message), used))) = wire::parse(&frame, |_| true)
                else {
                    panic!("{line}: no whole message");
                };
                assert!(message.header.is_empty() || message.header.ends_with(b"\r\n\r\n"));
                rest.get(used - (frame.len() - rest.len())..).expect("what follows")
            }
            _ => panic!("{line}"),
        };
    }
}
