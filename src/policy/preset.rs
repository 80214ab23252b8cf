//! Presets: what a client needs to publish for one thing that people do with JetStream, as exact
//! subjects. The streams, consumers and buckets are those of the user's account.
//!
//! The subjects are those of nats-server's `server/jetstream_api.go`. Acknowledgements and flow
//! control have a form of nine and five tokens, and a newer one with the domain and a hash of the
//! account in front; the patterns are as long as these, so that none matches the other form, in
//! which another stream's name or number would stand in the same place.

use super::template::{Template, TemplateError};

/// A preset: how it is written, with the names in capitals, and what it grants to publish, where
/// `%1` and `%2` stand for these names. `P` is a subject, and all others are single tokens.
pub(crate) struct Preset {
    pub(crate) form: &'static str,
    pub(crate) subjects: &'static [&'static str],
}

/// All of them.
pub(crate) const PRESETS: [Preset; 7] = [
    Preset { form: "publish P to stream S", subjects: &["%1", "$JS.API.STREAM.INFO.%2"] },
    Preset {
        form: "consume stream S",
        subjects: &[
            "$JS.API.STREAM.INFO.%1",
            "$JS.API.CONSUMER.CREATE.%1",
            "$JS.API.CONSUMER.CREATE.%1.>",
            "$JS.API.CONSUMER.DURABLE.CREATE.%1.*",
            "$JS.API.CONSUMER.INFO.%1.*",
            "$JS.API.CONSUMER.DELETE.%1.*",
            "$JS.API.CONSUMER.MSG.NEXT.%1.*",
            "$JS.ACK.%1.*.*.*.*.*.*",
            "$JS.ACK.*.*.%1.*.*.*.*.*.>",
            "$JS.FC.%1.*.*",
            "$JS.FC.*.*.%1.*.*",
        ],
    },
    Preset {
        form: "consume stream S as C",
        subjects: &[
            "$JS.API.STREAM.INFO.%1",
            "$JS.API.CONSUMER.INFO.%1.%2",
            "$JS.API.CONSUMER.MSG.NEXT.%1.%2",
            "$JS.ACK.%1.%2.*.*.*.*.*",
            "$JS.ACK.*.*.%1.%2.*.*.*.*.>",
            "$JS.FC.%1.%2.*",
            "$JS.FC.*.*.%1.%2.*",
        ],
    },
    Preset {
        form: "read bucket B",
        subjects: &[
            "$JS.API.STREAM.INFO.KV_%1",
            "$JS.API.DIRECT.GET.KV_%1",
            "$JS.API.DIRECT.GET.KV_%1.>",
            "$JS.API.STREAM.MSG.GET.KV_%1",
            "$JS.API.CONSUMER.CREATE.KV_%1",
            "$JS.API.CONSUMER.CREATE.KV_%1.>",
            "$JS.API.CONSUMER.INFO.KV_%1.*",
            "$JS.API.CONSUMER.DELETE.KV_%1.*",
            "$JS.FC.KV_%1.*.*",
            "$JS.FC.*.*.KV_%1.*.*",
        ],
    },
    Preset { form: "write bucket B", subjects: &["$JS.API.STREAM.INFO.KV_%1", "$KV.%1.>"] },
    // nats-py looks the stream up by its subjects before it reads.
    Preset {
        form: "read objects B",
        subjects: &[
            "$JS.API.STREAM.NAMES",
            "$JS.API.STREAM.INFO.OBJ_%1",
            "$JS.API.DIRECT.GET.OBJ_%1",
            "$JS.API.DIRECT.GET.OBJ_%1.>",
            "$JS.API.STREAM.MSG.GET.OBJ_%1",
            "$JS.API.CONSUMER.CREATE.OBJ_%1",
            "$JS.API.CONSUMER.CREATE.OBJ_%1.>",
            "$JS.API.CONSUMER.INFO.OBJ_%1.*",
            "$JS.API.CONSUMER.DELETE.OBJ_%1.*",
            "$JS.FC.OBJ_%1.*.*",
            "$JS.FC.*.*.OBJ_%1.*.*",
        ],
    },
    // To write an object is to look for the one before, and to purge its parts.
    Preset {
        form: "write objects B",
        subjects: &[
            "$JS.API.STREAM.INFO.OBJ_%1",
            "$JS.API.DIRECT.GET.OBJ_%1.>",
            "$JS.API.STREAM.MSG.GET.OBJ_%1",
            "$JS.API.STREAM.PURGE.OBJ_%1",
            "$O.%1.C.>",
            "$O.%1.M.>",
        ],
    },
];

/// What stands for a subject in a form.
const SUBJECT: &str = "P";

/// What is wrong with a preset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PresetError {
    /// It reads like none of them.
    #[error("`{0}` is no preset")]
    Unknown(String),
    /// A name is no single token.
    #[error("`{0}` is not one name")]
    Name(String),
    /// A name is no template.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl PresetError {
    /// What to do.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Unknown(_) => format!("there are: {}", PRESETS.map(|it| it.form).join(", ")),
            Self::Name(_) => {
                "a stream, consumer or bucket has one name of A-Z, a-z, 0-9, _ and -, \
                              which may hold {{tenant.id}}, {{user.name}} or {{claims.NAME}}"
                    .to_owned()
            }
            Self::Template(error) => error.remedy().to_owned(),
        }
    }
}

/// The templates that a preset stands for.
pub(crate) fn parse(text: &str) -> Result<Vec<Template>, PresetError> {
    let words = words(text);
    for preset in PRESETS {
        let Some(names) = names(preset.form, &words) else { continue };
        for (letter, name) in &names {
            let template: Template = name.parse()?;
            if *letter != SUBJECT && !template.is_token() {
                return Err(PresetError::Name(name.clone()));
            }
        }
        let fill = |subject: &&str| {
            let numbered = names.iter().map(|(_, name)| name).zip(["%1", "%2"]);
            numbered.fold((*subject).to_owned(), |text, (name, number)| text.replace(number, name))
        };
        return preset.subjects.iter().map(fill).map(|text| Ok(text.parse()?)).collect();
    }
    Err(PresetError::Unknown(text.to_owned()))
}

/// The words of the text; a placeholder is within one, whatever blanks it holds.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut depth) = (String::new(), 0_usize);
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if !c.is_whitespace() {
            word.push(c);
        } else if depth == 0 && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What stands for the words in capitals, if the others are the same.
fn names<'f>(form: &'f str, words: &[String]) -> Option<Vec<(&'f str, String)>> {
    let form: Vec<&str> = form.split(' ').collect();
    if form.len() != words.len() {
        return None;
    }
    let mut names = Vec::new();
    for (want, word) in form.into_iter().zip(words) {
        if want.bytes().all(|byte| byte.is_ascii_uppercase()) {
            names.push((want, word.clone()));
        } else if want != word {
            return None;
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::authn::Principal;
    use crate::policy::subject::Pattern;
    use crate::store::{LoginRecord, TenantRecord, UserKind, UserRecord};

    fn subjects(text: &str) -> Vec<Pattern> {
        let record = LoginRecord {
            tenant: TenantRecord::new("42".parse().unwrap()),
            user: UserRecord::new("alice", UserKind::Bb),
        };
        let principal = Principal::new(Arc::new(record), "password", None, 0).unwrap();
        let mut subjects = Vec::new();
        for template in parse(text).unwrap() {
            template.expand(&principal, |pattern| subjects.push(pattern)).unwrap();
        }
        subjects
    }

    fn grants(text: &str, subject: &str) -> bool {
        subjects(text).iter().any(|pattern| pattern.matches(subject))
    }

    #[test]
    fn names_may_hold_placeholders() {
        let found = subjects("write  bucket cfg-{{ user.name }}");
        assert_eq!(
            found.iter().map(Pattern::as_str).collect::<Vec<_>>(),
            ["$JS.API.STREAM.INFO.KV_cfg-alice", "$KV.cfg-alice.>"]
        );
    }

    #[test]
    fn what_is_no_preset() {
        for (text, wanted) in [
            ("consume", "no preset"),
            ("consume stream", "no preset"),
            ("consume stream A B", "no preset"),
            ("Read bucket a", "no preset"),
            ("read bucket a.b", "not one name"),
            ("read bucket *", "not one name"),
            ("consume stream > as x", "not one name"),
            ("read bucket {{user.publish}}", "not one name"),
            ("publish orders.new to stream a.b", "not one name"),
            ("publish orders..new to stream s", "no subject"),
            ("read bucket {{user.id}}", "no placeholder"),
            ("read bucket {{user.name", "braces"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(wanted), "{text}: {error}");
            assert!(error.remedy().len() > 10);
        }
    }

    /// Both forms of acknowledgements, of a stream called `s`, as the server lays them out.
    const OLD: &str = "$JS.ACK.s.c.1.7.7.1700000000000000000.0";
    const NEW: &str = "$JS.ACK._.abcdefgh.s.c.1.7.7.1700000000000000000.0";

    #[test]
    fn acknowledgements_of_one_stream_alone() {
        for preset in ["consume stream s", "consume stream s as c"] {
            assert!(grants(preset, OLD) && grants(preset, NEW), "{preset}");
            assert!(grants(preset, &format!("{NEW}.token")), "{preset}");
        }
        for preset in ["consume stream s as d", "consume stream t", "read bucket s"] {
            assert!(!grants(preset, OLD) && !grants(preset, NEW), "{preset}");
        }
        // A stream named like the number of a delivery, like a domain, or like a hash.
        for preset in ["consume stream 1", "consume stream _", "consume stream abcdefgh"] {
            assert!(!grants(preset, OLD) && !grants(preset, NEW), "{preset}");
        }
        let flow = ["$JS.FC.s.c.xyz", "$JS.FC._.abcdefgh.s.c.xyz"];
        assert!(flow.iter().all(|subject| grants("consume stream s", subject)));
        for preset in ["consume stream _", "consume stream c", "consume stream xyz"] {
            assert!(!flow.iter().any(|subject| grants(preset, subject)), "{preset}");
        }
    }

    #[test]
    fn nothing_that_changes_a_stream() {
        for preset in PRESETS.map(|it| {
            ["P x", "S s", "C c", "B b"].iter().fold(it.form.to_owned(), |form, pair| {
                let (letter, name) = pair.split_once(' ').unwrap();
                form.replace(letter, name)
            })
        }) {
            for verb in ["CREATE", "UPDATE", "DELETE", "PURGE", "SNAPSHOT", "RESTORE"] {
                for stream in ["s", "KV_b", "OBJ_b"] {
                    let granted = grants(&preset, &format!("$JS.API.STREAM.{verb}.{stream}"));
                    let objects = (&*preset, verb, stream) == ("write objects b", "PURGE", "OBJ_b");
                    assert_eq!(granted, objects, "{preset}: {verb} {stream}");
                }
            }
            assert_eq!(grants(&preset, "$JS.API.STREAM.NAMES"), preset == "read objects b");
            for subject in ["$JS.API.STREAM.LIST", "$JS.API.STREAM.MSG.DELETE.KV_b", "s"] {
                assert!(!grants(&preset, subject), "{preset}: {subject}");
            }
        }
        assert!(!grants("read bucket b", "$KV.b.key"));
        assert!(!grants("write bucket b", "$JS.API.DIRECT.GET.KV_b.$KV.b.key"));
        assert!(!grants("read objects b", "$O.b.M.bmFtZQ=="));
    }

    #[test]
    fn publishing_to_a_stream_is_publishing_its_subjects() {
        let preset = "publish orders.{{user.name}}.> to stream ORDERS";
        assert!(grants(preset, "orders.alice.new") && grants(preset, "$JS.API.STREAM.INFO.ORDERS"));
        assert!(!grants(preset, "orders.bob.new"));
    }

    #[test]
    fn the_readme_lists_exactly_these() {
        let mut table = "| preset | may publish |\n|---|---|\n".to_owned();
        for preset in PRESETS {
            let names: Vec<&str> = preset.form.split(' ').filter(|word| word.len() == 1).collect();
            let subjects = preset.subjects.iter().map(|subject| {
                let numbered = names.iter().zip(["%1", "%2"]);
                let text =
                    numbered.fold((*subject).to_owned(), |it, (name, n)| it.replace(n, name));
                format!("`{text}`")
            });
            let subjects = subjects.collect::<Vec<_>>().join(", ");
            table.push_str(&format!("| `{}` | {subjects} |\n", preset.form));
        }
        assert!(include_str!("../../README.md").contains(&table), "{table}");
    }
}
