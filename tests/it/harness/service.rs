//! The real program: single commands, and the service as a child process.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

use super::eventually;
use super::process::Process;

/// The program of this build.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_nats-callout");

/// The line that the service prints once it answers.
pub(crate) const READY: &str = "nats-callout: ready";

/// The program with nothing of the caller's own settings in its environment.
pub(crate) fn program() -> Command {
    of_program(Path::new(PROGRAM))
}

fn of_program(program: &Path) -> Command {
    super::turn::take();
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NATS_CALLOUT_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit status; -1 for a signal.
    pub(crate) status: i32,
    /// Its stdout.
    pub(crate) stdout: String,
    /// Its stderr.
    pub(crate) stderr: String,
}

impl Output {
    /// Panics unless it succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.status, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The one JSON document on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }
}

/// Runs one command in `dir`.
pub(crate) fn cli(dir: &Path, args: &[&str]) -> Output {
    cli_with_stdin(dir, args, "")
}

/// Runs one command in `dir` with something on its stdin.
pub(crate) fn cli_with_stdin(dir: &Path, args: &[&str], stdin: &str) -> Output {
    let mut child = program()
        .current_dir(dir)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut pipe = child.stdin.take().expect("its stdin");
    // A command that reads no stdin may have ended already.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().expect("its output");
    Output {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `nats-callout serve` as a child process.
#[derive(Debug)]
pub(crate) struct Service {
    program: PathBuf,
    config: PathBuf,
    environment: Vec<(String, String)>,
    log: PathBuf,
    process: Process,
}

impl Service {
    /// Starts the service and waits until it says that it is ready. The error is its log.
    pub(crate) fn serve(config: &Path, environment: &[(&str, &str)]) -> Result<Self, String> {
        let mut service = Self::launch(config, environment);
        service.wait_until_ready()?;
        Ok(service)
    }

    /// Starts the service without waiting for it.
    pub(crate) fn launch(config: &Path, environment: &[(&str, &str)]) -> Self {
        Self::launch_of(Path::new(PROGRAM), config, environment)
    }

    /// [`Self::launch`] of this program.
    pub(crate) fn launch_of(program: &Path, config: &Path, environment: &[(&str, &str)]) -> Self {
        let environment = environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<Vec<_>>();
        let log = config.with_file_name(format!("serve-{}.log", super::ports::free()));
        let process = spawn(program, config, &environment, &log);
        let (program, config) = (program.to_owned(), config.to_owned());
        Self { program, config, environment, log, process }
    }

    /// Waits until it says that it is ready. The error is its log.
    pub(crate) fn wait_until_ready(&mut self) -> Result<(), String> {
        self.wait_ready(1)
    }

    fn wait_ready(&mut self, times: usize) -> Result<(), String> {
        let process = &mut self.process;
        eventually("the service's ready line", || {
            let log = process.log();
            if log.lines().filter(|line| line.contains(READY)).count() >= times {
                return Some(Ok(()));
            }
            process.ended().map(|status| Err(format!("serve ended, {status}:\n{log}")))
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The status it ended with, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Where it serves health and metrics.
    pub(crate) fn http(&self) -> &str {
        let mut settings = self.environment.iter();
        let listen = settings.find(|(name, _)| name == "NATS_CALLOUT_HTTP_LISTEN");
        listen.map_or("", |(_, address)| address)
    }

    /// Everything on its stderr (and stdout) so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// `kill -9`.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// SIGSTOP: it hangs.
    pub(crate) fn freeze(&self) {
        self.process.freeze();
    }

    /// SIGCONT: it goes on.
    pub(crate) fn thaw(&self) {
        self.process.thaw();
    }

    /// SIGTERM; gives the status that it ended with. None of its parts may have fallen until then.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let status = self.process.terminate();
        let log = self.log();
        let fallen = log.lines().find(|line| line.contains("nats_callout::daemon::parts"));
        assert_eq!(fallen, None, "{log}");
        status
    }

    /// Starts it again, with the same configuration, and waits until it is ready.
    pub(crate) fn restart(&mut self) {
        self.process.kill9();
        let before = self.log().lines().filter(|line| line.contains(READY)).count();
        self.process = spawn(&self.program, &self.config, &self.environment, &self.log);
        self.wait_ready(before + 1).expect("the service starts again");
    }
}

fn spawn(program: &Path, config: &Path, environment: &[(String, String)], log: &Path) -> Process {
    let mut command = of_program(program);
    command.arg("serve").arg("--config").arg(config);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Process::spawn("nats-callout serve", &mut command, log)
}
