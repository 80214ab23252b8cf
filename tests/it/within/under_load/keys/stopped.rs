//! A rotation that is killed again and again comes to its end, with nothing half-written.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use super::{Fleet, Steps};
use crate::cli::keys::{files, generations};
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::turn::measured_under_load;
use crate::harness::{depth, eventually, raw, service};

/// Begins a rotation, and kills it after a time that is short at one time and long at the next.
fn kill_one(init: &Initialised, args: &[&str], turn: u64) {
    let mut command = service::program();
    command.arg("--config").arg(init.config()).args(["keys", "rotate"]).args(args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(20 + 17 * (7 * turn % 24)));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn killed_again_and_again(mode: Mode) {
    measured_under_load();
    let mut fleet = Fleet::start(mode, 1);
    fleet.closes = true;
    let names: &[&str] = match mode {
        Mode::Operator => &["user-signing", "response-signing", "xkey"],
        Mode::Config => &["issuer", "xkey"],
    };
    let before: Vec<_> = names.iter().map(|name| generations(fleet.init(), name)).collect();
    let all: BTreeSet<_> = files(fleet.init()).into_iter().collect();
    let login = json!({"auth_token": fleet.init().token_add("own", "own")});
    let journal = fleet.init().dir().join("keys/rotation.json");
    let args: Vec<&str> = ["--now"].iter().chain(names).copied().collect();
    let (mut begun, mut kills, mut steps) = (false, 0, Steps::default());
    'rotation: loop {
        for _ in 0..depth(4, 6) {
            kill_one(fleet.init(), &args, kills);
            kills += 1;
            if begun && !journal.exists() {
                // Another would begin anew.
                break 'rotation;
            }
            begun |= journal.exists();
        }
        // What the last one was about to ask for, by one that is not killed.
        let word = fleet.word(&args);
        if word["done"] == true {
            break;
        }
        steps.take(&fleet, &word);
        let waits = word["keys"].as_array().unwrap().iter().map(|key| &key["next"]);
        if waits.clone().any(|wait| wait.get("restart_servers").is_some()) {
            // The only server: no login can be taken until an instance is back.
            fleet.leave(0);
            fleet.cluster.nodes[0].stop();
            fleet.cluster.nodes[0].restart();
            let port = fleet.cluster.nodes[0].port();
            eventually("an instance that is back", || {
                (raw::connect(port, &login).0 == raw::Verdict::Admitted).then_some(())
            });
            fleet.come_back(0);
        } else {
            fleet.obey(&word);
        }
    }
    for (name, before) in names.iter().zip(&before) {
        let after = generations(fleet.init(), name);
        assert_eq!(after.len(), before.len(), "{name}: {after:?}");
        assert!(!after.iter().any(|(_, public)| *public == before[0].1), "{name}: {after:?}");
    }
    let left: BTreeSet<_> = files(fleet.init()).into_iter().collect();
    assert_eq!(left.len(), all.len(), "{left:#?}");
    fleet.end();
}

#[test]
fn a_rotation_that_is_killed_again_and_again_ends_well() {
    for mode in either_mode() {
        killed_again_and_again(mode);
    }
}
