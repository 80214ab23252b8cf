//! Secrets on stdin: passwords and tokens, one line.

use std::io::{BufRead, BufReader};

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use super::Usage;
use crate::admin::Password;

/// A JWT may be longer than any password, and one that is too long is to be told so.
const MAX_CREDENTIAL_BYTES: usize = 64 << 10;

/// The first line of stdin.
pub(super) fn password_from_stdin() -> anyhow::Result<Password> {
    read_password(std::io::stdin().lock())
}

/// The only line of stdin, as a password or token that is only tried, and how it ended.
pub(super) fn credential_from_stdin() -> anyhow::Result<(Zeroizing<String>, &'static str)> {
    read_credential(std::io::stdin().lock())
}

fn read_credential(input: impl std::io::Read) -> anyhow::Result<(Zeroizing<String>, &'static str)> {
    let mut input = BufReader::with_capacity(2 * MAX_CREDENTIAL_BYTES, input);
    let line = read_line(&mut input, MAX_CREDENTIAL_BYTES, "password or token")?;
    // What came with the line: nobody waits for more.
    if input.buffer().iter().any(|byte| !b"\r\n".contains(byte)) {
        bail!(Usage(
            "stdin has more than one line, and a password or token is one; write nothing else there"
                .to_owned()
        ));
    }
    Ok(line)
}

fn read_password(input: impl std::io::Read) -> anyhow::Result<Password> {
    let (line, _) = read_line(BufReader::new(input), Password::MAX_BYTES, "password")?;
    let refused = |problem| Usage(format!("the password on stdin {problem}"));
    Ok(Password::new(&line).map_err(refused)?)
}

fn read_line(
    input: impl BufRead,
    most: usize,
    what: &str,
) -> anyhow::Result<(Zeroizing<String>, &'static str)> {
    let mut line = Zeroizing::new(String::with_capacity(most + 2));
    let limit = u64::try_from(most)? + 2;
    input
        .take(limit)
        .read_line(&mut line)
        .with_context(|| format!("cannot read a {what} from stdin"))?;
    let password = Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned());
    let end = ["\r\n", "\n"].into_iter().find(|end| line.ends_with(end)).unwrap_or_default();
    if password.is_empty() {
        bail!(Usage(format!("the {what} on stdin is empty; write it there as one line")));
    }
    if password.len() > most {
        bail!(Usage(format!("the {what} on stdin has more than {most} bytes")));
    }
    Ok((password, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_stdin() {
        let read = |text: &str| read_password(text.as_bytes()).map(|it| it.expose().to_owned());
        assert_eq!(read("secret\nmore\n").unwrap(), "secret");
        assert_eq!(read(" with spaces \r\n").unwrap(), " with spaces ");
        assert_eq!(read("no newline").unwrap(), "no newline");
        for (text, ended) in [("a", ""), ("a\n", "\n"), ("a\r\nb\n", "\r\n")] {
            let (line, end) = read_line(text.as_bytes(), 8, "token").unwrap();
            assert_eq!((line.as_str(), end), ("a", ended));
        }
        for text in ["a", "a\n", "a\r\n\r\n"] {
            assert_eq!(read_credential(text.as_bytes()).unwrap().0.as_str(), "a", "{text:?}");
        }
        for text in ["a\nb", "a\r\nb\n", "a\n\nb\n"] {
            assert!(read_credential(text.as_bytes()).unwrap_err().is::<Usage>(), "{text:?}");
        }
        for text in ["", "\n", "\r\n", &"x".repeat(2_000)] {
            assert!(read(text).unwrap_err().is::<Usage>());
        }
    }
}
