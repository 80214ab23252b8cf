//! The NATS client protocol as bytes: what a server sends, read one frame at a time, and what a
//! client says, written into a buffer. A message's header block stays what it is, bytes of whoever
//! sent it: nothing in one can end the connection.

use std::io::Write as _;

/// No line of a server is anywhere near this long; INFO with the addresses of a large cluster is the
/// longest.
const MAX_LINE: usize = 64 << 10;

/// The most that nats-server lets through, and what it adds itself.
const MAX_MESSAGE: usize = (64 << 20) + (64 << 10);

/// What no server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// A line without an end.
    #[error("a line of more than {MAX_LINE} bytes")]
    LongLine,
    /// A line of no known kind, or with other parts than its kind has.
    #[error("a line that is none of the protocol's")]
    Malformed,
    /// A message for a subscription that was never made.
    #[error("a message for no subscription")]
    NoSubscription,
    /// A message that no server lets through.
    #[error("a message of more than {MAX_MESSAGE} bytes")]
    LongMessage,
}

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// What the server says of itself, in JSON.
    Info(&'a [u8]),
    /// A message for a subscription.
    Message(Message<'a>),
    /// It wants to know whether we are there.
    Ping,
    /// It has read everything up to our PING.
    Pong,
    /// What it was sent is well-formed.
    Ok,
    /// What it did not take, in words.
    Error(&'a [u8]),
}

/// A message for the subscription `sid`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// As it is called on this side; the sender may have chosen it.
    pub(crate) subject: &'a [u8],
    /// The subscription that was matched.
    pub(crate) sid: u64,
    /// Where an answer is awaited; the sender may have chosen it.
    pub(crate) reply: Option<&'a [u8]>,
    /// The header block, the sender's bytes; empty if there is none.
    pub(crate) header: &'a [u8],
    /// Everything behind it.
    pub(crate) body: &'a [u8],
}

/// The first frame of `input` and how long it is; `None` while its end is missing. A message's
/// subscription has to be one that `knows` before anything behind its line is taken for its bytes.
pub(crate) fn parse(
    input: &[u8],
    knows: impl Fn(u64) -> bool,
) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    let Some(end) = input.iter().take(MAX_LINE).position(|&byte| byte == b'\n') else {
        return if input.len() < MAX_LINE { Ok(None) } else { Err(WireError::LongLine) };
    };
    let (line, behind) = input.split_at(end + 1);
    let line = line.strip_suffix(b"\r\n").ok_or(WireError::Malformed)?;
    let word = line.iter().position(|&byte| is_blank(byte)).unwrap_or(line.len());
    let (word, rest) = line.split_at(word);
    let frame = match word {
        b"MSG" | b"HMSG" => {
            let has_header = word == b"HMSG";
            return Ok(message(rest, behind, has_header, knows)?
                .map(|(message, length)| (Frame::Message(message), end + 1 + length)));
        }
        b"PING" => Frame::Ping,
        b"PONG" => Frame::Pong,
        b"+OK" => Frame::Ok,
        b"-ERR" => Frame::Error(rest.trim_ascii()),
        b"INFO" => Frame::Info(rest.trim_ascii()),
        _ => return Err(WireError::Malformed),
    };
    Ok(Some((frame, end + 1)))
}

/// The message whose line says `rest` and whose bytes are next, and how many these are.
fn message<'a>(
    rest: &'a [u8],
    behind: &'a [u8],
    has_header: bool,
    knows: impl Fn(u64) -> bool,
) -> Result<Option<(Message<'a>, usize)>, WireError> {
    let mut parts = rest.split(|&byte| is_blank(byte)).filter(|part| !part.is_empty());
    let mut all = [&b""[..]; 5];
    let mut count = 0;
    for part in parts.by_ref() {
        *all.get_mut(count).ok_or(WireError::Malformed)? = part;
        count += 1;
    }
    let (subject, sid, reply, header, total) = match (has_header, count, all) {
        (false, 3, [subject, sid, total, ..]) => (subject, sid, None, &b"0"[..], total),
        (false, 4, [subject, sid, reply, total, _]) => {
            (subject, sid, Some(reply), &b"0"[..], total)
        }
        (true, 4, [subject, sid, header, total, _]) => (subject, sid, None, header, total),
        (true, 5, [subject, sid, reply, header, total]) => {
            (subject, sid, Some(reply), header, total)
        }
        _ => return Err(WireError::Malformed),
    };
    let sid = number(sid)?;
    if !knows(sid) {
        return Err(WireError::NoSubscription);
    }
    let header = usize::try_from(number(header)?).map_err(|_| WireError::Malformed)?;
    let total = usize::try_from(number(total)?).map_err(|_| WireError::LongMessage)?;
    if total > MAX_MESSAGE {
        return Err(WireError::LongMessage);
    }
    let Some((bytes, end)) = behind.split_at_checked(total) else { return Ok(None) };
    let (header, body) = bytes.split_at_checked(header).ok_or(WireError::Malformed)?;
    match end {
        [b'\r', b'\n', ..] => Ok(Some((Message { subject, sid, reply, header, body }, total + 2))),
        [] | [b'\r'] => Ok(None),
        _ => Err(WireError::Malformed),
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn number(digits: &[u8]) -> Result<u64, WireError> {
    if digits.is_empty() || digits.len() > 20 {
        return Err(WireError::Malformed);
    }
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'));
        let next =
            value.checked_mul(10).zip(digit).and_then(|(value, digit)| value.checked_add(digit));
        next.ok_or(WireError::Malformed)
    })
}

/// Subscribes to `subject`, in a queue group if there is one.
pub(crate) fn subscribe(out: &mut Vec<u8>, subject: &str, group: Option<&str>, sid: u64) {
    let group = group.map(|group| format!("{group} ")).unwrap_or_default();
    let _ = write!(out, "SUB {subject} {group}{sid}\r\n");
}

/// Ends a subscription.
pub(crate) fn unsubscribe(out: &mut Vec<u8>, sid: u64) {
    let _ = write!(out, "UNSUB {sid}\r\n");
}

/// Publishes; `block` is a header block of `header` bytes and the body behind it, in two parts.
pub(crate) fn publish(
    out: &mut Vec<u8>,
    subject: &[&[u8]],
    reply: Option<std::fmt::Arguments<'_>>,
    header: &[u8],
    body: &[u8],
) {
    out.extend_from_slice(if header.is_empty() { b"PUB " } else { b"HPUB " });
    subject.iter().for_each(|part| out.extend_from_slice(part));
    out.push(b' ');
    // Writing into memory does not fail.
    if let Some(reply) = reply {
        let _ = write!(out, "{reply} ");
    }
    if !header.is_empty() {
        let _ = write!(out, "{} ", header.len());
    }
    let _ = write!(out, "{}\r\n", header.len() + body.len());
    out.extend_from_slice(header);
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, WireError> {
        super::parse(input, |sid| sid != 404)
    }

    /// All frames of `input`, in words, and what is left of it.
    fn frames(mut input: &[u8]) -> Result<(Vec<String>, usize), WireError> {
        let mut frames = Vec::new();
        while let Some((frame, length)) = parse(input)? {
            frames.push(format!("{frame:?}"));
            input = &input[length..];
        }
        Ok((frames, input.len()))
    }

    #[test]
    fn messages_with_and_without_header_and_reply() {
        let message = |input: &'static [u8]| match parse(input) {
            Ok(Some((Frame::Message(message), length))) if length == input.len() => message,
            other => panic!("{other:?}"),
        };
        let plain = Message { subject: b"a.b", sid: 7, reply: None, header: b"", body: b"hello" };
        assert_eq!(message(b"MSG a.b 7 5\r\nhello\r\n"), plain);
        assert_eq!(message(b"MSG  a.b\t7  5\r\nhello\r\n"), plain);
        assert_eq!(
            message(b"MSG a.b 7 _R_.x 5\r\nhello\r\n"),
            Message { reply: Some(b"_R_.x"), ..plain }
        );
        assert_eq!(
            message(b"HMSG a.b 7 3 8\r\n\xff\0\nhello\r\n"),
            Message { subject: b"a.b", sid: 7, reply: None, header: b"\xff\0\n", body: b"hello" }
        );
        assert_eq!(
            message(b"HMSG a.b 18446744073709551615 r 0 2\r\n\r\n\r\n"),
            Message {
                subject: b"a.b",
                sid: u64::MAX,
                reply: Some(b"r"),
                header: b"",
                body: b"\r\n"
            }
        );
    }

    #[test]
    fn the_other_lines() {
        let (seen, left) =
            frames(b"INFO {\"nonce\":\"x\"}\r\nPING\r\nPONG\r\n+OK\r\n-ERR 'Slow Consumer'\r\nPIN")
                .unwrap();
        assert_eq!(seen.len(), 5);
        assert_eq!(left, 3);
        assert_eq!(parse(b"-ERR 'x'\r\n"), Ok(Some((Frame::Error(b"'x'"), 10))));
        assert_eq!(parse(b"INFO {}\r\n"), Ok(Some((Frame::Info(b"{}"), 9))));
    }

    #[test]
    fn what_is_no_frame_is_an_error_and_no_panic() {
        for input in [
            &b"\r\n"[..],
            b"PING\n",
            b"ping\r\n",
            b"MSG\r\n",
            b"MSG a 1\r\n",
            b"MSG a b c d e f\r\n",
            b"MSG a x 1\r\n",
            b"MSG a 1 -1\r\n",
            b"MSG a 1 1\r\nxx\r\n",
            b"MSG a 18446744073709551616 0\r\n",
            b"HMSG a 1 5 4\r\nabcd\r\n",
            b"HMSG a 1 4\r\n",
            b"RMSG x 1\r\n",
        ] {
            assert_eq!(parse(input), Err(WireError::Malformed), "{input:?}");
        }
        assert_eq!(parse(b"MSG a 1 99999999999\r\n"), Err(WireError::LongMessage));
        // What follows is not waited for.
        assert_eq!(parse(b"HMSG a 404 0 60000000\r\n"), Err(WireError::NoSubscription));
        assert_eq!(parse(&vec![b'x'; MAX_LINE]), Err(WireError::LongLine));
        assert_eq!(parse(&vec![b'x'; MAX_LINE - 1]), Ok(None));
    }

    #[test]
    fn what_is_written() {
        let mut out = Vec::new();
        subscribe(&mut out, "own.42.Events", Some("group"), 7);
        unsubscribe(&mut out, 7);
        publish(&mut out, &[b"bb.", b"42"], Some(format_args!("r.1")), b"NATS/1.0\r\n\r\n", b"x");
        publish(&mut out, &[b"_R_.a"], None, b"", b"yes");
        let expected = "SUB own.42.Events group 7\r\nUNSUB 7\r\n\
                        HPUB bb.42 r.1 12 13\r\nNATS/1.0\r\n\r\nx\r\nPUB _R_.a 3\r\nyes\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    /// A frame, now and then with some of its bytes changed.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let frame =
            (any::<Vec<u8>>(), any::<Vec<u8>>(), any::<u64>()).prop_map(|(header, body, sid)| {
                let line =
                    format!("HMSG s {sid} r {} {}\r\n", header.len(), header.len() + body.len());
                [line.as_bytes(), &header, &body, b"\r\n"].concat()
            });
        prop_oneof![
            4 => frame,
            1 => Just(b"PING\r\n".to_vec()),
            1 => Just(b"-ERR 'x'\r\n".to_vec()),
            1 => any::<Vec<u8>>(),
        ]
    }

    proptest! {
        /// However the network cuts it into pieces, the same frames are read, and nothing panics.
        #[test]
        fn cuts_change_nothing(
            pieces in proptest::collection::vec(piece(), 0..8),
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
            step in 1_usize..40,
        ) {
            let mut input = pieces.concat();
            for (at, byte) in flips {
                if !input.is_empty() {
                    let at = at.index(input.len());
                    input[at] = byte;
                }
            }
            let whole = frames(&input);
            let (mut buffer, mut seen) = (Vec::new(), Vec::new());
            let mut error = None;
            'reading: for part in input.chunks(step) {
                buffer.extend_from_slice(part);
                loop {
                    match parse(&buffer) {
                        Ok(Some((frame, length))) => {
                            seen.push(format!("{frame:?}"));
                            buffer.drain(..length);
                        }
                        Ok(None) => break,
                        Err(found) => {
                            error = Some(found);
                            break 'reading;
                        }
                    }
                }
            }
            match (whole, error) {
                (Ok((frames, left)), None) => {
                    prop_assert_eq!(frames, seen);
                    prop_assert_eq!(left, buffer.len());
                }
                (Err(expected), Some(found)) => prop_assert_eq!(expected, found),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
