//! The servers' configurations: those in `deploy/nats` are what `init` writes, and what it writes
//! for a cluster makes one.
//!
//! With `UPDATE_DEPLOY=1` in the environment the test writes the files instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::path;
use crate::harness::client::Login;
use crate::harness::raw::{self, Verdict};
use crate::harness::servers::{self, NatsServer};
use crate::harness::service::{self, Service};
use crate::harness::{eventually, http, ports};

/// The folder that the page's commands name.
const FOLDER: &str = "/var/lib/nats-callout";

const HEAD: &str =
    "# An example: what this command writes, with keys that nobody has. Run it for your own.\n#\n";

/// The files, and the command that writes each.
const WRITTEN: [(&str, &str, &str); 4] = [
    ("single.conf", "nats-server.conf", SINGLE),
    ("cluster-1.conf", "nats-server-1.conf", CLUSTER),
    ("cluster-2.conf", "nats-server-2.conf", CLUSTER),
    ("cluster-3.conf", "nats-server-3.conf", CLUSTER),
];

const SINGLE: &str = "init --dir /var/lib/nats-callout --listen 0.0.0.0:4222";
const CLUSTER: &str = "init --dir /var/lib/nats-callout --listen 0.0.0.0:4222 \
                       --cluster nats-1.example.com,nats-2.example.com,nats-3.example.com";

/// Runs a command of the page below `parent`.
fn init(command: &str, parent: &Path) -> PathBuf {
    let folder = parent.join("deployment");
    let command = command.replace(FOLDER, folder.to_str().unwrap());
    let args: Vec<&str> = command.split(' ').collect();
    service::cli(parent, &args).success();
    folder
}

/// The text without what differs between two runs: keys and JWTs.
fn masked(conf: &str) -> String {
    let is_key = |word: &str| {
        word.starts_with("eyJ") || (word.len() == 56 && word.starts_with(['A', 'O', 'U', 'X']))
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let mut text = String::new();
    let mut rest = conf;
    while let Some(begin) = rest.find(is_part) {
        let (before, after) = rest.split_at(begin);
        let end = after.find(|c| !is_part(c)).unwrap_or(after.len());
        let (word, after) = after.split_at(end);
        text.push_str(before);
        text.push_str(if is_key(word) { "KEY" } else { word });
        rest = after;
    }
    text + rest
}

/// The text with a word in place of the routes' password, which is the same for nobody.
fn without_password(conf: &str) -> String {
    let Some((_, rest)) = conf.split_once("password: \"") else { return conf.to_owned() };
    let (password, _) = rest.split_once('"').unwrap();
    assert!(password.len() >= 24, "{password}");
    conf.replace(password, "PASSWORD")
}

#[test]
fn the_configurations_are_what_init_writes() {
    let single = tempfile::tempdir().unwrap();
    let cluster = tempfile::tempdir().unwrap();
    let folders = [init(SINGLE, single.path()), init(CLUSTER, cluster.path())];
    let page = super::read("README.md").replace(" \\\n ", "");
    assert!(page.contains(CLUSTER), "the page has another command");
    for (name, file, command) in WRITTEN {
        let folder = &folders[usize::from(command == CLUSTER)];
        let written = fs::read_to_string(folder.join(file)).unwrap();
        let written = without_password(&written.replace(folder.to_str().unwrap(), FOLDER));
        let written = format!("{HEAD}#   nats-callout {command}\n\n{written}");
        let kept = path("nats").join(name);
        if std::env::var_os("UPDATE_DEPLOY").is_some() {
            fs::write(&kept, &written).unwrap();
        }
        let kept = fs::read_to_string(&kept).unwrap_or_default();
        assert_eq!(masked(&kept), masked(&written), "UPDATE_DEPLOY=1 writes {name} anew");
    }
}

#[test]
fn nats_server_takes_the_configurations() {
    for (name, ..) in WRITTEN {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join(name);
        let conf = fs::read_to_string(path("nats").join(name)).unwrap();
        fs::write(&copy, conf.replace(FOLDER, folder.path().to_str().unwrap())).unwrap();
        let output = Command::new(servers::binary(servers::version()))
            .args(["-t", "-c"])
            .arg(&copy)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
    }
}

/// Three nodes on one machine: each in a folder of its own, as it has on a host of its own, and on
/// free ports, since they share an address.
struct Nodes {
    servers: Vec<NatsServer>,
    ports: Vec<u16>,
}

fn start(folder: &Path, parent: &Path) -> Nodes {
    let routes: Vec<String> = (0..3).map(|_| format!("127.0.0.1:{}", ports::free())).collect();
    let clients: Vec<u16> = (0..3).map(|_| ports::free()).collect();
    let mut nodes: Vec<NatsServer> = (0..3)
        .map(|node| {
            let file = format!("nats-server-{}.conf", node + 1);
            let mut conf = fs::read_to_string(folder.join(&file)).unwrap();
            for (peer, route) in routes.iter().enumerate() {
                conf = conf.replace(&format!("nats-{}.example.com:6222", peer + 1), route);
            }
            let own = parent.join(format!("host-{}", node + 1));
            fs::create_dir(&own).unwrap();
            let monitor = ports::free();
            let conf = conf
                .replace("0.0.0.0:6222", &routes[node])
                .replace("0.0.0.0:4222", &format!("127.0.0.1:{}", clients[node]))
                .replace("127.0.0.1:8222", &format!("127.0.0.1:{monitor}"))
                .replace(folder.to_str().unwrap(), own.to_str().unwrap());
            let path = own.join("nats-server.conf");
            fs::write(&path, conf).unwrap();
            NatsServer::launch(servers::version(), &path, clients[node], Some(monitor))
        })
        .collect();
    for node in &mut nodes {
        node.wait().unwrap_or_else(|log| panic!("{log}"));
    }
    for node in &nodes {
        eventually("all routes of the cluster", || (node.routes() == 8).then_some(()));
    }
    Nodes { servers: nodes, ports: clients }
}

fn three_nodes(mode: &str) {
    let parent = tempfile::tempdir().unwrap();
    let folder = init(&format!("{CLUSTER} --mode {mode}"), parent.path());
    let Nodes { servers, ports } = start(&folder, parent.path());
    let config = folder.join("nats-callout.toml");
    let urls: Vec<String> = servers.iter().map(NatsServer::url).collect();
    let http = format!("127.0.0.1:{}", ports::free());
    let urls = urls.join(",");
    let environment =
        [("NATS_CALLOUT_NATS_URL", urls.as_str()), ("NATS_CALLOUT_HTTP_LISTEN", &http)];
    let service = Service::serve(&config, &environment).unwrap_or_else(|log| panic!("{log}"));
    assert_eq!(http::get(&http, "/readyz").expect("an answer").status, 200, "{}", service.log());
    let config = config.to_str().unwrap();
    let args = ["--json", "--config", config, "tenant", "add", "one"];
    let made = service::cli(&folder, &args).success().json();
    let login = Login::password("one", made["password"].as_str().unwrap()).connect_fields();
    for port in &ports {
        assert_eq!(raw::connect(*port, &login).0, Verdict::Admitted);
    }
    // BB's streams are kept threefold, within what its account may hold.
    let log = service.log();
    assert!(log.contains(r#"stream="ReceivedEvents" account="BB""#), "{log}");
}

#[test]
fn what_init_writes_for_a_cluster_makes_one_in_operator_mode() {
    three_nodes("operator");
}

#[test]
fn what_init_writes_for_a_cluster_makes_one_in_config_mode() {
    three_nodes("config");
}
