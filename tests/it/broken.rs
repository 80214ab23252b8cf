//! Broken input: each gets an error that names what, where and what to do, with the exit status of
//! the contract, and nothing half-written stays behind.

mod passwords;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::choice::on_both_databases;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Initialised, Mode, Table};
use crate::harness::raw::{self, Verdict};
use crate::harness::service::{self, Output};
use crate::harness::{eventually, postgres, servers};

/// Panics unless the command failed with `status`, said all of `words`, and printed no result.
#[track_caller]
fn refused(output: &Output, status: i32, words: &[&str]) {
    assert_eq!(output.status, status, "{output:?}");
    assert_eq!(output.stdout, "", "a failure has no result");
    for word in words {
        assert!(output.stderr.contains(word), "no {word:?} in:\n{}", output.stderr);
    }
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn three_mistakes_in_the_configuration_are_reported_together() {
    let init = Initialised::new(Mode::Operator);
    let text = fs::read_to_string(init.config()).unwrap();
    let line = |needle: &str| 1 + text.lines().position(|line| line.contains(needle)).unwrap();
    let (mode, ttl, entries) = (line("mode = "), line("# ttl = \"1h\""), line("# entries"));
    let broken = text
        .replace("mode = \"operator\"", "mode = \"operater\"")
        .replace("# ttl = \"1h\"", "ttl = \"15 parsecs\"")
        .replace("# entries = ", "entires = ");
    fs::write(init.config(), broken).unwrap();
    let at = |line: usize| format!("nats-callout.toml:{line}: ");
    for command in ["list", "serve"] {
        refused(
            &init.cli(&[command]),
            2,
            &[
                "3 mistakes",
                &(at(mode) + "[nats] mode"),
                "\"config\"",
                &(at(ttl) + "[callout] ttl"),
                "`15m`",
                &(at(entries) + "[cache] entires"),
                "did you mean `entries`",
            ],
        );
    }
}

#[test]
fn a_missing_configuration_is_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let output = service::cli(dir.path(), &["--config", "nowhere.toml", "list"]);
    refused(&output, 2, &["nowhere.toml", "No such file", "nats-callout init"]);
}

#[test]
fn a_database_that_cannot_be_reached_is_named() {
    let init = Initialised::new(Mode::Config);
    let with_url = |url: &str, command: &str| {
        let output = service::program()
            .args(["--config", init.config().to_str().unwrap(), command])
            .env("NATS_CALLOUT_DATABASE_URL", url)
            .output()
            .unwrap();
        Output {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    };
    for command in ["list", "serve"] {
        let missing = with_url("sqlite:///no/such/folder/tenants.db", command);
        refused(
            &missing,
            1,
            &["/no/such/folder", "does not exist", "cannot open NATS_CALLOUT_DATABASE_URL:"],
        );
        let file = init.dir().join("no.db");
        fs::write(&file, "this is no database, and long enough to be seen as none".repeat(9))
            .unwrap();
        let no_database = with_url(&format!("sqlite://{}", file.display()), command);
        refused(&no_database, 1, &["no.db", "not an SQLite database", "backup"]);
    }
}

#[test]
fn keys_that_others_can_read_or_nobody_can_use_stop_the_service() {
    let init = Initialised::new(Mode::Operator);
    let keys = init.dir().join("keys");
    let serve = || init.cli(&["serve"]);

    for (path, mode, remedy) in [
        (keys.join("xkey.nk"), 0o644, "chmod 600"),
        (keys.join("offline/operator.nk"), 0o604, "chmod 600"),
        (keys.clone(), 0o757, "chmod go-w"),
    ] {
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let name = path.to_str().unwrap();
        refused(&serve(), 2, &[name, &format!("{mode:04o}"), &format!("{remedy} {name}")]);
        fs::set_permissions(&path, before).unwrap();
    }

    let user_signing = keys.join("user-signing.nk");
    let seed = fs::read_to_string(&user_signing).unwrap();
    for (content, words) in [
        ("", ["user-signing.nk", "empty"]),
        ("garbage", ["user-signing.nk", "SA..."]),
        (
            &fs::read_to_string(keys.join("operator-signing.nk")).unwrap(),
            ["user-signing.nk", "Operator"],
        ),
    ] {
        fs::write(&user_signing, content).unwrap();
        refused(&serve(), 2, &words);
    }
    fs::remove_file(&user_signing).unwrap();
    refused(&serve(), 2, &["user-signing.nk", "No such file"]);
    assert!(seed.starts_with("SA"));
}

#[test]
fn init_overwrites_nothing_and_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let init = |args: &[&str]| {
        let mut all = vec!["init"];
        all.extend(args);
        service::cli(dir.path(), &all)
    };
    fs::create_dir(dir.path().join("full")).unwrap();
    fs::write(dir.path().join("full/precious"), "mine").unwrap();
    refused(&init(&["--dir", "full"]), 1, &["full", "not empty", "--dir"]);
    assert_eq!(entries(&dir.path().join("full")), ["precious"]);

    fs::write(dir.path().join("file"), "mine").unwrap();
    refused(&init(&["--dir", "file"]), 1, &["file"]);
    assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "mine");

    refused(&init(&["--dir", "no/parent"]), 1, &["no", "make"]);
    refused(&init(&["--dir", "new", "--max-memory", "12XB"]), 2, &["12XB", "64MB"]);
    refused(&init(&["--dir", "new", "--listen", "nonsense"]), 2, &["nonsense", "--listen"]);
    refused(&init(&["--dir", "new", "--mode", "both"]), 2, &["both", "operator", "config"]);
    assert_eq!(entries(dir.path()), ["file", "full"], "nothing is left of a failure");
}

#[test]
fn up_says_which_port_is_taken_and_that_there_is_no_server() {
    let init = Initialised::new(Mode::Operator);
    let folder = init.dir();
    let up = |args: &[&str], path: Option<&str>| {
        let mut command = service::program();
        command.args(["up", "--dir", folder.to_str().unwrap()]).args(args);
        command.env("XDG_CACHE_HOME", init.dir().join("cache"));
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let output = command.output().unwrap();
        Output {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    };
    let server = servers::binary(servers::version());
    let server = server.to_str().unwrap();

    let taken = std::net::TcpListener::bind(("127.0.0.1", init.port)).unwrap();
    refused(
        &up(&["--nats-server", server], None),
        1,
        &[&format!("port {} is taken", init.port), "nats-server.conf"],
    );
    drop(taken);

    let nowhere = "/no/such/nats-server";
    refused(&up(&["--nats-server", nowhere], None), 1, &[nowhere]);
    refused(
        &up(&["--nats-server", "/bin/false"], None),
        1,
        &["/bin/false", "does not answer as a nats-server", "--nats-server"],
    );
    let old = servers::binary("2.10.26");
    let old = old.to_str().unwrap();
    refused(&up(&["--nats-server", old], None), 1, &["2.10.26", "2.11.15"]);
    refused(
        &up(&[], Some("/no/such/path")),
        1,
        &["no nats-server on PATH", "Python", "--nats-server"],
    );
}

#[test]
fn up_runs_and_ends_everything_and_is_the_same_the_second_time() {
    up_twice(&Initialised::on(Mode::Operator, Table::Default), None);
    let database = postgres::database();
    let url = database.url();
    let init = Initialised::on(Mode::Operator, Table::Postgres(database));
    up_twice(&init, Some(&url));
    assert_eq!(init.sql("SELECT id FROM tenants;"), "demo");
}

/// A program that is told to end as by Ctrl-C, also where its test has failed.
struct Interrupted(Child);

impl Drop for Interrupted {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let told = Command::new("kill").args(["-INT", &pid]).status();
        let ended = self.0.wait();
        if !std::thread::panicking() {
            assert!(told.unwrap().success() && ended.unwrap().success());
        }
    }
}

fn up_twice(init: &Initialised, database: Option<&str>) {
    let server = servers::binary(servers::version());
    let mut passwords = Vec::new();
    for _ in 0..2 {
        let mut child = service::program()
            .env("NATS_CALLOUT_HTTP_LISTEN", init.http())
            .args(["--json", "up", "--dir", init.dir().to_str().unwrap(), "--nats-server"])
            .arg(&server)
            .args(database.iter().flat_map(|url| ["--database", url]))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        let up = Interrupted(child);
        let made: serde_json::Value = serde_json::Deserializer::from_reader(stdout)
            .into_iter()
            .next()
            .expect("a document")
            .unwrap();
        let password = made["password"].as_str().unwrap().to_owned();
        let fields = Login::password("demo", &password).connect_fields();
        eventually("a login", || {
            (raw::connect(init.port, &fields).0 == Verdict::Admitted).then_some(())
        });
        passwords.push(password);
        drop(up);
        eventually("the server's end", || {
            std::net::TcpStream::connect(("127.0.0.1", init.port)).err()
        });
    }
    assert_eq!(passwords[0], passwords[1]);
}

/// What stands in the place of Python, and of the program that pip would fetch.
const FALSE_PYTHON: &str = "#!/bin/sh
case \"$2\" in
pip)
    case \"$*\" in *--require-hashes*--requirement*) ;; *) exit 1 ;; esac
    while [ \"$1\" != --dest ]; do shift; done
    : > \"$2/other-1-py3-none-any.whl\" ;;
zipfile)
    /bin/mkdir -p \"$5/x.data/scripts\"
    /bin/cp \"$0.evil\" \"$5/x.data/scripts/nats-server\" ;;
esac
";

#[test]
fn up_runs_no_program_but_the_one_that_it_knows() {
    use std::os::unix::fs::PermissionsExt as _;

    let init = Initialised::on(Mode::Operator, Table::Default);
    let (cache, path) = (init.dir().join("cache"), init.dir().join("path"));
    fs::create_dir_all(cache.join("nats-callout")).unwrap();
    fs::create_dir(&path).unwrap();
    let ran = init.dir().join("ran");
    let evil = format!("#!/bin/sh\n: > '{}'\necho 'nats-server: v2.15.1'\n", ran.display());
    for (file, text) in [
        (cache.join("nats-callout/nats-server-2.15.1"), evil.as_str()),
        (path.join("python3.evil"), &evil),
        (path.join("python3"), FALSE_PYTHON),
    ] {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = service::program()
        .args(["up", "--dir", init.dir().to_str().unwrap()])
        .env("XDG_CACHE_HOME", &cache)
        .env("PATH", &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nats-server-2.15.1 is not the nats-server that was fetched"), "{said}");
    assert!(said.contains("holds another program than the one that it should"), "{said}");
    assert!(!ran.exists(), "neither the one of the cache nor the one of the wheel was run");
}

/// A database that cannot be opened is not written down, and that of a deployment stays its own.
#[test]
fn up_takes_no_database_that_it_cannot_use() {
    let parent = tempfile::tempdir().unwrap();
    let up = |dir: &str, url: &str| {
        service::cli(parent.path(), &["up", "--dir", dir, "--database", url])
    };
    let nobody = format!("127.0.0.1:{}", crate::harness::ports::free());
    let output = up("new", &format!("postgres://me:s3cret@{nobody}/tenants"));
    refused(&output, 1, &[&nobody, "tenants", "--database"]);
    assert!(!output.stderr.contains("s3cret"), "{}", output.stderr);
    let database = postgres::database();
    let missing = database.url().replace(database.name(), "no_such_database");
    refused(&up("new", &missing), 1, &["no_such_database", "does not exist"]);
    refused(&up("new", "mysql://h/d"), 2, &["--database", "postgres://"]);
    assert_eq!(entries(parent.path()), [""; 0]);

    let init = Initialised::on(Mode::Operator, Table::Default);
    let output = up(init.dir().to_str().unwrap(), &database.url());
    refused(&output, 2, &["nats-callout.toml", "names another one", "--dir"]);
}

#[test]
fn the_reason_of_a_refusal_is_in_the_service_s_log_alone() {
    let deployment = Deployment::start(Mode::Config);
    let port = deployment.server.port();
    let refused = raw::connect(port, &Login::password("nobody", "x").connect_fields()).0;
    assert_eq!(refused, Verdict::Refused("-ERR 'Authorization Violation'\r\n".to_owned()));
    eventually("the reason in the log", || {
        deployment.service.log().contains("unknown_user").then_some(())
    });
    assert!(!deployment.server.log().contains("unknown"), "{}", deployment.server.log());
}

on_both_databases! {
    fn commands_refuse_what_is_not_legal_and_change_nothing() {
        let init = Initialised::new(Mode::Operator);
        init.tenant_add("shop", &[]);
        let dump = || init.sql("SELECT id FROM tenants UNION SELECT name FROM users ORDER BY 1;");
        let before = dump();
        let cases: [(&[&str], i32, &[&str]); 12] = [
            (&["tenant", "add", "shop"], 1, &["shop", "exists already", "--id"]),
            (&["tenant", "add", "a.b"], 2, &["a.b", "subject token"]),
            (&["tenant", "add", "user.>"], 2, &["user.>", "subject token"]),
            (&["tenant", "add", "ok", "--memory", "lots"], 2, &["lots", "64MB"]),
            (&["tenant", "add", "ok", "--expires", "soon"], 2, &["soon", "30d"]),
            (&["tenant", "add", "ok", "--isolation", "none"], 2, &["none", "account", "shared"]),
            (&["user", "add", "nobody", "app"], 1, &["no such tenant", "nobody", "list"]),
            (&["user", "add", "shop", "shop"], 1, &["shop", "exists already"]),
            (&["user", "add", "shop", "app", "-p", "orders.> q"], 2, &["orders.> q", "blank"]),
            (&["user", "add", "shop", "app", "-s", "a..b"], 2, &["a..b", "empty token"]),
            (&["user", "passwd", "shop", "nobody"], 1, &["no such user", "nobody"]),
            (&["token", "add", "shop", "nobody"], 1, &["no such user", "nobody"]),
        ];
        for (args, status, words) in cases {
            refused(&init.cli(args), status, words);
            let mut json = vec!["--json"];
            json.extend(args);
            refused(&init.cli(&json), status, words);
        }
        let empty = ["user", "add", "shop", "app", "--password-stdin"];
        refused(&init.cli(&empty), 2, &["stdin", "empty"]);
        assert_eq!(dump(), before);
    }
}
