//! The names in a certificate that can be a user's, as texts of four classes that no text is two
//! of: whoever may have one class certified for itself cannot pass for a name of another.

use std::fmt::Write as _;

use x509_parser::asn1_rs::{Any, Tag, ToDer as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Name;

/// The longest name that a row can hold, in characters.
const LONGEST: usize = 255;

/// So many names of a certificate are looked up at most: each costs a question to the database.
const MOST: usize = 32;

/// The attribute types that a subject names by letters: those of nats-server (Go's
/// `crypto/x509/pkix`) and the other two of RFC 4514, section 3. Other types are their OIDs, of which
/// the crate `x509-cert` writes some as names: no row would hold its texts.
const TYPES: [(&str, &str); 11] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.17", "POSTALCODE"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// A text that no certificate could ever be known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write an e-mail address, a DNS name (no wildcard), a URI with its scheme, or a subject such \
     as CN=alice,O=Shop, with no blanks between its parts, in the order in which `openssl x509 \
     -noout -subject -nameopt RFC2253` prints it, with the types C, CN, DC, L, O, OU, POSTALCODE, \
     SERIALNUMBER, ST, STREET and UID by name and others as OID=#hex"
)]
pub struct InvalidName;

/// Checks a text that is to be a user's certificate name.
pub fn check(text: &str) -> Result<(), InvalidName> {
    let legal =
        is_short(text) && (is_email(text) || is_dns(text) || is_uri(text) || is_subject(text));
    if legal { Ok(()) } else { Err(InvalidName) }
}

/// The names of a certificate in the order in which nats-server looks for them (`server/auth.go`):
/// e-mail addresses, DNS names, URIs, the subject. Those that are malformed, wildcards, or longer
/// than a row can hold are left out. `None` if the alternative names cannot be read.
pub(super) fn of(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let alternative = certificate.subject_alternative_name().ok()?;
    let alternative = alternative.map_or(&[][..], |extension| &extension.value.general_names);
    let emails = alternative.iter().filter_map(|name| match name {
        GeneralName::RFC822Name(text) => is_email(text).then(|| (*text).to_owned()),
        _ => None,
    });
    let hosts = alternative.iter().filter_map(|name| match name {
        GeneralName::DNSName(text) => is_dns(text).then(|| (*text).to_owned()),
        _ => None,
    });
    let uris = alternative.iter().filter_map(|name| match name {
        GeneralName::URI(text) => is_uri(text).then(|| (*text).to_owned()),
        _ => None,
    });
    let subject = subject(certificate.subject());
    let names = emails.chain(hosts).chain(uris).chain(subject);
    Some(names.filter(|name| is_short(name)).take(MOST).collect())
}

fn is_short(text: &str) -> bool {
    (1..=LONGEST).contains(&text.chars().count())
}

/// RFC 5321 without quoted local parts, and without `=`, which subjects have.
fn is_email(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+-/?^_`{|}~".contains(&byte);
    text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && local.bytes().all(legal) && is_dns(domain)
    })
}

fn is_dns(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !text.is_empty() && text.bytes().all(legal)
}

/// A scheme and something more (RFC 3986), printable.
fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(legal)
            && !rest.is_empty()
            && rest.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

/// The subject as RFC 4514 writes it: last part first, as nats-server does. `None` if it is empty,
/// has control characters, or a type that cannot be read.
fn subject(name: &X509Name<'_>) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in name.iter_rdn() {
        let attributes: Option<Vec<String>> = part
            .iter()
            .map(|attribute| {
                let oid = attribute.attr_type().to_id_string();
                let known = TYPES.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name);
                if known.is_none() && !is_oid(&oid) {
                    return None;
                }
                let value = match known.and_then(|_| text(attribute.attr_value())) {
                    Some(text) => escape(text),
                    None => hex(attribute.attr_value())?,
                };
                Some(format!("{}={value}", known.unwrap_or(&oid)))
            })
            .collect();
        parts.push(attributes?.join("+"));
    }
    parts.reverse();
    let text = parts.join(",");
    (!text.is_empty() && !text.contains(char::is_control)).then_some(text)
}

fn text<'a>(value: &'a Any<'_>) -> Option<&'a str> {
    let is_text = [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String, Tag::NumericString]
        .contains(&value.tag());
    if is_text { std::str::from_utf8(value.data).ok() } else { None }
}

fn hex(value: &Any<'_>) -> Option<String> {
    let der = value.to_der_vec().ok()?;
    Some(format!("#{}", data_encoding::HEXLOWER.encode(&der)))
}

/// RFC 4514, section 2.4.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, character) in text.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (character == ' ' && (at == 0 || at == last))
            || (character == '#' && at == 0);
        if special {
            escaped.push('\\');
        }
        // Writing to a text does not fail.
        let _ = escaped.write_char(character);
    }
    escaped
}

/// Whether [`subject`] could have written this.
fn is_subject(text: &str) -> bool {
    if text.contains(char::is_control) {
        return false;
    }
    let mut attribute = String::new();
    let mut escaped = false;
    for character in text.chars() {
        if matches!(character, ',' | '+') && !escaped {
            if !is_attribute(&attribute) {
                return false;
            }
            attribute.clear();
        } else {
            attribute.push(character);
            escaped = character == '\\' && !escaped;
        }
    }
    is_attribute(&attribute)
}

fn is_attribute(text: &str) -> bool {
    let Some((kind, value)) = text.split_once('=') else { return false };
    let named = TYPES.iter().any(|(_, name)| *name == kind);
    match value.strip_prefix('#') {
        Some(hex) => {
            (named || is_oid(kind))
                && data_encoding::HEXLOWER.decode(hex.as_bytes()).is_ok_and(|der| !der.is_empty())
        }
        None => named && escape(&unescape(value)) == value,
    }
}

fn is_oid(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.contains('.') && text.split('.').all(number)
}

fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut escaped = false;
    for character in value.chars() {
        escaped = character == '\\' && !escaped;
        if !escaped {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMAILS: [&str; 3] = ["alice@example.com", "a+b.c@x", "o'neil@mail.example.com"];
    const HOSTS: [&str; 4] = ["app.example.com", "order-service", "_nats._tcp", "10.0.0.1"];
    const URIS: [&str; 4] =
        ["spiffe://example.com/shop/orders", "urn:uuid:f81d4fae", "mailto:a@b.c", "x:CN=alice"];
    const SUBJECTS: [&str; 8] = [
        "CN=alice",
        "CN=alice,OU=orders,O=Shop,C=DE",
        "CN=alice+UID=7,DC=example,DC=com",
        "CN=Müller \\, Söhne,O=a=b",
        "CN=\\ alice\\ ",
        "CN=\\#1,1.2.840.113549.1.9.1=#160161",
        "CN=alice@example.com",
        "CN=app.example.com",
    ];

    #[test]
    fn no_text_is_of_two_classes() {
        let classes: [fn(&str) -> bool; 4] = [is_email, is_dns, is_uri, is_subject];
        for (at, names) in [&EMAILS[..], &HOSTS, &URIS, &SUBJECTS].into_iter().enumerate() {
            for name in names {
                for (other, is_of) in classes.iter().enumerate() {
                    assert_eq!(is_of(name), at == other, "{name}");
                }
                check(name).unwrap();
            }
        }
    }

    proptest! {
        #[test]
        fn no_other_text_is_of_two_classes_either(
            text in "[a-zCNOU0-9@.=,:+#\\\\*/_-]{1,12}|(CN|a|1\\.2)[=:@.]\\PC{0,6}",
        ) {
            let classes: [fn(&str) -> bool; 4] = [is_email, is_dns, is_uri, is_subject];
            prop_assert!(classes.iter().filter(|is_of| is_of(&text)).count() <= 1, "{text}");
        }

        #[test]
        fn what_is_escaped_is_a_subject_again(value in "\\PC{0,20}") {
            let text = format!("CN={}", escape(&value));
            prop_assert!(is_subject(&text), "{text}");
            prop_assert_eq!(unescape(&escape(&value)), value);
        }

        #[test]
        fn two_subjects_are_two_texts(
            one in prop::collection::vec("[a,+=\\\\# ]{0,3}", 1..4),
            two in prop::collection::vec("[a,+=\\\\# ]{0,3}", 1..4),
        ) {
            let write = |values: &[String]| {
                values.iter().map(|it| format!("CN={}", escape(it))).collect::<Vec<_>>().join(",")
            };
            prop_assert_eq!(write(&one) == write(&two), one == two);
        }
    }

    #[test]
    fn what_no_certificate_can_be_known_by_is_told_apart() {
        for text in [
            "",
            "*.example.com",
            "alice@*.example.com",
            "*@example.com@",
            "a@b@c",
            "@example.com",
            "alice@",
            "alice smith",
            "al\u{1}ice",
            "a\nb",
            "://x",
            "1a:x",
            "http:",
            "=alice",
            "cn=alice",
            "CN=alice, O=Shop",
            "CN=alice,",
            ",CN=alice",
            "CN=a,b",
            "CN=\\alice",
            "CN=alice\\",
            "CN= alice",
            "CN=<alice>",
            "emailAddress=a@b.c",
            "1.2.3=alice",
            "CN=#ZZ",
            "CN=#",
            "CN=#16016",
            "1.2.3=#160161;",
            "C N=alice",
            "/CN=alice",
            "müller",
            "spiffe://exämple.com",
            &"a".repeat(256),
        ] {
            assert_eq!(check(text), Err(InvalidName), "{text:?}");
        }
        assert_eq!(check(&"a".repeat(255)), Ok(()));
    }
}
