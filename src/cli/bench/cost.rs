//! What a run costs in CPU time and memory: the bench's own, and, where they run on this machine
//! (Linux), that of the nats-server which is measured and of the instances of the service connected
//! to it; and how much of the machine was left.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// CPU time used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cpu {
    pub(super) bench: Duration,
    pub(super) server: Option<Duration>,
    pub(super) service: Option<Duration>,
    /// Time that cores of this machine had nothing to do: where the server is on it.
    pub(super) idle: Option<Duration>,
}

/// Bytes of memory in use.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) server: Option<u64>,
    pub(super) service: Option<u64>,
}

impl Cpu {
    /// What was used since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        let minus = |now: Option<Duration>, then: Option<Duration>| {
            Some(now?.saturating_sub(then.unwrap_or_default()))
        };
        Self {
            bench: self.bench.saturating_sub(earlier.bench),
            server: minus(self.server, earlier.server),
            service: minus(self.service, earlier.service),
            idle: minus(self.idle, earlier.idle),
        }
    }

    /// The bench's part of all that is known; `None` where only its own is.
    pub(super) fn share(&self) -> Option<f64> {
        let others = self.server? + self.service.unwrap_or_default();
        let all = (others + self.bench).as_secs_f64();
        (all > 0.0).then(|| self.bench.as_secs_f64() / all)
    }
}

/// The processes that are measured beside this one.
#[derive(Debug, Default)]
pub(super) struct Processes {
    server: BTreeSet<u32>,
    service: BTreeSet<u32>,
}

impl Processes {
    /// Those behind the addresses, as far as this machine knows them.
    pub(super) fn behind(addresses: &[SocketAddr]) -> Self {
        let own = addresses.iter().filter(|address| is_own(address.ip()));
        let ports: BTreeSet<u16> = own.map(SocketAddr::port).collect();
        if ports.is_empty() { Self::default() } else { procfs::behind(&ports) }
    }

    /// What all of them have used so far.
    pub(super) fn cpu(&self) -> Cpu {
        let sum = |pids: &BTreeSet<u32>| {
            (!pids.is_empty()).then(|| pids.iter().filter_map(|pid| procfs::cpu(*pid)).sum())
        };
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let bench = Duration::new(
            u64::try_from(used.tv_sec).unwrap_or(0),
            u32::try_from(used.tv_nsec).unwrap_or(0),
        );
        let idle = if self.server.is_empty() { None } else { procfs::idle() };
        Cpu { bench, server: sum(&self.server), service: sum(&self.service), idle }
    }

    /// What they hold now.
    pub(super) fn memory(&self) -> Memory {
        let sum = |pids: &BTreeSet<u32>| {
            (!pids.is_empty()).then(|| pids.iter().filter_map(|pid| procfs::memory(*pid)).sum())
        };
        Memory { server: sum(&self.server), service: sum(&self.service) }
    }
}

/// Whether the address is one of this machine's.
fn is_own(ip: IpAddr) -> bool {
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(target_os = "linux")]
mod procfs {
    use std::collections::BTreeSet;
    use std::fs;
    use std::time::Duration;

    use super::Processes;

    const LISTENING: &str = "0A";
    const ESTABLISHED: &str = "01";

    /// The processes that listen on the ports, and the services connected to it.
    pub(super) fn behind(ports: &BTreeSet<u16>) -> Processes {
        let (mut listening, mut connected) = (BTreeSet::new(), BTreeSet::new());
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let text = fs::read_to_string(table).unwrap_or_default();
            for line in text.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let [_, local, remote, state, _, _, _, _, _, inode, ..] = fields[..] else {
                    continue;
                };
                let is_on = |end: &str| {
                    end.rsplit_once(':')
                        .and_then(|(_, hex)| u16::from_str_radix(hex, 16).ok())
                        .is_some_and(|port| ports.contains(&port))
                };
                if state == LISTENING && is_on(local) {
                    listening.insert(format!("socket:[{inode}]"));
                } else if state == ESTABLISHED && is_on(remote) {
                    connected.insert(format!("socket:[{inode}]"));
                }
            }
        }
        let own = fs::read_link("/proc/self/exe").ok();
        let mut found = Processes::default();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            if pid == std::process::id() {
                continue;
            }
            let sockets: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| {
                    fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok()
                })
                .collect();
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
            let is_service =
                name.starts_with("nats-callout") || (program.is_some() && program == own);
            if !sockets.is_disjoint(&listening) {
                found.server.insert(pid);
            } else if is_service && !sockets.is_disjoint(&connected) {
                found.service.insert(pid);
            }
        }
        found
    }

    /// CPU time of a process and its threads.
    pub(super) fn cpu(pid: u32) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold blanks and parentheses.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(ticks(user + system))
    }

    fn ticks(count: u64) -> Duration {
        Duration::from_millis(count * 1_000 / rustix::param::clock_ticks_per_second().max(1))
    }

    /// Of all cores together.
    pub(super) fn idle() -> Option<Duration> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        // user, nice, system, idle, iowait
        let mut fields = stat.lines().next()?.split_whitespace().skip(4);
        let idle: u64 = fields.next()?.parse().ok()?;
        let waits: u64 = fields.next()?.parse().ok()?;
        Some(ticks(idle + waits))
    }

    /// What a process has in memory.
    pub(super) fn memory(pid: u32) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes << 10)
    }
}

#[cfg(not(target_os = "linux"))]
mod procfs {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::Processes;

    pub(super) fn behind(_: &BTreeSet<u16>) -> Processes {
        Processes::default()
    }

    pub(super) fn cpu(_: u32) -> Option<Duration> {
        None
    }

    pub(super) fn idle() -> Option<Duration> {
        None
    }

    pub(super) fn memory(_: u32) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let seconds = Duration::from_secs;
        let (server, service) = (Some(seconds(5)), Some(seconds(4)));
        let cpu = Cpu { bench: seconds(1), server, service, idle: None };
        assert_eq!(cpu.share(), Some(0.1));
        let alone = Cpu { bench: seconds(3), ..Cpu::default() };
        assert_eq!(alone.share(), None);
        assert_eq!(alone.since(Cpu { bench: seconds(1), ..alone }).bench, seconds(2));
    }

    #[test]
    fn this_process_uses_time_and_is_nobody_s_server() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let processes = Processes::behind(&[listener.local_addr().unwrap()]);
        assert!(processes.server.is_empty(), "{processes:?}");
        assert!(processes.cpu().bench > Duration::ZERO);
    }
}
