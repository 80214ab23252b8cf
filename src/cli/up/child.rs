//! The nats-server that `up` runs: begun in a process group of its own, so that Ctrl-C reaches the
//! service first, and ended with it.

use std::fs;
use std::io::{self, Write as _};
use std::net::{TcpListener, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Recovering many streams takes the server a while.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long the server may take to end by itself.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// A running nats-server; dropped, it is killed.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    listen: String,
    log: PathBuf,
    /// Where this server's part of the log begins.
    log_begins: u64,
    pid_file: PathBuf,
}

impl Server {
    /// Begins to run the server of the deployment in `folder`.
    pub(super) fn start(program: &Path, folder: &Path, listen: &str) -> anyhow::Result<Self> {
        let conf = folder.join("nats-server.conf");
        let log = folder.join("nats-server.log");
        let pid_file = folder.join("nats-server.pid");
        let output = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let log_begins = output.metadata().map_or(0, |log| log.len());
        let child = Command::new(program)
            .arg("-c")
            .arg(&conf)
            .arg("-P")
            .arg(&pid_file)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        Ok(Self { child, listen: listen.to_owned(), log, log_begins, pid_file })
    }

    /// Returns once the server greets clients.
    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(self.epitaph(status));
            }
            if timeout(Duration::from_secs(1), greeted(&self.listen)).await.unwrap_or(false) {
                return Ok(());
            }
            if begun.elapsed() > START_PATIENCE {
                bail!(
                    "nats-server does not listen on {} after {START_PATIENCE:?}; see {}",
                    self.listen,
                    self.log.display()
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns when the server has ended by itself, with the reason as far as it is known.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => self.epitaph(status),
            Err(error) => format!("nats-server cannot be watched: {error}"),
        }
    }

    fn epitaph(&self, status: ExitStatus) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let begins = usize::try_from(self.log_begins).unwrap_or(0);
        let log = String::from_utf8_lossy(log.get(begins..).unwrap_or_default()).into_owned();
        let fatal = |line: &&str| line.contains("[FTL]") || line.starts_with("nats-server:");
        let last = log.lines().rev().find(fatal);
        let why = last.map(|line| format!(" ({})", line.trim())).unwrap_or_default();
        format!("nats-server has ended by itself, {status}{why}; see {}", self.log.display())
    }

    /// Ends the server, gently at first, and returns when it is gone.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(STOP_PATIENCE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
        let _ = fs::remove_file(&self.pid_file);
    }
}

/// Whether something at the address says what a nats-server says first.
async fn greeted(listen: &str) -> bool {
    let Ok(mut stream) = tokio::net::TcpStream::connect(listen).await else {
        return false;
    };
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).await.is_ok() && greeting == *b"INFO "
}

/// Ends the server that an earlier `up` on this folder has left behind when it was killed. The
/// caller holds the folder's lock, so no `up` that still runs owns it.
pub(super) async fn stop_leftover(folder: &Path) {
    let pid_file = folder.join("nats-server.pid");
    let Some(pid) = fs::read_to_string(&pid_file)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .and_then(Pid::from_raw)
    else {
        return;
    };
    let conf = folder.join("nats-server.conf");
    let ours = || {
        let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok();
        command.is_some_and(|command| {
            command
                .split(|byte| *byte == 0)
                .any(|argument| argument == conf.as_os_str().as_encoded_bytes())
        })
    };
    if ours() && kill_process(pid, Signal::TERM).is_ok() {
        let begun = Instant::now();
        while ours() && begun.elapsed() < STOP_PATIENCE {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let _ = fs::remove_file(pid_file);
}

/// Holds the folder for one `up` at a time, as long as the value lives.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "its closing is the unlocking")] fs::File);

impl Lock {
    pub(super) fn take(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(".up.lock");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(io::Error::from)
            .with_context(|| {
                format!(
                    "another `nats-callout up` runs on {}; stop it, or name another folder with \
                     --dir",
                    folder.display()
                )
            })?;
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}

/// Whether `address` can be listened on now.
pub(super) fn check_free(address: &str, remedy: &str) -> anyhow::Result<()> {
    let addresses = address
        .to_socket_addrs()
        .with_context(|| format!("`{address}` cannot be looked up; {remedy}"))?;
    for address in addresses {
        if let Err(error) = TcpListener::bind(address) {
            if error.kind() == io::ErrorKind::AddrInUse {
                bail!(
                    "port {} is taken: another program listens on {address}; stop it, or {remedy}",
                    address.port()
                );
            }
            return Err(error).with_context(|| format!("cannot listen on {address}; {remedy}"));
        }
    }
    Ok(())
}
