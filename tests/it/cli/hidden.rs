//! Nothing that is not seen reaches the terminal from names and claims.

use crate::harness::deployment::{Initialised, Mode};
use crate::harness::service;

/// A word that colours what follows, and one that turns it round.
const NAME: &str = "al\u{202e}ice\u{1b}[31m";

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
