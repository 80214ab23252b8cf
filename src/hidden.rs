//! Characters that are not seen themselves, and change what is seen of others: controls of a terminal, marks
//! that turn the direction of a text, and those that have no width.

use std::borrow::Cow;

/// Whether it is such a character: a control, one that Unicode lets be ignored where it cannot be shown
/// (`Default_Ignorable_Code_Point`), a separator of lines, or an anchor of annotations.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The text in one line, with all hidden characters escaped: line breaks, tabs and other controls too.
pub(crate) fn in_a_line(text: &str) -> Cow<'_, str> {
    replaced(text, is_hidden, |c, out| out.extend(c.escape_default()))
}

/// The text with the hidden characters as `\u{202e}`. The controls of ASCII are left, which lay a text out and
/// colour it.
#[cfg(feature = "cli")]
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, is_replaced, |c, out| out.extend(c.escape_unicode()))
}

/// The same, and of the controls of ASCII line breaks and tabs alone are left.
#[cfg(feature = "cli")]
pub(crate) fn escaped_all(text: &str) -> Cow<'_, str> {
    let is_replaced = |c: char| is_hidden(c) && !is_layout(c);
    replaced(text, is_replaced, |c, out| out.extend(c.escape_unicode()))
}

#[cfg(feature = "cli")]
fn is_layout(c: char) -> bool {
    matches!(c, '\n' | '\t')
}

/// The text with those line breaks and tabs escaped that are repeated out of others, as a whole or in part: they
/// stand beside a character that is beside them there.
#[cfg(feature = "cli")]
pub(crate) fn without_breaks_of(text: &str, others: &[String]) -> String {
    let mut shown = text.to_owned();
    for other in others {
        let mut rest = other.as_str();
        while let Some((before, from)) =
            rest.find(is_layout).and_then(|at| rest.split_at_checked(at))
        {
            let behind = from.trim_start_matches(is_layout);
            let breaks = from.strip_suffix(behind).unwrap_or(from);
            let escaped = breaks.escape_default();
            let sides = (before.chars().next_back(), behind.chars().next());
            if let Some(c) = sides.0 {
                shown = shown.replace(&format!("{c}{breaks}"), &format!("{c}{escaped}"));
            }
            if let Some(c) = sides.1 {
                shown = shown.replace(&format!("{breaks}{c}"), &format!("{escaped}{c}"));
            }
            if sides == (None, None) {
                shown = shown.replace(breaks, &escaped.to_string());
            }
            rest = behind;
        }
    }
    shown
}

/// The same for a document of JSON, in which the values are what they were: no control of ASCII but the last
/// one can be in its texts as it is.
#[cfg(feature = "cli")]
pub(crate) fn escaped_json(json: &str) -> Cow<'_, str> {
    use std::fmt::Write as _;

    replaced(json, is_replaced, |c, out| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

#[cfg(feature = "cli")]
fn is_replaced(c: char) -> bool {
    c >= '\u{7f}' && is_hidden(c)
}

fn replaced(
    text: &str,
    is_replaced: impl Fn(char) -> bool,
    replace: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_replaced(c) { replace(c, &mut out) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    const HIDDEN: &str = "x\u{7f}\u{9b}\u{ad}\u{200b}\u{202e}\u{2066}\u{feff}\u{e0041}";

    #[test]
    fn what_is_hidden_is_escaped() {
        let shown = escaped(HIDDEN);
        let marks = r"x\u{7f}\u{9b}\u{ad}\u{200b}\u{202e}\u{2066}\u{feff}\u{e0041}";
        assert_eq!(shown, marks);
        for text in ["", "Ä & Söhne 株式会社 🦀", "two\nlines\tand \u{1b}[1mbold", "rene\u{301}"]
        {
            assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        let all = escaped_all("two\nlines\tand \u{1b}[1mbold\r\u{202e}");
        assert_eq!(all, "two\nlines\tand \\u{1b}[1mbold\\u{d}\\u{202e}");
    }

    #[test]
    fn a_text_in_a_line_has_no_other() {
        assert_eq!(in_a_line("a\nb\r\tc\u{1b}[2J\u{2028}d"), r"a\nb\r\tc\u{1b}[2J\u{2028}d");
        assert!(matches!(in_a_line("Ä `\\n` \"株\""), Cow::Borrowed("Ä `\\n` \"株\"")));
    }

    #[test]
    fn line_breaks_of_others_are_escaped_and_those_of_the_layout_stay() {
        for (other, text, shown) in [
            ("a\nb", "no `a\nb`:\n\n  use another\n", "no `a\\nb`:\n\n  use another\n"),
            ("--id=a\nb\n\tc", "`a\nb\n\tc`\nand", "`a\\nb\\n\\tc`\nand"),
            ("x,a\n,b", "`a\n`\nand", "`a\\n`\nand"),
            ("x=\nb", "`\nb`\nand", "`\\nb`\nand"),
            ("é\nü", "/srv/é\nü.toml:\n1", "/srv/é\\nü.toml:\n1"),
            ("\n", "`\n`\nand", "`\\n`\\nand"),
            ("", "a\nb", "a\nb"),
            ("ab", "a\nb\tc", "a\nb\tc"),
        ] {
            assert_eq!(without_breaks_of(text, &[other.to_owned()]), shown);
        }
    }

    #[test]
    fn a_document_of_json_stays_the_same() {
        let document = serde_json::json!({ "user": HIDDEN, HIDDEN: ["Ä \u{1b} 🦀", "\\u202e"] });
        let text = serde_json::to_string_pretty(&document).unwrap();
        let shown = escaped_json(&text);
        assert!(!shown.contains(|c| c != '\n' && is_hidden(c)), "{shown:?}");
        assert!(
            shown.contains(r"x\u007f\u009b\u00ad\u200b\u202e\u2066\ufeff\udb40\udc41"),
            "{shown}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), document);
    }
}
