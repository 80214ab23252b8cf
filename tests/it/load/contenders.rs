//! Deployments that are measured beside each other on one machine: of this build, of another one's program, and a
//! nats-server that knows its users itself.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::cluster::{self, Cluster};
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::servers::NatsServer;
use crate::harness::service::{self, Service};
use crate::harness::{eventually, http};

/// Users that a nats-server has in its configuration.
const STATIC_USERS: usize = 100;

/// Who answers.
#[derive(Debug, Clone)]
pub(super) enum Who {
    This,
    /// Another build's `nats-callout`.
    Other(PathBuf),
    /// nats-server itself, by users in its configuration.
    Nobody,
}

impl Who {
    /// This build, and the other one if there is one.
    pub(super) fn builds(other: Option<&Path>) -> Vec<Self> {
        let mut all = vec![Self::This];
        all.extend(other.map(|program| Self::Other(program.to_owned())));
        all
    }

    pub(super) fn title(&self) -> String {
        match self {
            Self::This => "this build".to_owned(),
            Self::Other(program) => program.display().to_string(),
            Self::Nobody => "users in nats-server.conf".to_owned(),
        }
    }
}

/// How it is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) mode: Mode,
    pub(super) servers: usize,
    /// `authorization.timeout`, in seconds.
    pub(super) timeout: u64,
}

/// What is measured.
#[derive(Debug)]
pub(super) struct Site {
    // Dropped in this order: the service must not meet dead servers.
    pub(super) service: Option<Service>,
    pub(super) nodes: Vec<NatsServer>,
    init: Initialised,
    /// Lines of USER:PASSWORD for the bench, where the tenant table is not asked.
    users: Option<PathBuf>,
}

impl Site {
    /// Starts it, with these settings of the service.
    pub(super) fn start(who: &Who, setting: Setting, environment: &[(&str, &str)]) -> Self {
        let blocks = vec![String::new(); setting.servers];
        let program = match who {
            Who::This => Path::new(service::PROGRAM),
            Who::Other(program) => program,
            Who::Nobody => return Self::without_service(setting, &blocks),
        };
        let Cluster { mut service, nodes, init } =
            Cluster::start_with(setting.mode, &blocks, |init| {
                edit(&init.server_conf(), |conf| {
                    let timeout = format!("timeout: {}", setting.timeout);
                    assert!(conf.contains("timeout: 2"), "{conf}");
                    conf.replace("timeout: 2", &timeout)
                });
            });
        assert!(service.stop().success(), "{}", service.log());
        let mut all = vec![("NATS_CALLOUT_HTTP_LISTEN", init.http())];
        all.extend(environment);
        service = Service::launch_of(program, &init.config(), &all);
        service.wait_until_ready().unwrap_or_else(|log| panic!("{log}"));
        Self { service: Some(service), nodes, init, users: None }
    }

    fn without_service(setting: Setting, blocks: &[String]) -> Self {
        let init = Initialised::new(setting.mode);
        let (conf, users) = (init.server_conf(), init.dir().join("users.txt"));
        let (mut list, mut lines) = (String::new(), String::new());
        for number in 0..STATIC_USERS {
            list.push_str(&format!("    {{ user: user{number}, password: secret{number} }}\n"));
            lines.push_str(&format!("user{number}:secret{number}\n"));
        }
        let text = format!(
            "server_name: static\nlisten: \"127.0.0.1:{}\"\nhttp: \"127.0.0.1:{}\"\n\
             authorization {{\n  timeout: {}\n  users: [\n{list}  ]\n}}\n",
            init.port, init.monitor, setting.timeout
        );
        std::fs::write(&conf, text).expect("a configuration");
        std::fs::write(&users, lines).expect("a file of users");
        let nodes = cluster::start_nodes(&conf, init.port, init.monitor, blocks);
        Self { service: None, nodes, init, users: Some(users) }
    }

    /// How the bench is called to log in to all servers. `kind` is what it makes users of.
    fn bench(&self, kind: &str, load: &[String]) -> Command {
        let mut command = service::program();
        command.arg("--json").arg("bench").args(load).current_dir(self.init.dir());
        if let Some(users) = &self.users {
            command.args(["--url", &self.nodes[0].url(), "--kind", "password", "--users"]);
            command.arg(users);
            return command;
        }
        let urls: Vec<String> = self.nodes.iter().map(NatsServer::url).collect();
        command.env("NATS_CALLOUT_NATS_URL", urls.join(","));
        command.args(["--kind", kind, "--metrics", self.init.http()]);
        command
    }

    /// Runs the bench to its end.
    pub(super) fn measure(&self, kind: &str, load: &[String]) -> Value {
        self.begin(kind, load).end().unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same, or why it cannot be: the machine may not have so many files, say.
    pub(super) fn try_measure(&self, kind: &str, load: &[String]) -> Result<Value, String> {
        self.begin(kind, load).end()
    }

    /// Starts the bench.
    pub(super) fn begin(&self, kind: &str, load: &[String]) -> Measuring {
        let mut command = self.bench(kind, load);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Measuring(command.spawn().expect("the program starts"))
    }

    /// All servers die in one moment, and are started again.
    pub(super) fn lose_all_servers(&mut self) {
        self.nodes.iter_mut().for_each(NatsServer::kill9);
        self.nodes.iter_mut().for_each(NatsServer::restart);
    }

    /// Waits until so many clients of the bench are connected.
    pub(super) fn wait_for(&self, clients: u64) {
        eventually("the bench's connections", || {
            let open: u64 = self.nodes.iter().filter_map(connections).sum();
            (open >= clients).then_some(())
        });
    }
}

/// A bench that goes on.
#[derive(Debug)]
pub(super) struct Measuring(Child);

impl Measuring {
    /// Waits for its document; an error is its last line.
    pub(super) fn end(self) -> Result<Value, String> {
        let output = self.0.wait_with_output().expect("its output");
        let last =
            || String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("").to_owned();
        serde_json::from_slice(&output.stdout).map_err(|_| last())
    }
}

fn connections(node: &NatsServer) -> Option<u64> {
    let report = http::get(&node.monitor()?, "/varz")?.body;
    let report: Value = serde_json::from_str(&report).ok()?;
    report["connections"].as_u64()
}

fn edit(file: &Path, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(file).expect("a configuration");
    std::fs::write(file, change(text)).expect("a configuration");
}

/// A number of the bench's document.
pub(super) fn number(of: &Value) -> f64 {
    of.as_f64().unwrap_or_else(|| panic!("{of} is no number"))
}

/// Says what goes on.
pub(super) fn progress(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
