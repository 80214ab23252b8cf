//! Nothing that is not seen reaches the terminal from names and claims.

use crate::harness::deployment::{Initialised, Mode};
use crate::harness::service;

/// A word that colours what follows, and one that turns it round.
const NAME: &str = "al\u{202e}ice\u{1b}[31m";

/// Line breaks and tabs, with which a name says what the program seems to say, and controls of a terminal.
const BROKEN: &str = "al\nqz\tice\u{1b}[31m\n\n\u{7}qz\r";

/// Whatever the command makes of such an argument.
#[test]
fn no_argument_breaks_a_line_or_controls_the_terminal() {
    let init = Initialised::new(Mode::Config);
    init.tenant_add("shop", &[]);
    init.user_add("shop", "alice", &[]);
    let (option, pair) = (format!("--{BROKEN}"), format!("k{BROKEN}=v{BROKEN}"));
    let option_value = format!("--id={BROKEN}");
    for args in [
        &[BROKEN][..],
        &[&option],
        &["list", BROKEN],
        &["list", &option],
        &["init", BROKEN],
        &["init", "--dir", BROKEN],
        &["init", "--memory", BROKEN],
        &["init", "--database", BROKEN],
        &["up", "--dir", BROKEN],
        &["up", BROKEN],
        &["serve", BROKEN],
        &["doctor", BROKEN],
        &["completions", BROKEN],
        &["tenant", BROKEN],
        &["tenant", "add", BROKEN],
        &["tenant", "add", "x", "--id", BROKEN],
        &["tenant", "add", "x", &option_value],
        &["tenant", "add", "x", "--policy", BROKEN],
        &["tenant", "add", "x", "--expires", BROKEN],
        &["tenant", "suspend", BROKEN],
        &["tenant", "resume", BROKEN],
        &["tenant", "remove", BROKEN],
        &["tenant", "remove", BROKEN, "--yes"],
        &["user", "add", BROKEN, "alice"],
        &["user", "add", "shop", BROKEN],
        &["user", "add", "shop", "bob", "--publish", &pair],
        &["user", "add", "shop", "bob", "--policy", BROKEN],
        &["user", "add", "shop", "bob", "--nkey", BROKEN],
        &["user", "add", "shop", "bob", "--certificate", BROKEN],
        &["user", "passwd", "shop", BROKEN],
        &["user", "suspend", "shop", BROKEN],
        &["user", "resume", "shop", BROKEN],
        &["user", "remove", "shop", BROKEN],
        &["user", "remove", "shop", BROKEN, "--yes"],
        &["token", "add", "shop", BROKEN],
        &["token", "add", "shop", "alice", "--label", BROKEN],
        &["token", "add", "shop", "alice", "--expires", BROKEN],
        &["token", "list", "shop", BROKEN],
        &["token", "remove", BROKEN, "--yes"],
        &["keys", "rotate", BROKEN],
        &["keys", "list", "--offline", BROKEN],
        &["policy", "check", BROKEN],
        &["policy", "test", BROKEN],
        &["policy", "explain", BROKEN],
        &["policy", "explain", "shop", BROKEN],
        &["policy", "explain", "shop", "--claim", BROKEN],
        &["policy", "explain", "shop", "--claim", &pair],
        &["show", BROKEN],
        &["show", "shop", BROKEN],
        &["test", BROKEN],
        &["test", "shop", BROKEN],
        &["test", "shop", "alice", "--url", BROKEN],
        &["bench", BROKEN],
        &["bench", "--duration", BROKEN],
        &["bench", "--url", BROKEN],
        &["--config", BROKEN, "list"],
        &["--config", BROKEN, "serve"],
        &["--config", BROKEN, "doctor"],
    ] {
        for json in [&[][..], &["--json"]] {
            let all = [json, args].concat();
            let own = args.contains(&"--config");
            let seen = if own { service::cli(&init.dir(), &all) } else { init.cli(&all) };
            for (stream, text) in [("stdout", &seen.stdout), ("stderr", &seen.stderr)] {
                let is_broken = text.contains("\nqz") || text.contains("al\n");
                let is_control = |c: char| c.is_control() && c != '\n';
                assert!(!is_broken && !text.contains(is_control), "{args:?} {stream}: {text:?}");
            }
            assert!(seen.stdout.len() + seen.stderr.len() > 0, "{args:?}");
        }
    }
}

#[test]
fn no_command_prints_what_is_not_seen() {
    let init = Initialised::new(Mode::Config);
    init.tenant_add("shop", &[]);
    let claim = format!("teams={NAME}");
    let odd = init.dir().join(format!("{NAME}.toml"));
    std::fs::write(&odd, format!("[nats]\n\"{}\" = 1\n", NAME.replace('\u{1b}', "\u{200b}")))
        .unwrap();
    for args in [
        &["test", "shop", NAME][..],
        &["test", NAME],
        &["policy", "explain", NAME],
        &["policy", "explain", "shop", "--claim", &claim],
        &["show", NAME],
        &["show", "shop", NAME],
        &["user", "add", "shop", NAME],
        &["user", "add", "shop", "alice", "--publish", NAME],
        &["user", "passwd", "shop", NAME],
        &["user", "suspend", "shop", NAME],
        &["user", "resume", "shop", NAME],
        &["user", "remove", "shop", NAME, "--yes"],
        &["tenant", "add", NAME],
        &["token", "add", "shop", NAME],
        &["token", "list", "shop", NAME],
        &["keys", "rotate", NAME],
        &["--config", odd.to_str().unwrap(), "list"],
        &["--config", NAME, "list"],
        &[NAME],
    ] {
        for json in [&[][..], &["--json"]] {
            let all = [json, args].concat();
            let own = args.contains(&"--config");
            let seen = if own { service::cli(&init.dir(), &all) } else { init.cli(&all) };
            for (stream, text) in [("stdout", &seen.stdout), ("stderr", &seen.stderr)] {
                assert!(
                    !text.contains(['\u{1b}', '\u{202e}', '\u{200b}']),
                    "{args:?} {stream}: {text:?}"
                );
            }
            let (_, said) = (seen.status, seen.stdout + &seen.stderr);
            let is_named = [r"\u{202e}", r"\u202e", r"\u{200b}"].iter().any(|it| said.contains(it));
            let names_nobody = ["--claim", "rotate"].iter().any(|it| args.contains(it));
            assert!(is_named || names_nobody, "{args:?}: {said}");
        }
    }
}

/// A token in the place of a policy or a label.
#[test]
fn secrets_of_the_wrong_place_are_not_repeated() {
    let init = Initialised::new(Mode::Config);
    init.tenant_add("shop", &[]);
    let secret = "nct_aaaaaaaaaaaaaaaaaaaa";
    let added = init.cli(&["user", "add", "shop", "alice", "--policy", secret]).success();
    assert!(added.stderr.contains("there is no policy `(a secret)`"), "{}", added.stderr);
    init.cli(&["token", "add", "shop", "alice"]).success();
    init.sql(&format!("UPDATE tokens SET label = 'for {secret}';"));
    for args in [&["token", "list"][..], &["--json", "token", "list"]] {
        let listed = init.cli(args).success().stdout;
        assert!(listed.contains("(a secret)") && !listed.contains("aaaaa"), "{listed}");
    }
    for said in [added.stdout, added.stderr] {
        assert!(!said.contains("aaaaa"), "{said}");
    }
}
