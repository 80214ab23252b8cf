//! What an error says together with what caused it: the outermost text alone often says no more than
//! that something went wrong.

/// An error that nobody tells apart from others: it is said, and its causes with it.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A text of somebody's within a sentence: marked, in one line, and without what would move a terminal's cursor.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("`");
    for c in text.chars() {
        match c {
            '`' => quoted.push('\''),
            '"' | '\'' | '\\' => quoted.push(c),
            _ => quoted.extend(c.escape_debug()),
        }
    }
    quoted.push('`');
    quoted
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

/// What every error about the other side's certificate begins with.
const CERTIFICATE: &str = "invalid peer certificate: ";

/// What is said of bytes that are none of TLS.
const NO_TLS: &str = "received corrupt message of type InvalidContentType";

/// The text of an error, in which a server's certificate that is not taken is told in words, with what to do:
/// `trust` is where the authorities are named that servers are trusted by.
pub(crate) fn with_tls_remedy(text: String, trust: &str) -> String {
    let Some((before, flaw)) = text.split_once(CERTIFICATE) else {
        return match text.split_once(NO_TLS) {
            Some((before, _)) => format!(
                "{before}the other side does not speak TLS on this port: name the port that does, or write the \
                 address without TLS where that is meant (http://, nats://)"
            ),
            None => text,
        };
    };
    let told = if flaw.contains("CaUsedAsEndEntity") {
        format!(
            "the server's certificate is that of an authority, which no server may show (`openssl req -x509` \
             makes such a one): have the authority sign another one for the server, and keep its own in {trust}"
        )
    } else if flaw.starts_with("UnknownIssuer") || flaw.starts_with("BadSignature") {
        format!(
            "nobody who is trusted here vouches for the server's certificate: name the certificate of its \
             authority in {trust}"
        )
    } else if flaw.starts_with("certificate expired") || flaw.starts_with("Expired") {
        "the server's certificate has ended: renew it, or set the clock of this machine".to_owned()
    } else if flaw.starts_with("certificate not valid yet") || flaw.starts_with("NotValidYet") {
        "the server's certificate does not hold yet: set the clock of this machine, or the server's when it \
         makes certificates"
            .to_owned()
    } else if flaw.starts_with("certificate not valid for name") {
        let names: Vec<_> = flaw.split('"').skip(1).step_by(2).map(quoted).collect();
        let (asked, has) =
            names.split_first().map_or(("", &[][..]), |(asked, has)| (&**asked, has));
        let has = if has.is_empty() { "no host".to_owned() } else { has.join(" and ") };
        format!(
            "the server's certificate is not for {asked}, but for {has}: connect by a name that it has, or \
             make one with this name"
        )
    } else {
        format!("the server's certificate cannot be used ({flaw}): make another for the server")
    };
    format!("{before}{told}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_somebodys_is_marked_and_moves_no_cursor() {
        for (text, shown) in [
            ("alice", "`alice`"),
            ("a \"b\" 'c' \\", "`a \"b\" 'c' \\`"),
            ("` and", "`' and`"),
            ("a\n\u{1b}[2Jb", "`a\\n\\u{1b}[2Jb`"),
            ("é", "`é`"),
            ("e\u{301}", "`e\\u{301}`"),
        ] {
            assert_eq!(quoted(text), shown);
        }
    }

    /// Words that are not known keep what the library says. What it says of real servers is in
    /// `tests/it/untrusted.rs`.
    #[test]
    fn a_certificate_that_is_not_taken_is_told_with_what_to_do() {
        let told = |flaw: &str| with_tls_remedy(format!("TLS: {CERTIFICATE}{flaw}"), "ca_file");
        assert_eq!(
            told("Other(OtherError(Some))"),
            "TLS: the server's certificate cannot be used (Other(OtherError(Some))): make another for the server"
        );
        let name =
            "certificate not valid for name \"a\"; certificate is only valid for DnsName(\"b\")";
        assert!(told(name).contains("is not for `a`, but for `b`: "), "{}", told(name));
        let none =
            "certificate not valid for name \"a\"; certificate is not valid for any names (x)";
        assert!(told(none).contains("is not for `a`, but for no host: "), "{}", told(none));
        let plain = with_tls_remedy(format!("error: {NO_TLS}: more"), "ca_file");
        assert!(
            plain.starts_with("error: the other side does not speak TLS on this port"),
            "{plain}"
        );
        let others = "Connection refused (os error 111)".to_owned();
        assert_eq!(with_tls_remedy(others.clone(), "ca_file"), others);
    }
}
