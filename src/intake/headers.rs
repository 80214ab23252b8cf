//! A tenant's header block, taken apart and made anew: what an app and CloudEvents set goes on, as
//! it was, and of the server's own names the message id alone, as the tenant's. The others are
//! commands to BB's stream.
//!
//! A block that is malformed or larger than the bounds is an error, and its event is refused: to
//! leave out what cannot be carried, and acknowledge the rest, would be half a truth.

/// How every block begins.
const VERSION: &[u8] = b"NATS/1.0\r\n";

/// The name of the message id, in the only spelling that a stream knows.
const MESSAGE_ID: &[u8] = b"Nats-Msg-Id";

/// The beginning of the server's own names, in whatever case.
const RESERVED: &[u8] = b"nats-";

/// The header that a server adds to a message that comes from another account. To a block without an
/// empty line at its end it is glued, so that it stands in the last value.
const ADDED: &[u8] = b"Nats-Request-Info";

/// The most headers of one event.
pub(super) const MAX_HEADERS: usize = 64;

/// The most bytes of a block made anew.
pub(super) const MAX_HEADER_BYTES: usize = 16 << 10;

/// The most bytes of a message id.
pub(super) const MAX_MESSAGE_ID: usize = 256;

/// Why a header block is not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// It has another first line than `NATS/1.0`, which a status has, say.
    #[error("the header does not begin with the line NATS/1.0")]
    Version,
    /// It does not end in an empty line.
    #[error("the header does not end in an empty line")]
    Unterminated,
    /// A line without a colon.
    #[error("a header line has no colon")]
    NoColon,
    /// A name of other characters.
    #[error("a header's name has a character that names do not have")]
    Name,
    /// A value that is no printable UTF-8.
    #[error("a header's value is not printable UTF-8")]
    Value,
    /// More headers than are carried.
    #[error("more than {MAX_HEADERS} headers")]
    TooMany,
    /// More bytes than are carried.
    #[error("more than {MAX_HEADER_BYTES} bytes of headers")]
    TooLong,
    /// Several message ids, or one that is too long.
    #[error("more than one Nats-Msg-Id, or one of more than {MAX_MESSAGE_ID} bytes")]
    MessageId,
}

/// Writes the block that goes on into `out`, which is empty if there is nothing to say.
pub(crate) fn rebuild(block: &[u8], tenant: &str, out: &mut Vec<u8>) -> Result<(), HeaderFault> {
    out.clear();
    if block.is_empty() {
        return Ok(());
    }
    // What the server adds and what is left out has room beside what goes on.
    if block.len() > 2 * MAX_HEADER_BYTES {
        return Err(HeaderFault::TooLong);
    }
    let lines = block.strip_prefix(VERSION).ok_or(HeaderFault::Version)?;
    let mut lines = match lines {
        b"\r\n" => return Ok(()),
        lines => lines.strip_suffix(b"\r\n\r\n").ok_or(HeaderFault::Unterminated)?,
    };
    let (mut count, mut has_id) = (0, false);
    while !lines.is_empty() {
        let end = lines.windows(2).position(|pair| pair == b"\r\n");
        let (line, rest) = match end {
            Some(end) => (lines.get(..end), lines.get(end + 2..)),
            None => (Some(lines), None),
        };
        lines = rest.unwrap_or_default();
        let (name, value) = header(line.unwrap_or_default())?;
        count += 1;
        if count > MAX_HEADERS {
            return Err(HeaderFault::TooMany);
        }
        if out.is_empty() {
            out.extend_from_slice(VERSION);
        }
        if name == MESSAGE_ID {
            if has_id || value.len() > MAX_MESSAGE_ID {
                return Err(HeaderFault::MessageId);
            }
            has_id = true;
            // An empty one is none to the stream.
            if !value.is_empty() {
                append(out, name, &[tenant.as_bytes(), b":", value]);
            }
        } else if !is_reserved(name) {
            append(out, name, &[value]);
        }
        if out.len() > MAX_HEADER_BYTES {
            return Err(HeaderFault::TooLong);
        }
    }
    if out.len() <= VERSION.len() {
        out.clear();
    } else {
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

fn append(out: &mut Vec<u8>, name: &[u8], value: &[&[u8]]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    value.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// A line's name and its value without the blanks around it.
fn header(line: &[u8]) -> Result<(&[u8], &[u8]), HeaderFault> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or(HeaderFault::NoColon)?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(HeaderFault::Name);
    }
    let value = value.strip_prefix(b":").unwrap_or_default();
    if value.windows(ADDED.len()).any(|part| part == ADDED) {
        return Err(HeaderFault::Unterminated);
    }
    let text = std::str::from_utf8(value).map_err(|_| HeaderFault::Value)?;
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(HeaderFault::Value);
    }
    Ok((name, value.trim_ascii()))
}

/// A character of a token ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2)): what
/// clients of every language take in a header's name.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_reserved(name: &[u8]) -> bool {
    name.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rebuilt(block: &[u8]) -> Result<String, HeaderFault> {
        let mut out = b"left over".to_vec();
        rebuild(block, "42", &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_an_app_sets_goes_on_and_commands_do_not() {
        let block = "NATS/1.0\r\nce-id: a b\r\nX:1\r\nX: 2 \r\nNats-Msg-Id: order-1\r\n\
                     Nats-Rollup: all\r\nnats-expected-stream: X\r\nNATS-TTL: 1s\r\n\
                     Nats-Request-Info: {\"acc\":\"V\"}\r\nempty:\r\nName: Fünf \u{1f600}\r\n\r\n";
        let expected = "NATS/1.0\r\nce-id: a b\r\nX: 1\r\nX: 2\r\nNats-Msg-Id: 42:order-1\r\n\
                        empty: \r\nName: Fünf \u{1f600}\r\n\r\n";
        assert_eq!(rebuilt(block.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_a_server_glues_to_the_last_value_is_no_value() {
        let block = b"NATS/1.0\r\nX: aNats-Request-Info: {\"acc\":\"A\"}\r\n\r\n";
        assert_eq!(rebuilt(block), Err(HeaderFault::Unterminated));
    }

    #[test]
    fn nothing_to_say_is_no_block() {
        for block in [
            &b""[..],
            b"NATS/1.0\r\n\r\n",
            b"NATS/1.0\r\nNats-Rollup: all\r\n\r\n",
            b"NATS/1.0\r\nnats-msg-id: x\r\n\r\n",
            b"NATS/1.0\r\nNats-Msg-Id:  \r\n\r\n",
        ] {
            assert_eq!(rebuilt(block).unwrap(), "", "{block:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_reason() {
        for (block, fault) in [
            (&b"abc"[..], HeaderFault::Version),
            (b"NATS/1.0 abc\r\n\r\n", HeaderFault::Version),
            (b"NATS/1.0 503\r\n\r\n", HeaderFault::Version),
            (b"NATS/1.0\r\n", HeaderFault::Unterminated),
            (b"NATS/1.0\r\na: b", HeaderFault::Unterminated),
            (b"NATS/1.0\r\na: b\r\n", HeaderFault::Unterminated),
            (b"NATS/1.0\r\na\r\n\r\n", HeaderFault::NoColon),
            (b"NATS/1.0\r\na: b\r\n\r\nc: d\r\n\r\n", HeaderFault::NoColon),
            (b"NATS/1.0\r\na b: c\r\n\r\n", HeaderFault::Name),
            (b"NATS/1.0\r\n: c\r\n\r\n", HeaderFault::Name),
            (b"NATS/1.0\r\na: b\r\n c: d\r\n\r\n", HeaderFault::Name),
            (b"NATS/1.0\r\na\xff: c\r\n\r\n", HeaderFault::Name),
            (b"NATS/1.0\r\na: \xff\r\n\r\n", HeaderFault::Value),
            (b"NATS/1.0\r\na: b\nc: d\r\n\r\n", HeaderFault::Value),
            (b"NATS/1.0\r\na: b\rc\r\n\r\n", HeaderFault::Value),
            (b"NATS/1.0\r\na: \0\r\n\r\n", HeaderFault::Value),
            (b"NATS/1.0\r\nNats-Msg-Id: a\r\nNats-Msg-Id: b\r\n\r\n", HeaderFault::MessageId),
        ] {
            assert_eq!(rebuilt(block), Err(fault), "{}", String::from_utf8_lossy(block));
        }
        let long = |name: &str, bytes| format!("NATS/1.0\r\n{name}: {}\r\n\r\n", "x".repeat(bytes));
        assert!(rebuilt(long("Nats-Msg-Id", MAX_MESSAGE_ID).as_bytes()).is_ok());
        let fault = rebuilt(long("Nats-Msg-Id", MAX_MESSAGE_ID + 1).as_bytes());
        assert_eq!(fault, Err(HeaderFault::MessageId));
        assert!(rebuilt(long("a", MAX_HEADER_BYTES - 100).as_bytes()).is_ok());
        assert_eq!(rebuilt(long("a", MAX_HEADER_BYTES).as_bytes()), Err(HeaderFault::TooLong));
        let many = |count| format!("NATS/1.0\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(rebuilt(many(MAX_HEADERS).as_bytes()).is_ok());
        assert_eq!(rebuilt(many(MAX_HEADERS + 1).as_bytes()), Err(HeaderFault::TooMany));
    }

    proptest! {
        /// Whatever a tenant sends, what goes on is well-formed, bounded, and commands nothing.
        #[test]
        fn what_goes_on_is_sound(
            lines in proptest::collection::vec(
                prop_oneof![
                    any::<Vec<u8>>(),
                    "[A-Za-z-]{1,12}: ?[ -~]{0,20}".prop_map(String::into_bytes),
                    "(?i)nats-[a-z-]{1,12}: ?[ -~]{0,20}".prop_map(String::into_bytes),
                ],
                0..6,
            ),
            cut in 0_usize..4,
        ) {
            let mut block = b"NATS/1.0\r\n".to_vec();
            for line in lines {
                block.extend_from_slice(&line);
                block.extend_from_slice(b"\r\n");
            }
            block.extend_from_slice(b"\r\n");
            block.truncate(block.len() - cut);
            if let Ok(out) = rebuilt(&block)
                && !out.is_empty()
            {
                prop_assert!(out.len() <= MAX_HEADER_BYTES + 2);
                let lines = out.strip_prefix("NATS/1.0\r\n").and_then(|it| it.strip_suffix("\r\n\r\n"));
                for line in lines.expect("a whole block").split("\r\n") {
                    let (name, value) = line.split_once(": ").expect("a colon");
                    prop_assert!(name.bytes().all(is_token));
                    prop_assert!(!value.contains(['\r', '\n', '\0']));
                    if name.to_ascii_lowercase().starts_with("nats-") {
                        prop_assert!(name == "Nats-Msg-Id" && value.starts_with("42:"));
                    }
                    // The client library of BB's readers takes it.
                    prop_assert!(name.parse::<async_nats::HeaderName>().is_ok());
                    prop_assert!(value.parse::<async_nats::HeaderValue>().is_ok());
                }
            }
        }
    }
}
