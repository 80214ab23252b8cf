//! A cluster out of what `init` wrote for one server: each node gets its own ports, name and
//! folders, and everything else (keys, accounts, resolver settings) stays as it is.

use std::path::Path;

use super::deployment::{Initialised, Mode};
use super::servers::{self, NatsServer};
use super::service::Service;
use super::{eventually, ports};

/// A running cluster with one service, which is connected to the first node.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) service: Service,
    pub(crate) nodes: Vec<NatsServer>,
    pub(crate) init: Initialised,
}

impl Cluster {
    /// Starts `size` nodes and the service.
    pub(crate) fn start(mode: Mode, size: usize) -> Self {
        Self::start_prepared(mode, size, |_| ())
    }

    /// [`Self::start`] after this.
    pub(crate) fn start_prepared(mode: Mode, size: usize, prepare: fn(&Initialised)) -> Self {
        Self::start_with(mode, &vec![String::new(); size], prepare)
    }

    /// [`Self::start_prepared`] with a node for each of these blocks, which its configuration has too.
    pub(crate) fn start_with(
        mode: Mode,
        blocks: &[String],
        prepare: impl FnOnce(&Initialised),
    ) -> Self {
        let init = Initialised::new(mode);
        prepare(&init);
        let nodes = start_nodes(&init.server_conf(), init.port, init.monitor, blocks);
        let service = init.serve().unwrap_or_else(|log| panic!("{log}"));
        Self { service, nodes, init }
    }

    /// Starts another instance, which prefers this node and knows them all.
    pub(crate) fn another_service(&self, node: usize) -> Service {
        let mut urls: Vec<String> = self.nodes.iter().map(NatsServer::url).collect();
        urls.rotate_left(node);
        self.init.another_service_at(&urls.join(","))
    }

    /// Starts a node again, and waits until it knows the others: before that it cannot ask an
    /// instance that is connected to one of them.
    pub(crate) fn restart(&mut self, node: usize) {
        self.nodes[node].restart();
        let routes = routes_of(self.nodes.len());
        let node = &self.nodes[node];
        eventually("all routes of a node", || (node.routes() == routes).then_some(()));
    }

    /// Parts a running node from the others: it looks for none, and none has its new password. Another
    /// size of its pool makes it close the routes that it has.
    pub(crate) fn cut_off(&mut self, node: usize) {
        self.nodes[node].reload(|conf| {
            let (before, routes) = conf.rsplit_once("  routes: ").expect("its routes");
            let (_, after) = routes.split_once('\n').expect("the end of a line");
            format!(
                "{before}  routes: []\n  pool_size: 5\n  \
                 authorization {{ user: nobody, password: knows }}\n{after}"
            )
        });
        eventually("no route to a node", || {
            let routes = self.nodes.iter().map(NatsServer::routes);
            let alone =
                |(at, count)| count == if at == node { 0 } else { routes_of(self.nodes.len() - 1) };
            routes.enumerate().all(alone).then_some(())
        });
    }
}

/// What a node reports once it knows all others: a pool of three routes and one for the system
/// account to each.
pub(crate) fn routes_of(nodes: usize) -> usize {
    4 * (nodes - 1)
}

/// Starts a cluster of the server that `conf` describes, which listens on `port` and has its
/// monitor on `monitor`; the first node keeps these. There are as many as there are blocks for one.
pub(crate) fn start_nodes(
    conf: &Path,
    port: u16,
    monitor: u16,
    blocks: &[String],
) -> Vec<NatsServer> {
    let size = blocks.len();
    let single = std::fs::read_to_string(conf).expect("the configuration of one server");
    let folder = conf.parent().expect("its folder");
    let routes: Vec<u16> = (0..size).map(|_| ports::free()).collect();
    let mut nodes: Vec<NatsServer> = (0..size)
        .map(|node| {
            let (own_port, own_monitor) =
                if node == 0 { (port, monitor) } else { (ports::free(), ports::free()) };
            let conf = replace_word(&single, &port.to_string(), &own_port.to_string());
            let conf = replace_word(&conf, &monitor.to_string(), &own_monitor.to_string());
            let conf = own_folders(&conf, folder, &folder.join(format!("node-{node}")));
            let path = folder.join(format!("node-{node}.conf"));
            // A cluster of one would wait for others.
            let conf = if size == 1 { conf } else { clustered(&conf, node, &routes) };
            let conf = format!("{conf}\n{}", blocks[node]);
            std::fs::write(&path, conf).expect("a configuration");
            NatsServer::launch(servers::version(), &path, own_port, Some(own_monitor))
        })
        .collect();
    for node in &mut nodes {
        node.wait().unwrap_or_else(|log| panic!("{log}"));
    }
    // Until they all stand, a subscription on one node may not be known on another.
    let routes = routes_of(size);
    for node in &nodes {
        eventually("all routes of the cluster", || (node.routes() == routes).then_some(()));
    }
    nodes
}

/// Gives a node its name and its routes to the others.
fn clustered(conf: &str, node: usize, routes: &[u16]) -> String {
    let mut conf: String = conf
        .lines()
        .filter(|line| !line.trim_start().starts_with("server_name"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let peers: Vec<String> = routes
        .iter()
        .enumerate()
        .filter(|&(other, _)| other != node)
        .map(|(_, port)| format!("\"nats://127.0.0.1:{port}\""))
        .collect();
    conf.push_str(&format!(
        "\nserver_name: node-{node}\ncluster {{\n  name: test\n  \
         listen: \"127.0.0.1:{}\"\n  routes: [{}]\n}}\n",
        routes[node],
        peers.join(", ")
    ));
    conf
}

/// Replaces whole words only: a port's digits may stand inside a key or a path.
fn replace_word(text: &str, word: &str, with: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let inside = before.ends_with(|c: char| c.is_ascii_alphanumeric())
            || after.starts_with(|c: char| c.is_ascii_alphanumeric());
        result.push_str(before);
        result.push_str(if inside { word } else { with });
        rest = after;
    }
    result + rest
}

/// Gives a node its own `store_dir` and resolver `dir`, with a copy of what is in them.
fn own_folders(conf: &str, shared: &Path, own: &Path) -> String {
    let shared_text = shared.to_str().expect("a utf-8 path");
    let mut result = String::with_capacity(conf.len());
    let mut rest = conf;
    while let Some(at) = rest.find(shared_text) {
        let (before, after) = rest.split_at(at);
        result.push_str(before);
        let key = before.trim_end_matches([' ', '"', '\'', ':', '=', '\t']);
        let key = key.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
        let path: &str =
            after.split(['"', '\'', '\n', ',', '}', ' ']).next().expect("a first piece");
        if matches!(key, Some("dir" | "store_dir")) {
            let below = path[shared_text.len()..].trim_start_matches('/');
            let folder = own.join(below);
            copy(Path::new(path), &folder);
            result.push_str(folder.to_str().expect("a utf-8 path"));
        } else {
            result.push_str(path);
        }
        rest = &after[path.len()..];
    }
    result + rest
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    let Ok(entries) = std::fs::read_dir(from) else { return };
    for entry in entries {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[test]
fn a_node_differs_from_the_others_in_its_ports_and_folders_only() {
    let conf = "listen: 127.0.0.1:20001\nkey: A20001B\nresolver { type: full, dir: \"/d/jwt\" }\n\
                jetstream { store_dir: '/d/js' }\ninclude: /d/keys/x\n";
    let conf = replace_word(conf, "20001", "20002");
    assert!(conf.contains(":20002\n") && conf.contains("A20001B"), "{conf}");
    let own = tempfile::tempdir().expect("a folder");
    let conf = own_folders(&conf, Path::new("/d"), own.path());
    let own = own.path().to_str().expect("a path");
    assert!(conf.contains(&format!("dir: \"{own}/jwt\"")), "{conf}");
    assert!(conf.contains(&format!("store_dir: '{own}/js'")), "{conf}");
    assert!(conf.contains("include: /d/keys/x"), "{conf}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_become_one_cluster() {
    use super::client::{Login, connect};
    use super::eventually_async;

    let dir = tempfile::tempdir().expect("a folder");
    let (port, monitor) = (ports::free(), ports::free());
    let conf = dir.path().join("nats-server.conf");
    let text = format!(
        "server_name: \"nats-1\"\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
         jetstream {{ store_dir: \"{}/jetstream\" }}\n",
        dir.path().display()
    );
    std::fs::write(&conf, text).expect("a configuration");
    let nodes = start_nodes(&conf, port, monitor, &vec![String::new(); 3]);
    let stream = serde_json::json!({"name": "S", "subjects": ["s"], "num_replicas": 3});
    let first = connect(&nodes[0].url(), &Login::Nothing, "_INBOX").await.expect("connects");
    // A server may take another, which it has just found, for one that is away.
    eventually_async("a stream on all three", || async {
        let asked = first.client.request("$JS.API.STREAM.CREATE.S", stream.to_string().into());
        let answer: serde_json::Value = serde_json::from_slice(&asked.await.ok()?.payload).ok()?;
        answer.get("error").is_none().then_some(())
    })
    .await;
    let last = connect(&nodes[2].url(), &Login::Nothing, "_INBOX").await.expect("connects");
    eventually_async("an acknowledgement", || async {
        last.client.request("s", "x".into()).await.ok()
    })
    .await;
    for node in 0..3 {
        assert!(dir.path().join(format!("node-{node}/jetstream/jetstream")).is_dir());
    }
}
