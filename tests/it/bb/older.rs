//! A deployment whose BB takes events itself, as `init` wrote it before there was an intake: it goes on
//! as it is, is told what to change, and is brought over with every event, once.

use nats_callout::internals::{Export, ExportType, Import, NO_LIMIT};
use nats_callout::keys::AccountId;
use serde_json::{Value, json};

use super::{App, Backend, Isolation};
use crate::harness::choice::lacks;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::{accounts, servers};
use crate::intake::field::is_stored;

/// Makes the form of before out of what `init` writes now, which it keeps beside.
fn older(init: &Initialised) {
    for file in [init.server_conf(), init.config()] {
        std::fs::copy(&file, file.with_extension("newer")).expect("a copy");
    }
    match init.mode {
        Mode::Operator => older_tokens(init),
        Mode::Config => older_blocks(init),
    }
    let toml = std::fs::read_to_string(init.config()).expect("a configuration");
    let (before, rest) = toml.split_once("[intake]\n").expect("the section");
    let (_, after) = rest.split_once("\n\n").expect("its end");
    std::fs::write(init.config(), format!("{before}{after}")).expect("a configuration");
}

fn older_blocks(init: &Initialised) {
    let conf = std::fs::read_to_string(init.server_conf()).expect("a configuration");
    let mut conf = conf;
    for name in ["INTAKE", "USERS"] {
        let (before, block) = conf.split_once(&format!("    {name} {{\n")).expect("the account");
        let (block, after) = block.split_once("\n    }\n").expect("its end");
        let (_, nkey) = block.split_once("nkey: ").expect("its user");
        let nkey = nkey.split(',').next().expect("a key").to_owned();
        conf = format!("{before}{after}").replace(&format!(", {nkey}"), "");
    }
    let users = "    USERS {\n exports: [ { stream: \"user.*.Events\", accounts: [BB] }\n\
                 { service: \"user.*.Notifications\", accounts: [BB] } ]\n }\n    BB {\n";
    let conf = conf.replace("    BB {\n", users).replace(", accounts: [INTAKE]", "");
    let mut lines = Vec::new();
    for line in conf.lines() {
        let pooled = line.replace("ReceivedEvents", "PooledEvents");
        let is_kept = line.contains("$JS.API.STREAM.") && line.contains("service:");
        lines.push(line.to_owned());
        if is_kept && pooled != line {
            lines.push(pooled);
        }
        if line.contains("account: USERS, subject: \"user.*.Notifications\"") {
            lines.push(
                "{ stream: { account: USERS, subject: \"user.*.Events\" }, to: \"pool.user.*.Events\" }"
                    .to_owned(),
            );
        }
    }
    std::fs::write(init.server_conf(), lines.join("\n")).expect("a configuration");
}

fn older_tokens(init: &Initialised) {
    let conf = std::fs::read_to_string(init.server_conf()).expect("a configuration");
    let id = |name: &str| -> AccountId { accounts::named(&conf, name).0.parse().expect("an id") };
    let (users, bb) = (id("USERS"), id("BB"));
    let made = ["INFO", "CREATE", "UPDATE"].map(|it| format!("STREAM.{it}.PooledEvents"));
    let conf = accounts::without(&conf, "INTAKE");
    let conf = accounts::with(init, &conf, "USERS", |body| {
        body.limits.leaf = NO_LIMIT;
        body.exports.push(Export::new("user.*.Events".to_owned(), ExportType::Stream));
    });
    let conf = accounts::with(init, &conf, "BB", |body| {
        body.imports.push(Import {
            name: None,
            subject: "user.*.Events".to_owned(),
            account: users,
            local_subject: Some("pool.user.*.Events".to_owned()),
            kind: ExportType::Stream,
        });
        let subjects = made.iter().map(|request| format!("$JS.API.{request}"));
        body.exports.extend(subjects.map(|it| Export::new(it, ExportType::Service)));
    });
    let conf = accounts::with(init, &conf, "AUTH", |body| {
        body.imports.extend(made.iter().map(|request| Import {
            name: None,
            subject: format!("$JS.API.{request}"),
            account: bb,
            local_subject: Some(format!("JS.bb.API.{request}")),
            kind: ExportType::Service,
        }));
    });
    std::fs::write(init.server_conf(), conf).expect("a configuration");
    for file in ["intake.creds", "users.creds", "offline/intake.nk"] {
        std::fs::remove_file(init.dir().join("keys").join(file)).expect("a file");
    }
}

/// What `doctor` says of the intake: states and words.
fn said(deployment: &Deployment) -> Vec<(String, String)> {
    let found = deployment.cli(&["--json", "doctor"]).json();
    let checks = found["checks"].as_array().expect("a list").iter();
    let of = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
    checks
        .filter(|it| it["check"] == "intake")
        .map(|it| (of(it, "state"), of(it, "what")))
        .collect()
}

/// Every event once, under its sender's name, before, between and after the steps; the shared tenants'
/// interruption is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_of_before_is_brought_over_without_a_lost_or_doubled_event() {
    if lacks(Mode::Operator) {
        return;
    }
    let mut deployment = Deployment::start_prepared(Mode::Operator, servers::version(), older);
    let log = deployment.service.log();
    assert!(log.contains("there is no [intake]") && log.contains("\"Taking events in\""), "{log}");
    let found = said(&deployment);
    assert!(found.iter().any(|it| it.0 == "fail" && it.1.contains("there is no [intake]")));

    let backend = Backend::connect(&deployment).await;
    let own = App::add(&deployment, "own", Isolation::Own, &[]).await;
    let shared = App::add(&deployment, "shared", Isolation::Shared, &[]).await;
    // Whose account nobody is connected to any more.
    let robot = App::add(&deployment, "robot", Isolation::Own, &[]).await;
    let mut sent = 0;
    let mut send = async |app: &App| {
        sent += 1;
        app.event(&format!("{sent}")).await;
        backend.holds("ReceivedEvents", sent).await;
    };
    for app in [&own, &shared, &robot] {
        send(app).await;
    }

    let prepared = deployment.cli(&["--json", "keys", "intake"]).success();
    assert!(prepared.json()["account"].as_str().expect("an id").starts_with('A'));
    // Nothing has changed for anybody, the new program's word included.
    for app in [&own, &shared] {
        send(app).await;
    }
    let early = deployment.cli(&["keys", "intake", "--switch"]);
    assert!(early.stderr.contains("0 of 1 instances take events in"), "{early:?}");
    deployment.service.stop();
    deployment.service = deployment.serve().unwrap_or_else(|log| panic!("{log}"));
    for app in [&own, &shared] {
        send(app).await;
    }

    let switched = deployment.cli(&["--json", "keys", "intake", "--switch"]).success();
    let interrupted = switched.json()["interrupted_ms"].as_u64().expect("a time");
    println!("==== events of shared tenants were interrupted for {interrupted} ms ====");
    for app in [&own, &shared] {
        send(app).await;
    }
    // All come by the intake now, which tells: they are acknowledged.
    for app in [&own, &shared] {
        let answer = app.asked("asked").await;
        is_stored(&answer);
    }
    let info = backend.stream("ReceivedEvents").await;
    assert!(info["config"].get("sources").is_none(), "{info}");
    assert!(said(&deployment).iter().all(|it| it.0 == "ok"), "{:?}", said(&deployment));
    // Again does no harm, and the pool is BB's to remove.
    deployment.cli(&["keys", "intake", "--switch"]).success();
    let bb = Backend::connect(&deployment).await;
    bb.connected.jetstream("$JS.API.STREAM.DELETE.PooledEvents", &json!({})).await;
    let mut heard = Vec::new();
    while heard.len() < 9 + 2 {
        heard.push(backend.next_event().await);
    }
    let of = |id: &str| heard.iter().filter(|it| it.0 == format!("user.{id}.Events")).count();
    assert_eq!((of("own"), of("shared"), of("robot")), (5, 5, 1), "{heard:?}");
    // Its account takes events to INTAKE although nobody has logged in.
    let account = deployment.sql("SELECT account FROM tenant_accounts WHERE tenant_id = 'robot'");
    let path = deployment.dir().join("accounts").join(format!("{account}.jwt"));
    let jwt = std::fs::read_to_string(&path).expect("the account");
    let claims = accounts::read(&jwt);
    assert!(claims.body.imports.iter().any(|it| it.subject == "own.robot.Events"), "{claims:?}");
}

/// The lines of deploy/README.md for config mode: what `init` writes now, in the place of what it wrote.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_of_before_is_brought_over() {
    if lacks(Mode::Config) {
        return;
    }
    let mut deployment = Deployment::start_prepared(Mode::Config, servers::version(), older);
    let backend = Backend::connect(&deployment).await;
    let app = App::add(&deployment, "shared", Isolation::Shared, &[]).await;
    app.event("before").await;
    backend.holds("ReceivedEvents", 1).await;
    let refused = deployment.cli(&["keys", "intake"]);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("\"Taking events in\" in deploy/README.md"), "{refused:?}");

    for file in [deployment.server_conf(), deployment.config()] {
        std::fs::copy(file.with_extension("newer"), &file).expect("a copy");
    }
    deployment.server.restart();
    deployment.service.restart();
    deployment.cli(&["keys", "intake", "--switch"]).success();
    let backend = Backend::connect(&deployment).await;
    // The client comes back by itself.
    app.connected.round_trip(&app.subject("back")).await;
    is_stored(&app.asked("after").await);
    backend.holds("ReceivedEvents", 2).await;
    assert!(backend.stream("ReceivedEvents").await["config"].get("sources").is_none());
    assert!(said(&deployment).iter().all(|it| it.0 == "ok"), "{:?}", said(&deployment));
    backend.connected.jetstream("$JS.API.STREAM.DELETE.PooledEvents", &json!({})).await;
}
