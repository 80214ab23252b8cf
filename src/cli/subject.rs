//! Subject lists on the command line, checked before they are stored: one bad subject would make
//! the server reject the whole login.

/// The longest subject that is taken.
const MAX_BYTES: usize = 512;

/// Checks a subject with or without wildcards.
pub(super) fn check(subject: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("`{subject}` is no subject: {why}"));
    if subject.is_empty() {
        return wrong("it is empty");
    }
    if subject.len() > MAX_BYTES {
        return wrong("it is longer than 512 bytes");
    }
    if subject.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return wrong("it has a space or a control character");
    }
    let tokens: Vec<&str> = subject.split('.').collect();
    let last = tokens.len().saturating_sub(1);
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "" => return wrong("a token between its dots is empty"),
            "*" => {}
            ">" if at == last => {}
            ">" => return wrong("`>` stands only at the end"),
            token if token.contains(['*', '>']) => {
                return wrong("a wildcard is a token of its own, such as orders.* or orders.>");
            }
            _ => {}
        }
    }
    Ok(subject.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects() {
        for subject in ["a", "orders.*", "orders.>", "*.b.>", ">", "$KV.bucket.>", "_INBOX.é"] {
            assert!(check(subject).is_ok(), "{subject}");
        }
        for subject in ["", ".", "a.", ".a", "a..b", "a.>.b", "a.b*", "a b", "a\tb", "a.>x"] {
            assert!(check(subject).is_err(), "{subject}");
        }
        assert!(check(&"a".repeat(513)).is_err());
    }
}
