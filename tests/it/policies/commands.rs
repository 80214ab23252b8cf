//! `policy check`, `policy test` and `policy explain`: what a person sees of policies.

use std::path::Path;

use serde_json::{Value, json};

use super::{user, with_files};
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::service::{Output, cli};

const SOUND: &str = "\
# Readers of one team's news.

[account]
publish = [\"news.{{claims.teams}}\"]
subscribe = [\"_INBOX.>\"]
presets = [\"read bucket settings-{{tenant.id}}\"]
allow_from = [\"10.0.0.0/8\"]
times = [\"Mon-Fri 08:00-18:00\"]
timezone = \"Europe/Berlin\"
ttl = 300

[shared]
";

const TABLE: &str = "\
[[case]]
name = \"a Monday morning\"
form = \"account\"
tenant = \"42\"
user = \"alice\"
address = \"10.1.2.3\"
at = \"2026-03-30T08:00:00+02:00\"
claims = { teams = [\"red\", \"blue\"] }
may_publish = [\"news.red\", \"news.blue\", \"$JS.API.DIRECT.GET.KV_settings-42.$KV.settings-42.k\"]
may_not_publish = [\"news.green\", \"$KV.settings-42.k\", \"$JS.API.STREAM.INFO.KV_settings-43\"]
ttl = 300
until = \"2026-03-30T16:00:00Z\"

[[case]]
name = \"a Sunday\"
form = \"account\"
tenant = \"42\"
user = \"alice\"
address = \"10.1.2.3\"
at = \"2026-03-29T12:00:00Z\"
claims = { teams = \"red\" }
denied = \"time\"

[[case]]
name = \"from elsewhere\"
form = \"account\"
tenant = \"42\"
user = \"alice\"
address = \"11.1.2.3\"
denied = \"address\"

[[case]]
name = \"without the claim\"
form = \"account\"
tenant = \"42\"
user = \"alice\"
address = \"10.1.2.3\"
at = \"2026-03-30T12:00:00Z\"
denied = \"policy\"
";

pub(super) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn run(folder: &Path, args: &[&str]) -> Output {
    cli(folder, &[args, &["."]].concat())
}

#[test]
fn claims_within_an_object_are_written_either_way() {
    const POLICY: &str = "[account]\npublish = [\"r.{{claims.realm_access.roles}}\"]\n[shared]\n";
    let case = |claims: &str| {
        format!(
            "[[case]]\nname = \"a\"\nform = \"account\"\ntenant = \"42\"\nuser = \"alice\"\n{claims}\n\
             may_publish = [\"r.staff\"]\nmay_not_publish = [\"r.guest\"]\n"
        )
    };
    let table = [
        "claims.realm_access.roles = [\"staff\"]",
        "claims = { \"realm_access.roles\" = \"staff\" }",
        "claims = { realm_access = { roles = [\"staff\"] } }",
    ];
    let table: String = table.map(case).concat();
    let folder = folder(&[("one.toml", POLICY), ("one.test.toml", &table)]);
    let tested = run(folder.path(), &["policy", "test"]).success();
    assert!(tested.stdout.ends_with("3 cases, 0 failed\n"), "{tested:?}");
}

/// With a configuration, what its issuers name is looked for too.
#[test]
fn a_policy_that_an_issuer_names_has_to_be_there() {
    let folder = folder(&[(
        "nats-callout.toml",
        "[nats]\nmode = \"config\"\n[callout]\nissuer = [\"issuer.nk\"]\n\
         [database]\nurl = \"sqlite://t.db\"\n[issuers.kc]\nissuer = \"https://kc.example.com\"\n\
         audience = [\"nats\"]\nusers = \"policy\"\ntenant = \"shop\"\npolicy = \"gone\"\n",
    )]);
    let checked = cli(folder.path(), &["policy", "check"]);
    assert_eq!(checked.status, 2, "{checked:?}");
    assert!(
        checked.stderr.contains("[issuers.kc] policy: there is no policy `gone`"),
        "{checked:?}"
    );
    let checked = cli(folder.path(), &["--json", "policy", "check"]).json();
    assert_eq!(
        (&checked["sound"], &checked["problems"][0]["key"]),
        (&json!(false), &json!("[issuers.kc] policy"))
    );
}

#[test]
fn sound_policies() {
    let folder = folder(&[("news.toml", SOUND), ("news.test.toml", TABLE)]);
    let checked = run(folder.path(), &["policy", "check"]).success();
    assert!(
        checked.stdout.contains("news") && checked.stdout.contains("./news.toml"),
        "{checked:?}"
    );
    assert!(!checked.stderr.contains("warning"), "{checked:?}");
    let checked = run(folder.path(), &["--json", "policy", "check"]).success().json();
    assert_eq!(checked["sound"], true);
    let names: Vec<&Value> =
        checked["policies"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["admin", "bb", "news", "service"]);

    let tested = run(folder.path(), &["policy", "test"]).success();
    assert!(tested.stdout.contains("ok    news: a Sunday"), "{tested:?}");
    assert!(tested.stdout.ends_with("4 cases, 0 failed\n"), "{tested:?}");
    let tested = run(folder.path(), &["--json", "policy", "test"]).success().json();
    assert_eq!((&tested["cases"], &tested["failed"]), (&json!(4), &json!(0)));

    // Without a configuration and a folder: those that are built in.
    let shipped = cli(folder.path(), &["policy", "test"]).success();
    assert!(shipped.stderr.contains("no configuration here"), "{shipped:?}");
    assert!(shipped.stdout.contains("ok    service: "), "{shipped:?}");
    assert!(
        cli(folder.path(), &["policy", "check"])
            .success()
            .stdout
            .contains("shipped policies/bb.toml")
    );
}

#[test]
fn a_case_that_is_not_so() {
    let table = TABLE
        .replace("may_publish = [\"news.red\"", "may_publish = [\"news.pink\"")
        .replace("may_not_publish = [\"news.green\"", "may_not_publish = [\"news.red\"")
        .replace("ttl = 300", "ttl = 301")
        .replace("denied = \"time\"", "denied = \"address\"")
        .replace("denied = \"policy\"", "responses = true");
    let folder = folder(&[("news.toml", SOUND), ("news.test.toml", &table)]);
    let tested = run(folder.path(), &["policy", "test"]);
    assert_eq!(tested.status, 1, "{tested:?}");
    for words in [
        "FAIL  news: a Monday morning  (./news.test.toml:1)",
        "expected  may_publish news.pink",
        "nothing allows it; there are",
        "expected  may_not_publish news.red",
        "seen      it is allowed by news.red",
        "expected  ttl = 301",
        "seen      ttl = 300",
        "FAIL  news: a Sunday  (./news.test.toml:14)",
        "seen      refused: time",
        "ok    news: from elsewhere",
        "seen      refused: policy: the login brings no claim `teams`",
        "4 cases, 3 failed",
    ] {
        assert!(tested.stdout.contains(words), "no {words} in:\n{}", tested.stdout);
    }
    let tested = run(folder.path(), &["--json", "policy", "test"]);
    let found = tested.json();
    assert_eq!((tested.status, &found["failed"]), (1, &json!(3)));
    assert_eq!(
        (&found["results"][1]["line"], &found["results"][1]["passed"]),
        (&json!(14), &json!(false))
    );
}

#[test]
fn every_mistake_of_every_file_at_once() {
    let folder = folder(&[
        (
            "one.toml",
            "[account]\npublish = [\n  \"a b\",\n  \"x.{{user.id}}\",\n]\nsubs = 5\npublsh = []\n\
                      allow_from = [\"10.0.0.1/8\"]\ntimes = [\"08:00\"]\nconnections = [\"tcp\"]\nttl = \"5m\"\n\
                      responses = { max = 0, expires = 1 }\nrefuse_connections = [\"mqtt\"]\n[shared]\nrenew = \"no\"\nttl = 9\n",
        ),
        (
            "two.toml",
            "[account]\npresets = [\"drink stream X\", \"read bucket a.b\"]\ntimezone = \"Mars\"\n\
                      allowed_connection_types = [\"MQTT\"]\npayload = 1\nsrc = []\ndata = 1\nallow_from = []\n\
                      [shared]\npublish = [\"_R_.>\", \"orders.>\", \"user.{{tenant.id}}{{user.name}}.>\", \"user.*.x\"]\n\
                      subscribe = [\"_R_.>\", \"_INBOX.>\", \"user.{{tenant.id}}.ok\"]\npresets = [\"read bucket a\"]\n\
                      responses = { max = 1, expires = 1 }\njetstream_publish = [\"$JS.API.>\"]\ndeny_publish = [\"orders.>\"]\n\
                      connections = [\"nats\", \"leafnode\"]\n",
        ),
        ("three.toml", "[account]\npublish = [\n"),
        ("four.toml", "publish = []\n[acount]\n[account]\n"),
    ]);
    let checked = run(folder.path(), &["policy", "check"]);
    assert_eq!((checked.status, checked.stdout.as_str()), (2, ""), "{checked:?}");
    for words in [
        "one.toml:3: [account] publish: `a b` is no subject: it holds a blank or a control character;",
        "one.toml:4: [account] publish: `{{user.id}}` is no placeholder; there are tenant.id,",
        "one.toml:6: [account] subs: nats-server ignores this in the JWTs of an auth callout; limit",
        "one.toml:7: [account] publsh: unknown key; did you mean `publish`?",
        "one.toml:8: [account] allow_from: `10.0.0.1/8` has bits behind its prefix; write \"10.0.0.0/8\"",
        "one.toml:9: [account] times: `08:00`: no time from and to",
        "one.toml:10: [account] connections: `tcp` is no type of connection; there are nats, websocket",
        "one.toml:11: [account] ttl: no number of seconds; write whole seconds",
        "one.toml:12: [account] responses: `max` and `expires` are whole numbers",
        "one.toml:13: [account] refuse_connections: unknown key; list those that may connect",
        "one.toml:15: [shared] renew: neither true nor false; write true or false, without quotes",
        "one.toml:16: [shared] ttl: too short a life for a grant; write 10 or more",
        "two.toml:2: [account] presets: `drink stream X` is no preset; there are: publish P to stream S,",
        "two.toml:2: [account] presets: `a.b` is not one name;",
        "two.toml:3: [account] timezone: without `times`",
        "two.toml:4: [account] allowed_connection_types: nats-server ignores this",
        "two.toml:5: [account] payload: nats-server ignores this",
        "two.toml:6: [account] src: nats-server ignores this in the JWTs of an auth callout; write allow_from",
        "two.toml:7: [account] data: nats-server ignores this",
        "two.toml:8: [account] allow_from: an empty list lets nobody in",
        "two.toml:10: [shared] publish: `orders.>` leads out of the tenant's own subjects; tenants",
        "two.toml:10: [shared] publish: `user.{{tenant.id}}{{user.name}}.>` leads out",
        "two.toml:10: [shared] publish: `user.*.x` leads out",
        "two.toml:11: [shared] subscribe: `_R_.>` leads out",
        "two.toml:11: [shared] subscribe: `_INBOX.>` leads out",
        "two.toml:12: [shared] presets: JetStream's subjects are the same for all tenants",
        "two.toml:13: [shared] responses: the reply subject is the requester's to choose",
        "two.toml:14: [shared] jetstream_publish: JetStream's subjects are the same",
        "two.toml:16: [shared] connections: who has a leaf node sends under any name",
        "three.toml:",
        "four.toml:1: publish: a key outside of any section",
        "four.toml:2: [acount]: unknown section; did you mean [account]?",
        "four.toml: [shared]: missing; write it; an empty section grants nothing",
    ] {
        assert!(checked.stderr.contains(words), "no {words} in:\n{}", checked.stderr);
    }
    let json = run(folder.path(), &["--json", "policy", "check"]);
    let found = json.json();
    assert_eq!((json.status, &found["sound"]), (2, &json!(false)));
    let problems = found["problems"].as_array().unwrap().len();
    assert!(
        checked.stderr.contains(&format!("{problems} mistakes in the policies:")),
        "{problems}"
    );
    assert_eq!(checked.stderr.lines().count(), problems + 1, "{}", checked.stderr);

    // The service does not begin with them either.
    assert_eq!(run(folder.path(), &["policy", "test"]).status, 2);
    assert_eq!(cli(folder.path(), &["policy", "check", "nowhere"]).status, 2);
}

/// What files hold makes no line of its own where it is repeated.
#[test]
fn no_value_of_a_file_makes_a_line() {
    let policy = "[account]\nconnections = [\"x\\u000aFAKE log line\"]\n\"k\\u000aFAKE key\" = 5\n[shared]\n";
    let broken = folder(&[("a\nFAKE name.toml", policy)]);
    let checked = run(broken.path(), &["policy", "check"]);
    assert_eq!(checked.status, 2, "{checked:?}");
    assert!(!checked.stderr.lines().any(|line| line.starts_with("FAKE")), "{checked:?}");
    for words in [
        r"a\nFAKE name.toml:2: [account] connections: `x\nFAKE log line` is no type of connection",
        r"a\nFAKE name.toml:3: [account] k\nFAKE key: unknown key",
    ] {
        assert!(checked.stderr.contains(words), "no {words} in:\n{}", checked.stderr);
    }

    let case = "[[case]]\nname = \"x\\u000aok    a: name\"\nform = \"account\"\ntenant = \"42\"\nuser = \"a\"\n\
                may_publish = [\"ro\\u000aok    office: everything\"]\n";
    let sound = "[account]\n[shared]\n";
    let sound = folder(&[("a\nok  b.toml", sound), ("a\nok  b.test.toml", case)]);
    let tested = run(sound.path(), &["policy", "test"]);
    assert_eq!(tested.status, 1, "{tested:?}");
    assert!(!tested.stdout.lines().any(|line| line.starts_with("ok")), "{tested:?}");
    assert!(tested.stdout.contains(r"may_publish ro\nok    office: everything"), "{tested:?}");
    let checked = run(sound.path(), &["policy", "check"]).success();
    assert!(!checked.stdout.lines().any(|line| line.starts_with("ok")), "{checked:?}");
}

/// A claim is any value that a JWT can have, and a policy sees of it what it sees at a login.
#[test]
fn claims_of_every_kind() {
    const POLICY: &str = "[account]\npublish = [\"r.{{claims.roles}}\"]\n[shared]\n";
    let case = "[[case]]\nname = \"a\"\nform = \"account\"\ntenant = \"42\"\nuser = \"alice\"\n";
    let table: String = [("5", "5"), ("[true]", "true"), ("[\"x\", 5, { a = 1 }]", "x")]
        .map(|(claim, seen)| {
            format!("{case}claims = {{ roles = {claim} }}\nmay_publish = [\"r.{seen}\"]\n")
        })
        .concat();
    let sound = folder(&[("one.toml", POLICY), ("one.test.toml", &table)]);
    run(sound.path(), &["policy", "test"]).success();
    let table = format!("{case}claims.roles = 2026-03-30\n");
    let dated = folder(&[("one.toml", POLICY), ("one.test.toml", &table)]);
    let tested = run(dated.path(), &["policy", "test"]);
    let words = "one.test.toml:6: a date, which no JWT has; write it as text";
    assert!(tested.status == 2 && tested.stderr.contains(words), "{tested:?}");
}

#[test]
fn tables_with_mistakes_and_policies_without_tables() {
    let sound = "[account]\n[shared]\n";
    let case = "[[case]]\nname = \"x\"\nform = \"account\"\ntenant = \"42\"\nuser = \"a\"\n";
    for (table, words) in [
        ("[[case]]\nname = \"x\"\n", "news.test.toml:1"),
        (&format!("{case}denyed = \"time\"\n"), "news.test.toml:6"),
        (
            &format!("{case}denied = \"thyme\"\n"),
            "news.test.toml:6: denied: `thyme` is none; write policy",
        ),
        (&format!("{case}denied = \"time\"\nttl = 1\n"), "expects a refusal and a grant"),
        (&case.replace("account", "own"), "form: `own` is none; write account or shared"),
        (&case.replace("42", "4 2"), "news.test.toml:4: tenant: `4 2` is none"),
        (
            &format!("{case}at = \"noon\"\n"),
            "news.test.toml:6: at: `noon` is none; write an RFC 3339 time",
        ),
    ] {
        let folder = folder(&[("news.toml", sound), ("news.test.toml", table)]);
        let tested = run(folder.path(), &["policy", "test"]);
        assert_eq!(tested.status, 2, "{table}: {tested:?}");
        assert!(tested.stderr.contains(words), "no {words} in {}", tested.stderr);
    }
    let alone = folder(&[("old.test.toml", case)]);
    let tested = run(alone.path(), &["policy", "test"]);
    assert!(tested.status == 2 && tested.stderr.contains("a table without a policy"), "{tested:?}");

    let presets = "[account]\npresets = [\"read bucket a\"]\n[shared]\n";
    let untested = folder(&[("news.toml", presets)]);
    let checked = run(untested.path(), &["policy", "check"]).success();
    assert!(
        checked.stderr.contains("warning: ./news.toml: no test table; write ./news.test.toml"),
        "{checked:?}"
    );
    assert!(
        checked.stderr.contains("news.toml:2: [account] presets: without an inbox"),
        "{checked:?}"
    );
    run(untested.path(), &["policy", "test"]).success();
}

/// The block of README that begins with this line, without it.
fn readme(first: &str) -> &'static str {
    let text = include_str!("../../../README.md");
    let (_, block) = text.split_once(&format!("```toml\n{first}\n")).expect(first);
    block.split_once("```").unwrap().0
}

#[test]
fn the_example_of_the_readme() {
    let (policy, table) = (readme("# policies/orders.toml"), readme("# policies/orders.test.toml"));
    let folder = folder(&[("orders.toml", policy), ("orders.test.toml", table)]);
    let tested = run(folder.path(), &["policy", "test"]).success();
    assert!(
        tested.stdout.ends_with("2 cases, 0 failed\n") && tested.stderr.is_empty(),
        "{tested:?}"
    );
}

/// The decision is the service's own: what is explained is what the server then enforces.
#[test]
fn what_a_user_gets_and_why() {
    for mode in [Mode::Operator, Mode::Config] {
        let deployment = with_files(mode, &[("news.toml", SOUND)]);
        let own = mode == Mode::Operator;
        deployment.tenant_add("shop", &["--memory", "16MB", "--storage", "64MB"]);
        user(&deployment, "alice", "news");
        let explain = |status: i32, args: &[&str]| {
            let output = deployment.cli(&[&["--json", "policy", "explain"], args].concat());
            assert_eq!(output.status, status, "{output:?}");
            output.json()
        };

        let admin = explain(0, &["shop"]);
        assert_eq!(admin["policy"], json!({ "name": "admin", "by": "users.policy" }));
        let isolation = if own { "account" } else { "shared" };
        assert_eq!(admin["isolation"], isolation);
        let rows = |found: &Value| -> Vec<String> {
            let list = found["permissions"].as_array().unwrap().clone();
            let words = |row: &Value| {
                let word = |key: &str| row[key].as_str().unwrap().to_owned();
                format!("{} {} {}", word("permission"), word("subject"), word("from"))
            };
            list.iter().map(words).collect()
        };
        let lines = rows(&admin);
        let wanted = if own {
            "publish > shipped policies/admin.toml:5"
        } else {
            "publish user.shop.> shipped policies/admin.toml:10"
        };
        assert!(lines.contains(&wanted.to_owned()), "{lines:#?}");
        // The same as the server is told.
        let tested = deployment.cli(&["--json", "test", "shop"]).success().json();
        let allowed = tested["permissions"]["publish"]["allow"].as_array().unwrap().len();
        let published = lines.iter().filter(|line| line.starts_with("publish ")).count();
        assert_eq!(published, allowed, "{lines:#?}");

        if !own {
            let nothing = explain(0, &["alice"]);
            assert_eq!(rows(&nothing), ["deny_publish > built in", "deny_subscribe > built in"]);
            continue;
        }
        let tomorrow = deployment.cli(&["policy", "explain", "alice", "--at", "tomorrow"]);
        assert!(tomorrow.stderr.contains("write it as 2027-01-31T18:00:00Z"), "{tomorrow:?}");
        let monday = ["alice", "--address", "10.1.1.1", "--at", "2026-03-30T12:00:00Z"];
        let claims = ["--claim", "teams=red", "--claim", "teams=blue"];
        let found = explain(0, &[&monday[..], &claims].concat());
        let lines = rows(&found);
        for (words, line) in [
            ("publish news.blue ", ":4"),
            ("publish news.red ", ":4"),
            (
                "publish $JS.API.STREAM.INFO.KV_settings-shop ",
                ":6 (read bucket settings-{{tenant.id}})",
            ),
            ("subscribe _INBOX.> ", ":5"),
        ] {
            assert!(
                lines.iter().any(|it| it.starts_with(words) && it.ends_with(line)),
                "{lines:#?}"
            );
        }
        assert_eq!(found["until"]["at"], "2026-03-30T16:00:00Z");
        assert!(found["until"]["from"].as_str().unwrap().ends_with("news.toml:8"), "{found}");
        assert_eq!(found["ttl"]["seconds"], 300);
        assert_eq!(found["expires_at"], "2026-03-30T12:05:00Z");
        assert_eq!(found["renewed"], true);
        let evening = ["alice", "--address", "10.1.2.3", "--at", "2026-03-30T17:58:00+02:00"];
        let bounded = explain(0, &[&evening[..], &claims].concat());
        assert_eq!(
            (&bounded["expires_at"], &bounded["renewed"]),
            (&bounded["until"]["at"], &json!(false))
        );

        let refused = explain(1, &monday);
        assert_eq!(refused["reason"], "policy");
        assert_eq!(
            refused["message"],
            "the login brings no claim `teams` that is a text, a number, true, false or a list of them"
        );
        assert!(refused["from"].as_str().unwrap().ends_with("news.toml:4"), "{refused}");
        let nowhere = explain(1, &["alice"]);
        assert!(
            nowhere["message"].as_str().unwrap().ends_with("assume another with --address ADDRESS")
        );
        let late = [&monday[..3], &["--at", "2026-03-30T18:30:00+02:00"], &claims].concat();
        assert_eq!(explain(1, &late)["reason"], "time");
        let text = deployment.cli(&[&["policy", "explain"], &monday[..], &claims].concat());
        let text = text.success().stdout;
        for words in
            ["PERMISSION", "news.red", "policies/news.toml:4", "ttl", "300 s", "section [account]"]
        {
            assert!(text.contains(words), "no {words} in:\n{text}");
        }

        deployment.sql("UPDATE users SET status = 'suspended' WHERE name = 'alice';");
        assert_eq!(explain(1, &["alice"])["reason"], "user_suspended");
        deployment.sql("UPDATE users SET status = 'active', policy = 'gone' WHERE name = 'alice';");
        let gone = explain(1, &["alice"]);
        assert!(
            gone["message"].as_str().unwrap().contains("`gone`, which does not exist"),
            "{gone}"
        );
        let nobody = deployment.cli(&["policy", "explain", "nobody"]);
        assert!(nobody.status == 1 && nobody.stderr.contains("no user nobody"), "{nobody:?}");
    }
}

#[test]
fn a_policy_that_there_is_not_is_warned_of() {
    let init = Initialised::new(Mode::Config);
    let warned =
        "warning: there is no policy `nosuch`, and whoever has it is refused; there are: admin";
    for (args, is_warned) in [
        (&["tenant", "add", "one", "--policy", "nosuch"][..], true),
        (&["user", "add", "one", "two", "--policy", "nosuch"], true),
        (&["user", "add", "one", "three", "--policy", "bb"], false),
    ] {
        let added = init.cli(args).success();
        assert_eq!(added.stderr.contains(warned), is_warned, "{args:?}: {}", added.stderr);
    }
}
