//! One HTTP request at a time, over a connection of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// A status and a body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// GETs a path; `None` while nothing answers at the address.
pub(crate) fn get(address: &str, path: &str) -> Option<Answer> {
    request(address, "GET", path)
}

/// Makes a request with an empty body.
pub(crate) fn request(address: &str, method: &str, path: &str) -> Option<Answer> {
    send(address, method, path, "", "")
}

/// POSTs a form.
pub(crate) fn post_form(address: &str, path: &str, form: &str) -> Option<Answer> {
    let head = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
        form.len()
    );
    send(address, "POST", path, &head, form)
}

/// POSTs JSON, with a bearer token.
pub(crate) fn post_json(address: &str, path: &str, token: &str, body: &Value) -> Option<Answer> {
    let body = body.to_string();
    let head = format!(
        "Content-Type: application/json\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n",
        body.len()
    );
    send(address, "POST", path, &head, &body)
}

fn send(address: &str, method: &str, path: &str, more: &str, body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    // In this version a body is never sent in chunks.
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n{more}\r\n{body}");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}
