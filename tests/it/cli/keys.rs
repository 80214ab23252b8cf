//! `keys rotate` before anything is changed: its plan, and what it refuses. What it does is in
//! [`within::under_load`](crate::within::under_load).

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::deployment::{Deployment, Initialised, Mode};

/// The public keys of a key, by their state.
pub(crate) fn generations(init: &Initialised, key: &str) -> Vec<(String, String)> {
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
pub(crate) fn files(init: &Initialised) -> Vec<PathBuf> {
    let keys = init.dir().join("keys");
    let mut found = Vec::new();
    for folder in [keys.clone(), keys.join("offline")] {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        found.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
    }
    found.sort();
    found
}

#[test]
fn the_plan_says_what_changes_and_what_it_costs_and_changes_nothing() {
    let deployment = Deployment::start(Mode::Config);
    let state = || {
        let confs = [deployment.config(), deployment.dir().join("nats-server.conf")];
        let texts = confs.map(|path| std::fs::read_to_string(path).unwrap());
        (texts, files(&deployment))
    };
    let before = state();
    let plan = deployment.cli(&["keys", "rotate", "--dry-run"]).success().stdout;
    let issuer = &generations(&deployment, "issuer")[0].1;
    for words in [
        "issuer:",
        "xkey:",
        &format!("`issuer: {issuer}` becomes `issuer: NEW`"),
        "restart the instances one after the other",
        "restart the servers, since none reads that again while it runs",
        "A single one refuses connections while it is down",
        &format!("the seed of {issuer} is removed"),
        "Nothing was changed",
    ] {
        assert!(plan.contains(words), "{words} in {plan}");
    }
    let plan = deployment.cli(&["--json", "keys", "rotate", "--dry-run", "xkey"]).success().json();
    assert_eq!(plan["plan"].as_array().map(Vec::len), Some(1), "{plan}");
    assert_eq!(plan["plan"][0]["key"], "xkey");
    assert!(plan["plan"][0]["steps"].as_array().is_some_and(|steps| steps.len() > 4), "{plan}");
    assert_eq!(state(), before);
}

#[test]
fn a_key_whose_next_generation_is_elsewhere_and_other_mistakes() {
    let deployment = Deployment::start(Mode::Operator);
    let keys = deployment.dir().join("keys");
    let away = deployment.dir().join("away");
    std::fs::rename(keys.join("offline"), &away).unwrap();
    let before = files(&deployment);
    let refused = |args: &[&str], words: &[&str]| {
        let output = deployment.cli(&[&["keys", "rotate"], args].concat());
        assert_eq!(output.status, 2, "{output:?}");
        words.iter().for_each(|word| assert!(output.stderr.contains(word), "{output:?}"));
    };
    refused(&["user-signing"], &["next generation of user-signing", "--offline DIR"]);
    refused(&["--offline", "nowhere"], &["nowhere", "no folder"]);
    let same = keys.join("../keys");
    refused(&["--offline", same.to_str().unwrap()], &["../keys", "the keys in use"]);
    refused(&["issuer"], &["no issuer in the mode `operator`", "user-signing"]);
    assert_eq!(files(&deployment), before, "nothing is left behind");

    let away = away.to_str().unwrap().to_owned();
    let word = deployment.cli(&["--json", "keys", "rotate", "--offline", &away, "user-signing"]);
    assert_eq!(word.success().json()["done"], false);
    let state = deployment.cli(&["keys", "list"]).success();
    assert!(state.stderr.contains("under way: keys rotate user-signing"), "{state:?}");

    let xkey = keys.join("xkey.nk");
    std::fs::set_permissions(&xkey, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = deployment.cli(&["keys", "rotate", "xkey"]);
    assert_eq!(output.status, 1);
    assert!(output.stderr.contains("chmod 600"), "{output:?}");
    std::fs::set_permissions(&xkey, std::fs::Permissions::from_mode(0o600)).unwrap();
}
