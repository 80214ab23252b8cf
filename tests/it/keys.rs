//! `keys rotate`: from one generation of every key to the next while clients log in all the time.

mod config;
mod operator;
mod stopped;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::harness::client::Login;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::loudly;
use crate::harness::service::Service;
use crate::instances::load::{Attempt, Ended, Load};

/// A cluster of three with an instance on each, and three kinds of logins at all nodes.
struct Fleet {
    cluster: Cluster,
    instances: Vec<Service>,
    loads: Vec<Load>,
    /// Whether `--now` was asked for, which closes what the old key has signed.
    closes: bool,
}

impl Fleet {
    fn start(mode: Mode, nodes: usize) -> Self {
        let mut cluster = Cluster::start(mode, nodes);
        // What it takes until no grant is alive has to be awaited.
        let config = cluster.init.config();
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("# ttl = \"15m\"", "ttl = \"10s\"")).unwrap();
        // All nodes by name, as `init --cluster` writes them.
        let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
        let text = std::fs::read_to_string(&config).unwrap();
        let old = format!("url = \"{}\"", urls[0]);
        assert!(text.contains(&old), "{text}");
        let text = text.replace(&old, &format!("url = \"{}\"", urls.join(",")));
        std::fs::write(&config, text).unwrap();
        let instances: Vec<Service> =
            (0..3).map(|node| cluster.another_service(node % nodes)).collect();
        assert!(cluster.service.stop().success());

        let own = cluster.init.tenant_add("own", &[]);
        let shared = cluster.init.tenant_add(
            "shared",
            if mode == Mode::Operator { &["--isolation", "shared"] } else { &[] },
        );
        let Login::Password(shared, _) = shared else { unreachable!("a password") };
        let token = |tenant: &str, user: &str| serde_json::json!({"auth_token": cluster.init.token_add(tenant, user)});
        // One password alone: every instance that begins has to hash it anew.
        let logins = [own.connect_fields(), token("shared", &shared), token("own", "own")];
        let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port()).collect();
        let loads: Vec<Load> =
            logins.into_iter().map(|login| Load::start_threads(2, ports.clone(), login)).collect();
        let fleet = Self { cluster, instances, loads, closes: false };
        fleet.more(20);
        fleet
    }

    /// Waits for more logins of every kind.
    fn more(&self, more: usize) {
        self.loads.iter().for_each(|load| load.more(more));
    }

    fn init(&self) -> &Initialised {
        &self.cluster.init
    }

    /// Runs the command until it is done, and does all that it asks for. Gives its last word.
    fn rotate(&mut self, args: &[&str]) -> Value {
        self.closes |= args.contains(&"--now");
        let mut words = Vec::new();
        for _ in 0..40 {
            let mut all = vec!["--json", "keys", "rotate"];
            all.extend(args);
            let output = self.init().cli(&all);
            if output.stderr.contains("can be resumed: no answer from") {
                // A server that was restarted just now, on a busy machine.
                continue;
            }
            let word = output.success().json();
            if word["done"] == true {
                return word;
            }
            self.obey(&word);
            words.push(word);
        }
        panic!("no end of it: {words:#?}");
    }

    /// Does what the command asks for.
    fn obey(&mut self, word: &Value) {
        let waits: Vec<&Value> =
            word["keys"].as_array().unwrap().iter().map(|key| &key["next"]).collect();
        let asked = |what: &str| waits.iter().any(|wait| wait.get(what).is_some());
        if asked("restart_instances") {
            for index in 0..self.instances.len() {
                assert!(self.instances[index].stop().success());
                self.instances[index].restart();
                self.more(3);
            }
        } else if asked("restart_servers") {
            // With its instance, so that nothing is under way on the server when it stops.
            for node in 0..self.cluster.nodes.len() {
                self.loads.iter().for_each(|load| load.leave(node));
                assert!(self.instances[node].stop().success());
                self.more(12);
                self.cluster.nodes[node].stop();
                self.cluster.restart(node);
                self.instances[node].restart();
                self.loads.iter().for_each(|load| load.come_back(node));
                self.more(12);
            }
        } else {
            assert!(asked("wait_until"), "{word}");
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Ends the logins; panics if any failed.
    fn end(self) -> (Cluster, Vec<Service>) {
        let attempts: Vec<Attempt> = self.loads.into_iter().flat_map(Load::end).collect();
        let refused: Vec<&Attempt> =
            attempts.iter().filter(|it| matches!(it.ended, Ended::Refused(_))).collect();
        let logs: String = self.instances.iter().map(|it| it.log() + "\n----\n").collect();
        // A machine that is too slow to hash a password in time, or to ask the database, says so
        // for each login that it costs; a key that is not known where it should be does not.
        let overloaded = logs.matches("abort=authentication is impossible at the moment").count();
        let all = attempts.len();
        loudly(&format!("{all} logins, {} failed, {overloaded} for overload", refused.len()));
        assert!(refused.len() <= overloaded, "{refused:?} of {all}\n{logs}");
        let broken = attempts.iter().filter(|it| matches!(it.ended, Ended::Broken)).count();
        assert!(broken == 0 || self.closes, "{broken} closed: no server stopped under a login");
        (self.cluster, self.instances)
    }
}

/// The public keys of a key, by their state.
fn generations(init: &Initialised, key: &str) -> Vec<(String, String)> {
    let list = init.cli(&["--json", "keys", "list"]).success().json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list["generations"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["key"] == key)
        .map(|row| (text(&row["state"]), text(&row["public"])))
        .collect()
}

/// All files below the folder of keys.
fn files(init: &Initialised) -> Vec<PathBuf> {
    let keys = init.dir().join("keys");
    let mut found = Vec::new();
    for folder in [keys.clone(), keys.join("offline")] {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        found.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
    }
    found.sort();
    found
}
