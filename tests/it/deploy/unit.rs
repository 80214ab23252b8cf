//! The systemd unit: sound, with few rights, and with those that the service needs.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::read;
use crate::harness::deployment::{Initialised, Mode, Table};
use crate::harness::process::Process;
use crate::harness::servers::{self, NatsServer};
use crate::harness::{eventually, loudly, raw, service};

#[test]
fn the_unit_is_sound_and_has_few_rights() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        loudly("SKIPPED: the systemd unit is not checked, since there is no systemd-analyze");
        return;
    }
    let unit = read("nats-callout.service");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("nats-callout.service");
    assert!(unit.contains("/usr/local/bin/nats-callout"));
    fs::write(&copy, unit.replace("/usr/local/bin/nats-callout", "/bin/true")).unwrap();
    let analyze = |args: &[&str]| {
        let output = Command::new("systemd-analyze").args(args).arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    };
    let (is_sound, said) = analyze(&["verify", "--recursive-errors=no"]);
    assert!(is_sound && !said.contains("nats-callout.service:"), "{said}");
    // Out of 100; a unit without any sandboxing has 96.
    let (is_safe, said) = analyze(&["security", "--offline=true", "--threshold=20"]);
    if said.contains("unrecognized option") || said.contains("Unknown") {
        loudly("SKIPPED: this systemd-analyze is too old to judge a unit's rights");
    } else {
        assert!(is_safe, "{said}");
    }
}

/// The calls in a group of systemd's, those of groups inside it included.
fn group(name: &str) -> BTreeSet<String> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let members = text.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#'));
    let members: Vec<&str> = members.filter(|line| !line.is_empty()).collect();
    assert!(!members.is_empty(), "{name} is no group");
    members.into_iter().flat_map(calls).collect()
}

fn calls(word: &str) -> BTreeSet<String> {
    if word.starts_with('@') { group(word) } else { [word.to_owned()].into() }
}

/// The calls that the unit lets through (systemd.exec(5), `SystemCallFilter=`).
fn let_through(unit: &str) -> BTreeSet<String> {
    let mut through = group("@default");
    for words in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (is_denied, words) =
            words.strip_prefix('~').map_or((false, words), |words| (true, words));
        for call in words.split_whitespace().flat_map(calls) {
            if is_denied {
                through.remove(&call)
            } else {
                through.insert(call)
            };
        }
    }
    through
}

/// From the start to the end, with a password that is hashed. What is not let through kills, or
/// fails, a process that systemd has started.
#[test]
fn the_unit_lets_through_what_the_service_calls() {
    for tool in ["strace", "systemd-analyze"] {
        if Command::new(tool).arg("--version").output().is_err() {
            loudly(&format!("SKIPPED: the unit's SystemCallFilter is not checked: no {tool}"));
            return;
        }
    }
    let init = Initialised::new(Mode::Operator);
    let server =
        NatsServer::start(servers::version(), &init.server_conf(), init.port, None).unwrap();
    let login = init.tenant_add("one", &[]);
    let (trace, log) = (init.dir().join("trace"), init.dir().join("serve.log"));
    // -D: the service is our child, and not the child of strace.
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o"]).arg(&trace).arg(service::program().get_program());
    command.arg("serve").arg("--config").arg(init.config());
    command.env("NATS_CALLOUT_HTTP_LISTEN", init.http());
    let mut process = Process::spawn("the traced service", &mut command, &log);
    eventually("the service", || process.log().contains(service::READY).then_some(()));
    // strace takes its time, and a server waits no longer than 2 s.
    eventually("a login", || {
        let (verdict, _) = raw::connect(server.port(), &login.connect_fields());
        (verdict == raw::Verdict::Admitted).then_some(())
    });
    assert!(process.terminate().success());

    let trace = fs::read_to_string(&trace).unwrap();
    let called: BTreeSet<String> = trace
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('))
        .map(|(call, _)| call.to_owned())
        .filter(|call| call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .collect();
    assert!(called.contains("setpriority") && called.len() > 30, "{called:?}");
    let through = let_through(&read("nats-callout.service"));
    // SQLite gives files to their owner where it runs as root, which the unit does not.
    let missing: Vec<_> =
        called.difference(&through).filter(|call| call.as_str() != "fchown").collect();
    assert!(missing.is_empty(), "the unit does not let through {missing:?}");
}

/// The variables that a text sets, and nothing of their files' places.
fn set_in(text: &str, before: &str) -> BTreeSet<String> {
    let set = text.lines().filter_map(|line| line.strip_prefix(before)?.split_once('='));
    set.map(|(name, _)| name.to_owned()).collect()
}

/// Secrets that the unit alone has are given to the commands by the same variables.
#[test]
fn commands_beside_a_unit_with_secrets_of_its_own() {
    let page = read("README.md");
    let (before, rest) = page.split_once("```sh\nexport ").expect("the lines for a shell");
    let lines = format!("export {}", rest.split_once("```").expect("their end").0);
    let (_, dropped) = before.rsplit_once("```ini\n").expect("the drop-in");
    assert_eq!(set_in(&lines, "export "), set_in(dropped, "Environment="));

    let init = Initialised::on(Mode::Config, Table::Default);
    let text = fs::read_to_string(init.config()).unwrap();
    let url = text.lines().find(|line| line.starts_with("url = \"sqlite:")).expect("a URL");
    let issuer = "[issuers.license]\nissuer = \"license\"\naudience = [\"nats\"]\n";
    fs::write(init.config(), format!("{}\n{issuer}", text.replace(url, ""))).unwrap();
    let folder = init.dir().display().to_string();
    let (_, address) = url.split_once('"').unwrap();
    fs::write(init.dir().join("database-url"), address.trim_end_matches('"')).unwrap();
    fs::write(init.dir().join("license.secret"), "a secret of thirty-two bytes or so").unwrap();
    let program = service::program().get_program().to_owned();
    let path = std::path::Path::new(&program).parent().unwrap().display().to_string();
    let run = |script: &str| {
        let script =
            script.replace("/etc/nats-callout", &folder).replace("/var/lib/nats-callout", &folder);
        let path = format!("{path}:{}", std::env::var("PATH").unwrap());
        let shell = Command::new("sh").args(["-e", "-c", &script]).env("PATH", path).output();
        let output = shell.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let bare: Vec<&str> = lines.lines().filter(|line| !line.starts_with("export ")).collect();
    let (is_done, said) = run(&bare.join("\n"));
    let told = "or set NATS_CALLOUT_DATABASE_URL or NATS_CALLOUT_DATABASE_URL_FILE";
    assert!(!is_done && said.contains(told), "{said}");
    assert_eq!(run(&lines), (true, String::new()));
}
