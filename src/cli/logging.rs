//! The log: on stderr, as text or JSON.

use std::any::Any;
use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};
use crate::hidden::{escaped, escaped_json};
use crate::redact::without_secrets;

/// Begins to log as the configuration says, panics included.
pub(super) fn init(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(directives(&log.level))?;
    // A line that cannot be written is lost. To say so, on stderr again, would panic.
    let format = log.format;
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Shown { format, to: io::stderr().lock() })
        .log_internal_errors(false);
    let begun = match log.format {
        LogFormat::Json => logger.json().flatten_event(true).try_init(),
        LogFormat::Text => logger.with_ansi(colour()).try_init(),
    };
    begun.map_err(|error| anyhow::anyhow!("cannot begin to log: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        tracing::error!(
            thread = thread.name(),
            at = panic.location().map(tracing::field::display),
            panic = %without_secrets(words(panic.payload())),
            "a fault of the program"
        );
    }));
    Ok(())
}

/// Writes lines without what is not seen: they repeat what clients call themselves, and what a terminal
/// takes from a line must not be theirs to say.
struct Shown<W> {
    format: LogFormat,
    to: W,
}

impl<W: Write> Write for Shown<W> {
    /// Takes whole lines, in which no character is cut in two.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        let shown = match self.format {
            LogFormat::Json => escaped_json(&text),
            LogFormat::Text => escaped(&text),
        };
        self.to.write_all(shown.as_bytes())?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// What a panic says.
fn words(payload: &(dyn Any + Send)) -> &str {
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&str>().copied().or_else(owned).unwrap_or_default()
}

/// A bare level is that of the service. Its NATS client repeats at `info` what is logged already, and
/// at `trace` it logs every message, servers' lists of clients among them, who may have sent a secret
/// as their name.
fn directives(level: &str) -> String {
    let client = match level.trim().to_ascii_lowercase().as_str() {
        "info" => "warn",
        "trace" => "debug",
        _ => return level.to_owned(),
    };
    format!("{level},async_nats={client}")
}

/// Whether stderr takes colours (<https://no-color.org>).
fn colour() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::hidden::is_hidden;

    #[test]
    fn the_client_library_says_less_than_the_service() {
        assert_eq!(directives("info"), "info,async_nats=warn");
        assert_eq!(directives("TRACE"), "TRACE,async_nats=debug");
        assert_eq!(directives("warn"), "warn");
        assert_eq!(directives("info,async_nats=trace"), "info,async_nats=trace");
    }

    /// As they are logged, by `?` and by `%`, in the message and in a field.
    #[test]
    fn nothing_in_a_line_is_hidden() {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);

        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let user = "x\u{9b}31m\u{202e}\u{2066}\u{200b}\u{7f}\u{ad}y";
        for format in [LogFormat::Json, LogFormat::Text] {
            let kept = Kept::default();
            let to = kept.clone();
            let logger = tracing_subscriber::fmt()
                .with_writer(move || Shown { format, to: to.clone() })
                .log_internal_errors(false);
            let log = || tracing::warn!(user, shown = %user, debug = ?user, "of {user}");
            match format {
                LogFormat::Json => tracing::subscriber::with_default(
                    logger.json().flatten_event(true).finish(),
                    log,
                ),
                LogFormat::Text => {
                    tracing::subscriber::with_default(logger.with_ansi(true).finish(), log)
                }
            }
            let line = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            let hidden: Vec<char> = line.chars().filter(|c| is_hidden(*c)).collect();
            assert!(hidden.iter().all(|c| "\u{1b}\n".contains(*c)), "{format:?}: {line:?}");
            assert_eq!(line.matches("202e").count(), 4, "{line}");
            if format == LogFormat::Json {
                let said: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert_eq!((&said["user"], &said["shown"]), (&user.into(), &user.into()));
            } else {
                assert!(line.contains("\u{1b}["), "with colours: {line:?}");
            }
        }
    }

    #[test]
    fn the_words_of_a_panic_are_found() {
        let caught = |panics: fn()| std::panic::catch_unwind(panics).expect_err("a panic");
        assert_eq!(words(&*caught(|| panic!("fixed"))), "fixed");
        assert_eq!(words(&*caught(|| panic!("with {}", 1))), "with 1");
        assert_eq!(words(&*caught(|| std::panic::panic_any(1))), "");
    }
}
