//! A client of another language that stays connected and says what becomes of that.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use super::client::Login;
use super::clients::{self, Language};

/// nats-py at its defaults, which says what happens to its connection.
pub(crate) struct Python {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Python {
    /// Connects; `None` where there is no Python.
    pub(crate) fn connect(url: &str, login: &Login) -> Option<Self> {
        let Login::Password(user, password) = login else { unreachable!("a password") };
        let mut command = clients::program(Language::Python, "staying")?;
        command.args([url, user, password]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let said = BufReader::new(child.stdout.take().expect("its stdout"));
        let mut python = Self { child, said };
        python.says("connected");
        Some(python)
    }

    /// Waits for a word; it may complain of what it finds when it comes back, and must not give up.
    #[track_caller]
    pub(crate) fn says(&mut self, word: &str) {
        let mut heard = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.said.read_line(&mut line).expect("a line");
            assert!(read > 0, "it ended before it was {word}: {heard:?}");
            let event: Value = serde_json::from_str(&line).expect("json");
            assert_ne!(event["event"], "closed", "before it was {word}: {heard:?}");
            if event["event"] == word {
                return;
            }
            heard.push(line);
        }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
