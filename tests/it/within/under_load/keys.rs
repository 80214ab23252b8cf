//! `keys rotate`: from one generation of every key to the next while clients log in all the time.

mod config;
mod operator;
mod stopped;

use std::time::Duration;

use serde_json::{Value, json};

use super::instances::start_instances;
use super::load::{self, Attempt, Ended, Load};
use crate::harness::client::Login;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::service::Service;
use crate::harness::{depth, eventually, loudly};

/// How often a step may be asked for again: an instance that did not answer in time is named as one
/// that has to be restarted.
const REPEATS: usize = 5;

/// What a server says of a client that was closed while it was let in.
const NO_LONGER_THERE: &str = "Could not register auth callout user: connection closed";

/// So many logins of each kind at the same time.
const THREADS: usize = 2;

/// A cluster with an instance on each node (of one node with two, in the nightly run with three), and
/// three kinds of logins at all nodes.
struct Fleet {
    cluster: Cluster,
    instances: Vec<Service>,
    loads: Vec<Load>,
    /// How many logins are under way at most.
    at_once: usize,
    /// Whether `--now` was asked for, which closes what the old key has signed.
    closes: bool,
}

impl Fleet {
    fn start(mode: Mode, nodes: usize) -> Self {
        let mut cluster = Cluster::start(mode, nodes);
        // What it takes until no grant is alive has to be awaited.
        let config = cluster.init.config();
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("# ttl = \"1h\"", "ttl = \"10s\"")).unwrap();
        // All nodes by name, as `init --cluster` writes them.
        let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
        let text = std::fs::read_to_string(&config).unwrap();
        let old = format!("url = \"{}\"", urls[0]);
        assert!(text.contains(&old), "{text}");
        let text = text.replace(&old, &format!("url = \"{}\"", urls.join(",")));
        std::fs::write(&config, text).unwrap();
        let instances = start_instances(&cluster, nodes.max(depth(2, 3)));
        assert!(cluster.service.stop().success());

        let own = cluster.init.tenant_add("own", &[]);
        let shared = cluster.init.tenant_add(
            "shared",
            if mode == Mode::Operator { &["--isolation", "shared"] } else { &[] },
        );
        let Login::Password(shared, _) = shared else { unreachable!("a password") };
        let token =
            |tenant: &str, user: &str| json!({"auth_token": cluster.init.token_add(tenant, user)});
        // One password alone: every instance that begins has to hash it anew.
        let logins = [own.connect_fields(), token("shared", &shared), token("own", "own")];
        let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port()).collect();
        let loads: Vec<Load> =
            logins.iter().map(|login| Load::start(THREADS, &ports, login)).collect();
        let at_once = THREADS * loads.len();
        let fleet = Self { cluster, instances, loads, at_once, closes: false };
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

    /// Runs the command once, for its word.
    fn word(&self, args: &[&str]) -> Value {
        let all = [&["--json", "keys", "rotate"], args].concat();
        eventually("a word of `keys rotate`", || {
            let output = self.init().cli(&all);
            // A server that was restarted just now, on a busy machine.
            let again = output.stderr.contains("can be resumed: no answer from");
            (!again).then(|| output.success().json())
        })
    }

    /// Runs the command until it is done, and does all that it asks for. Gives its last word.
    fn rotate(&mut self, args: &[&str]) -> Value {
        self.rotate_until(args, |word| word["done"] == true)
    }

    /// [`Self::rotate`] until its word is this one.
    fn rotate_until(&mut self, args: &[&str], is_this: impl Fn(&Value) -> bool) -> Value {
        self.closes |= args.contains(&"--now");
        let mut steps = Steps::default();
        loop {
            let word = self.word(args);
            if is_this(&word) {
                return word;
            }
            assert_ne!(word["done"], true, "{word:#}");
            steps.take(self, &word);
            self.obey(&word);
        }
    }

    /// Does what the command asks for.
    fn obey(&mut self, word: &Value) {
        let waits: Vec<&Value> =
            word["keys"].as_array().unwrap().iter().map(|key| &key["next"]).collect();
        let asked = |what: &str| waits.iter().find_map(|wait| wait.get(what));
        if asked("restart_instances").is_some() {
            self.restart_instances();
        } else if asked("restart_servers").is_some() {
            self.restart_servers();
        } else {
            let until = asked("wait_until").and_then(Value::as_str);
            let until: jiff::Timestamp = until.unwrap_or_else(|| panic!("{word}")).parse().unwrap();
            let left = Duration::try_from(until.duration_since(jiff::Timestamp::now()));
            // Those who are in by the old key stay until then; others log in all the time.
            std::thread::sleep(left.unwrap_or(Duration::ZERO));
        }
    }

    fn restart_instances(&mut self) {
        for index in 0..self.instances.len() {
            self.loads.iter().for_each(Load::press);
            assert!(self.instances[index].stop().success());
            self.loads.iter().for_each(Load::ease);
            self.instances[index].restart();
            self.more(3);
        }
    }

    /// Each with its instance, so that nothing is under way on the server when it stops.
    fn restart_servers(&mut self) {
        for node in 0..self.cluster.nodes.len() {
            self.leave(node);
            assert!(self.instances[node].stop().success());
            self.more(12);
            self.cluster.nodes[node].stop();
            self.cluster.restart(node);
            self.instances[node].restart();
            self.come_back(node);
            self.more(12);
        }
    }

    /// Waits until nobody logs in at a node.
    fn leave(&self, node: usize) {
        self.loads.iter().for_each(|load| load.leave(node));
        self.loads.iter().for_each(|load| load.wait_until_gone(node));
    }

    fn come_back(&self, node: usize) {
        self.loads.iter().for_each(|load| load.come_back(node));
    }

    /// Ends the logins; panics if any failed.
    fn end(self) -> (Cluster, Vec<Service>) {
        let attempts: Vec<Attempt> = self.loads.into_iter().flat_map(Load::end).collect();
        let refused: Vec<&Attempt> =
            attempts.iter().filter(|it| matches!(it.ended, Ended::Refused(_))).collect();
        let logs: String = self.instances.iter().map(|it| it.log() + "\n----\n").collect();
        // A machine that is too slow to hash a password in time, or to ask the database, says so
        // for each login that it costs; a key that is not known where it should be does not.
        let overloaded = logs.matches("fault=\"authentication is impossible at the moment").count();
        let all = attempts.len();
        loudly(&format!("{all} logins, {} failed, {overloaded} for overload", refused.len()));
        assert!(refused.len() <= overloaded, "{refused:?} of {all}\n{logs}");
        let broken = load::broken(&attempts);
        // nats-server closes whom it is letting in at the moment at which it takes in another list of
        // AUTH's keys: `updateAccountClaimsWithRefresh` in server/accounts.go looks for the key of the
        // account that the client goes to in the one that it comes from. Its log says so of each.
        let nodes = self.cluster.nodes.iter();
        let lost: usize = nodes.map(|it| it.log().matches(NO_LONGER_THERE).count()).sum();
        assert!(
            self.closes || broken.len() <= lost.min(self.at_once),
            "closed: {broken:?}, {lost} by a change of AUTH: no server stopped under a login\n{logs}"
        );
        (self.cluster, self.instances)
    }
}

/// The steps of a rotation, each of which brings it on, however long it takes.
#[derive(Default)]
struct Steps {
    state: String,
    repeats: usize,
}

impl Steps {
    /// Panics if it has come no further: what is listed, and what each key waits for, is the same.
    fn take(&mut self, fleet: &Fleet, word: &Value) {
        let waits = word["keys"].as_array().unwrap().iter().map(|key| {
            let wait = key["next"].as_object().and_then(|next| next.keys().next());
            format!("{} {}: {wait:?}\n", key["key"], key["new"])
        });
        let config = std::fs::read_to_string(fleet.init().config()).unwrap();
        let state = config + &waits.collect::<String>();
        self.repeats = if state == self.state { self.repeats + 1 } else { 0 };
        assert!(self.repeats < REPEATS, "no end of it: {word:#}");
        self.state = state;
    }
}

/// Whether the command asks for this, for its first key.
fn asks_for(word: &Value, what: &str) -> bool {
    word["keys"][0]["next"].get(what).is_some()
}
