//! `docs/configuration.md`: the page of all settings, from their table.

use super::keys::env_name;
use super::settings::{Applies, ISSUER_SETTINGS, Kind, SETTINGS, Setting};
use super::units::{format_duration, format_size};

const HEAD: &str = "\
# Every key of nats-callout.toml

Commands read the file that `--config` or `NATS_CALLOUT_CONFIG` names, or else `nats-callout.toml` in the working
directory. The variable of a key overrides it: a list is written there as `a,b`, and a table as `NAME=value,NAME=value`.
Relative paths start at the file's folder.

A duration is a text such as `\"1800ms\"`, `\"30s\"`, `\"15m\"`, `\"12h\"` or `\"30d\"`. A size is a text such as `\"64KB\"`,
`\"64MB\"` or `\"4GB\"`, in powers of 1,024.

A variable with `_FILE` behind its name names a file with the value, as platforms mount secrets:
`NATS_CALLOUT_DATABASE_URL_FILE=/run/secrets/database-url`. Where the value is a file itself, as that of `secret` and of
`credentials` is, both variables are its path.

A variable that begins with `NATS_CALLOUT_` and overrides no key is ignored, with a warning in the service's log, from
each command and from `doctor`; not one of those that Kubernetes sets beside a Service named `nats-callout`.
";

/// The page, in Markdown.
#[must_use]
fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    for setting in SETTINGS.iter().chain(ISSUER_SETTINGS) {
        if section != setting.section() {
            section = setting.section();
            page +=
                &format!("\n## [{section}]\n\n| key | default | values | meaning | variable |\n");
            page += "|---|---|---|---|---|\n";
        }
        page += &row(setting);
    }
    page
}

fn row(setting: &Setting) -> String {
    let default = match &setting.kind {
        Kind::Open(otherwise, _) => (*otherwise).to_owned(),
        Kind::Keys(_) => "required".to_owned(),
        kind => format!("`{}`", kind.written()),
    };
    let mode = match setting.applies {
        Applies::Always => "",
        Applies::Operator => " Mode `operator` alone.",
        Applies::Config => " Mode `config` alone.",
    };
    let meaning = if setting.meaning.is_empty() { setting.note } else { setting.meaning };
    let meaning = meaning.replace('\n', " ").replace('<', "&lt;");
    let (key, values, variable) = (setting.key(), values(&setting.kind), env_name(setting.name));
    format!("| `{key}` | {default} | {values} | {meaning}{mode} | `{variable}` |\n")
}

fn values(kind: &Kind) -> String {
    let range = |of, least, most| format!("{of}, {least} to {most}");
    match kind {
        Kind::Word(words) => format!("`\"{}\"`", words.join("\"`, `\"")),
        Kind::Keys(_) => "one or two files".to_owned(),
        Kind::Count(_, of) => range("number", of.start().to_string(), of.end().to_string()),
        Kind::Size(_, of) => range("size", format_size(*of.start()), format_size(*of.end())),
        Kind::Time(_, of) => {
            range("duration", format_duration(*of.start()), format_duration(*of.end()))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_table_makes() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::write(file, reference()).unwrap();
        }
        let page = std::fs::read_to_string(file).unwrap_or_default();
        let remedy = "write it anew: WRITE_DOCS=1 cargo test --lib config::reference";
        assert!(page == reference(), "docs/configuration.md is not of the table; {remedy}");
    }
}
