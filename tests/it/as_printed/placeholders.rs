//! What differs from run to run, and what stands for it in README.md: passwords, tokens and their
//! ids, accounts, times, durations, nats-server's version, and the ports and folders of the test.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;

const PASSWORDS: [&str; 3] =
    ["xK9mN2pQ7rT4wY6zB1cD5fGh", "Vw3tLq8Zs-Ry0PbJ6nHk_4Xa", "e7UoC2_vMd9iTg5SfA1lWx-8"];
const TOKEN: &str = "nct_nu4mjN4aYgmjICZw2zdpfegoQUpC4SV002r03t";
const TOKEN_ID: &str = "39ec7347fbea";
const ACCOUNT: &str = "ACL7UCVHDO2HWWFL6POKQ23CIEP2CXVVNE55UEADUVGDDZFVZ2WMT36S";
const DURATION: &str = "11.8";

/// When README's tenant begins its life.
const BEGIN: &str = "2026-04-05T17:31:00Z";

/// Times are told as far from the beginning as they are, in steps of this.
const STEP: Duration = Duration::from_secs(15 * 60);

/// What was seen, and what stands for it.
#[derive(Debug)]
pub(super) struct Placeholders {
    begun: Timestamp,
    known: Vec<(String, &'static str)>,
}

impl Placeholders {
    /// Begins with what is known from the start.
    pub(super) fn new(known: &[(String, &'static str)]) -> Self {
        Self { begun: Timestamp::now(), known: known.to_vec() }
    }

    /// Replaces everything that differs.
    pub(super) fn put(&mut self, output: &str) -> String {
        self.learn(output);
        let mut text = output.to_owned();
        for (seen, placeholder) in &self.known {
            text = text.replace(seen, placeholder);
        }
        text = replace(&text, time, |seen| self.time(seen));
        replace(&text, milliseconds, |_| DURATION.to_owned())
    }

    /// A command with what stands for something replaced by it.
    pub(super) fn real(&self, command: &str) -> String {
        self.known
            .iter()
            .fold(command.to_owned(), |text, (seen, placeholder)| text.replace(placeholder, seen))
    }

    /// The password that was printed last.
    pub(super) fn last_password(&self) -> String {
        self.last(|placeholder| PASSWORDS.contains(&placeholder))
    }

    /// The account that was printed.
    pub(super) fn account(&self) -> String {
        self.last(|placeholder| placeholder == ACCOUNT)
    }

    /// The token that was printed.
    pub(super) fn last_token(&self) -> String {
        self.last(|placeholder| placeholder == TOKEN)
    }

    /// What stands for the token's id.
    pub(super) fn id(&self) -> &'static str {
        self.last(|placeholder| placeholder == TOKEN_ID);
        TOKEN_ID
    }

    fn last(&self, of: impl Fn(&str) -> bool) -> String {
        let found = self.known.iter().rev().find(|(_, placeholder)| of(placeholder));
        found.expect("it was printed").0.clone()
    }

    fn learn(&mut self, output: &str) {
        for line in output.lines() {
            if let Some(password) = line.strip_prefix("  password  ") {
                let known = |(_, placeholder): &&(String, &str)| PASSWORDS.contains(placeholder);
                let nth = self.known.iter().filter(known).count();
                self.add(password, PASSWORDS[nth]);
            }
        }
        for word in output.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
            if word.starts_with("nct_") {
                self.add(word, TOKEN);
            } else if word.len() == ACCOUNT.len() && word.starts_with('A') {
                self.add(word, ACCOUNT);
            } else if word.len() == TOKEN_ID.len() && word.bytes().all(|b| b.is_ascii_hexdigit()) {
                self.add(word, TOKEN_ID);
            }
        }
    }

    fn add(&mut self, seen: &str, placeholder: &'static str) {
        if self.known.iter().any(|(known, _)| known == seen) {
            return;
        }
        assert!(self.known.iter().all(|(_, other)| *other != placeholder), "two {placeholder}");
        assert_eq!(seen.len(), placeholder.len(), "tables are as wide as what is in them");
        self.known.push((seen.to_owned(), placeholder));
    }

    fn time(&self, seen: &str) -> String {
        let seen: Timestamp = seen.parse().expect("a time");
        let step = STEP.as_secs_f64();
        let steps = (seen.duration_since(self.begun).as_secs_f64() / step).round();
        let begin: Timestamp = BEGIN.parse().expect("a time");
        (begin + Duration::from_secs_f64(steps * step)).to_string()
    }
}

/// Replaces each place that `find` finds in what is left of the text.
fn replace(
    text: &str,
    find: impl Fn(&str) -> Option<Range<usize>>,
    with: impl Fn(&str) -> String,
) -> String {
    let (mut done, mut left) = (String::new(), text);
    while let Some(range) = find(left) {
        done.push_str(&left[..range.start]);
        done.push_str(&with(&left[range.clone()]));
        left = &left[range.end..];
    }
    done + left
}

/// The first time in RFC 3339, to the second, in UTC.
fn time(text: &str) -> Option<Range<usize>> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00Z";
    let at = text.as_bytes().windows(SHAPE.len()).position(|window| {
        window.iter().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            _ => byte == shape,
        })
    })?;
    Some(at..at + SHAPE.len())
}

/// The first number of milliseconds.
fn milliseconds(text: &str) -> Option<Range<usize>> {
    let end = text
        .match_indices(" ms")
        .map(|(at, _)| at)
        .find(|&at| text[..at].ends_with(|letter: char| letter.is_ascii_digit()))?;
    let digits =
        text[..end].trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    Some(digits.len()..end)
}

#[test]
fn what_differs_is_replaced() {
    let mut placeholders = Placeholders::new(&[("127.0.0.1:23456".to_owned(), "127.0.0.1:4222")]);
    let begun = placeholders.begun;
    let later = begun + Duration::from_secs(3);
    let month = begun + Duration::from_secs(30 * 24 * 3600);
    let seconds = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let output = format!(
        "  password  TTq_Ds0L5iz2JzeDKvimhgHW\nnats://a:TTq_Ds0L5iz2JzeDKvimhgHW@127.0.0.1:23456\n\
         made {}, ends {} (7 ms, 13.25 ms)\n 0123456789ab  shop",
        seconds(later),
        seconds(month),
    );
    assert_eq!(
        placeholders.put(&output),
        format!(
            "  password  {0}\nnats://a:{0}@127.0.0.1:4222\nmade 2026-04-05T17:31:00Z, ends \
             2026-05-05T17:31:00Z (11.8 ms, 11.8 ms)\n 39ec7347fbea  shop",
            PASSWORDS[0]
        )
    );
    assert_eq!(placeholders.real("remove 39ec7347fbea"), "remove 0123456789ab");
    assert_eq!(placeholders.last_password(), "TTq_Ds0L5iz2JzeDKvimhgHW");
}
