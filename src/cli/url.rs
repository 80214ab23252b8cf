//! Server addresses with a login in them, as every NATS client takes them.

/// `url` with the user and the password in front of its host.
pub(super) fn with_login(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    format!("{scheme}://{}:{}@{rest}", encode(user), encode(password))
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_is_encoded() {
        assert_eq!(
            with_login("nats://127.0.0.1:4222", "a@b.c", "p:w/é%"),
            "nats://a%40b.c:p%3Aw%2F%C3%A9%25@127.0.0.1:4222"
        );
        assert_eq!(with_login("wss://host/path", "u", "p"), "wss://u:p@host/path");
    }
}
