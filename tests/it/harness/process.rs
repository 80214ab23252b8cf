//! A child process with its output in a file: killed by its id when dropped, its log shown when
//! the test fails.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::{eventually, turn};

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts the command with stdout and stderr appended to `log`.
    pub(crate) fn spawn(name: &str, command: &mut Command, log: &Path) -> Self {
        turn::take();
        let file: File =
            OpenOptions::new().create(true).append(true).open(log).expect("the log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), log: log.to_owned(), child }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written, in this run and the ones before it.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Where it writes that.
    pub(crate) fn log_file(&self) -> &Path {
        &self.log
    }

    /// The status it ended with, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("its status")
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill9(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("its status");
    }

    /// SIGSTOP, and waits until it hangs, with all its connections open: its threads may go on for a
    /// moment after the signal.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
        let threads = format!("/proc/{}/task", self.child.id());
        eventually(&format!("{} to hang", self.name), || {
            // Where there is no such folder, nobody says.
            let mut threads = std::fs::read_dir(&threads).into_iter().flatten().flatten();
            threads.all(|thread| is_stopped(&thread.path())).then_some(())
        });
    }

    /// SIGCONT: it goes on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// SIGHUP: it reads its configuration again.
    pub(crate) fn reload(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill");
        assert!(status.success(), "kill {signal} {pid}");
    }

    /// SIGTERM, and waits until it has ended by itself.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.end_by("-TERM")
    }

    /// A signal at which it ends by itself, and waits until it has.
    pub(crate) fn end_by(&mut self, signal: &str) -> ExitStatus {
        if self.ended().is_none() {
            self.signal(signal);
        }
        let what = format!("the end of {}", self.name);
        eventually(&what, || self.ended())
    }
}

/// Whether a thread in `/proc` is stopped, or gone.
fn is_stopped(thread: &Path) -> bool {
    let stat = std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
    // The name in parentheses may hold anything; the state comes after it.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().rev().nth(6_000).map_or(0, |(at, _)| at);
            eprintln!("---- {} ({}) ----\n{}", self.name, self.log.display(), &log[from..]);
        }
    }
}
