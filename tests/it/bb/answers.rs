//! BB asks a tenant with an own account and is answered, where the tenant's row says `answers`;
//! what that costs stands in the account ANSWERS and in no other.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::DirEntry;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use nats_callout::internals::{AccountBody, OperatorId, Parsed};

use super::{App, Backend, Isolation, answer, next};
use crate::events;
use crate::harness::choice::on_both_databases;
use crate::harness::client::Connected;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::{PATIENCE, eventually, eventually_async};

/// The JWT of one of the accounts that `init` made, as the server keeps it.
pub(crate) fn account_jwt(init: &Initialised, key: &str) -> String {
    let toml = std::fs::read_to_string(init.config()).expect("the configuration");
    let line = toml.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
    let id = line.expect("the account").trim_end_matches('"');
    let path = init.dir().join("accounts").join(format!("{id}.jwt"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// How the server refuses or leaves a request without an answer.
async fn unanswered(backend: &Backend, tenant: &str) -> async_nats::RequestErrorKind {
    let subject = format!("user.{tenant}.Notifications");
    let request = async_nats::Request::new()
        .payload("question".into())
        .timeout(Some(Duration::from_millis(500)));
    backend.connected.client.send_request(subject, request).await.expect_err("no answer").kind()
}

/// Each notification comes exactly once. What comes while an account is delivered may come twice:
/// then it is tried again.
async fn notified(init: &Initialised, backend: &Backend, app: &App) {
    let start = Instant::now();
    let mut ear = app.notifications().await;
    loop {
        let before = settled_accounts(init);
        let mut heard = Vec::new();
        for round in 0..3 {
            backend.notify(&app.id, &round.to_string()).await;
        }
        while heard.last().is_none_or(|last| last != "2") {
            let (subject, text) = next(&mut ear).await;
            assert_eq!(subject, "Notifications");
            heard.push(text);
        }
        app.settled().await;
        while let Some(Some(message)) = ear.next().now_or_never() {
            heard.push(String::from_utf8_lossy(&message.payload).into_owned());
        }
        if accounts(init).is_some_and(|after| after == before) {
            assert_eq!(heard, ["0", "1", "2"], "{}", app.id);
            return;
        }
        heard.dedup();
        assert_eq!(heard, ["0", "1", "2"], "{}", app.id);
        assert!(start.elapsed() < PATIENCE, "{}: accounts are delivered all the time", app.id);
    }
}

/// When the server was last given each account; nothing while it is given one.
fn accounts(init: &Initialised) -> Option<BTreeMap<OsString, SystemTime>> {
    let files = std::fs::read_dir(init.dir().join("accounts")).expect("a folder");
    let when = |file: io::Result<DirEntry>| {
        let file = file?;
        Ok((file.file_name(), file.metadata()?.modified()?))
    };
    files.map(when).collect::<io::Result<_>>().ok()
}

/// [`accounts`] once the server has had time to do what they say: it writes them down before.
fn settled_accounts(init: &Initialised) -> BTreeMap<OsString, SystemTime> {
    eventually("a second in which no account is delivered", || {
        let then = SystemTime::from(Timestamp::now() - Duration::from_secs(1));
        accounts(init).filter(|accounts| accounts.values().all(|given| *given < then))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_account_answers_where_it_may() {
    let mut deployment = Deployment::start(Mode::Operator);
    let backend = Backend::connect(&deployment).await;
    let before = account_jwt(&deployment, "bb_account");
    let one = App::add(&deployment, "one", Isolation::Own, &["--answers"]).await;
    let two = App::add(&deployment, "two", Isolation::Own, &["--answers"]).await;
    let mute = App::add(&deployment, "mute", Isolation::Own, &[]).await;
    let shared = App::add(&deployment, "shared", Isolation::Shared, &[]).await;

    // Nobody listens: BB hears so at once, as with any request.
    eventually_async("no responders", || async {
        (unanswered(&backend, "one").await == async_nats::RequestErrorKind::NoResponders)
            .then_some(())
    })
    .await;
    let mut tasks = Vec::new();
    for app in [&one, &two, &mute, &shared] {
        tasks.push(app.answering().await);
    }
    for app in [&one, &two, &shared] {
        for _ in 0..3 {
            assert_eq!(answer(&backend, &app.id).await, format!("answer of {}", app.id));
        }
    }
    unanswered(&backend, "mute").await;
    // The server counts what a second subscription is given as an answer that was given.
    let second = two.notifications().await;
    two.settled().await;
    unanswered(&backend, "two").await;
    two.connected.violation(&["publish", "_r_."]).await;
    drop(second);
    two.settled().await;
    assert_eq!(answer(&backend, "two").await, "answer of two");
    for app in [&one, &two, &mute] {
        notified(&deployment, &backend, app).await;
    }
    assert_eq!(one.connected.errors(), [""; 0]);

    // The list is kept where the server keeps accounts, and what `init` wrote does not replace it.
    assert_eq!(account_jwt(&deployment, "bb_account"), before);
    deployment.server.stop();
    deployment.server.restart();
    for app in [&one, &two] {
        assert_eq!(answer(&backend, &app.id).await, format!("answer of {}", app.id));
    }
}

on_both_databases! {
    /// Rows that another program changes, with the tenants connected.
    async fn the_table_says_who_answers() {
        let deployment = Deployment::start(Mode::Operator);
        let backend = Backend::connect(&deployment).await;
        let one = App::add(&deployment, "one", Isolation::Own, &[]).await;
        let two = App::add(&deployment, "two", Isolation::Own, &[]).await;
        let _answering = [one.answering().await, two.answering().await];
        notified(&deployment, &backend, &one).await;

        deployment.sql("UPDATE tenants SET answers = true WHERE id = 'one'");
        assert_eq!(answer(&backend, "one").await, "answer of one");
        unanswered(&backend, "two").await;
        notified(&deployment, &backend, &one).await;

        deployment.sql("UPDATE tenants SET answers = false WHERE id = 'one'");
        deployment.sql("UPDATE tenants SET answers = true WHERE id = 'two'");
        assert_eq!(answer(&backend, "two").await, "answer of two");
        eventually_async("no answer of one", || async {
            let request = backend.connected.client.request("user.one.Notifications", "q".into());
            tokio::time::timeout(Duration::from_secs(1), request)
                .await
                .map_or(true, |answer| answer.is_err())
                .then_some(())
        })
        .await;
        notified(&deployment, &backend, &one).await;
        notified(&deployment, &backend, &two).await;

        let length = || account_jwt(&deployment, "answers_account").len();
        let with_two = length();
        deployment.sql("DELETE FROM tenants WHERE id = 'two'");
        eventually("an empty list", || (length() < with_two).then_some(()));
        let fault = deployment.cli(&["tenant", "add", "x", "--isolation", "shared", "--answers"]);
        assert_eq!(fault.status, 2, "{fault:?}");
        assert!(fault.stderr.contains("are answered without it"), "{fault:?}");
    }
}

/// Has one tenant more answer, and waits until so many instances have seen so: each of them delivers
/// the account that joins the list before it writes that.
async fn all_look_again(deployment: &Deployment, backend: &Backend, instances: usize) {
    let last = App::add(deployment, "last", Isolation::Own, &[]).await;
    let account = deployment.sql("SELECT account FROM tenant_accounts WHERE tenant_id = 'last'");
    let system = events::login(deployment, Mode::Operator, "sys").await;
    let delivered = system.client.subscribe("$SYS.REQ.CLAIMS.UPDATE");
    let mut delivered = delivered.await.expect("subscribes");
    system.round_trip(&system.client.new_inbox()).await;
    deployment.sql("UPDATE tenants SET answers = true WHERE id = 'last'");
    let mut seen = 0;
    while seen < instances {
        let message = tokio::time::timeout(PATIENCE, delivered.next()).await.expect("a delivery");
        let message = message.expect("the connection is open");
        let token = std::str::from_utf8(&message.payload).expect("a JWT");
        let (claims, _) =
            Parsed::<AccountBody>::parse(token).unwrap().verify::<OperatorId>().unwrap();
        seen += usize::from(claims.subject == account);
    }
    let _answering = last.answering().await;
    assert_eq!(answer(backend, "last").await, "answer of last");
}

/// Several instances write one list: none of them loses what another has added.
#[tokio::test(flavor = "multi_thread")]
async fn instances_agree_on_the_list() {
    let deployment = Deployment::start(Mode::Operator);
    let _others = [deployment.another_service(), deployment.another_service()];
    let backend = Backend::connect(&deployment).await;
    let mut apps = Vec::new();
    for at in 0..6 {
        apps.push(App::add(&deployment, &format!("t{at}"), Isolation::Own, &[]).await);
    }
    let mut tasks = Vec::new();
    for app in &apps {
        tasks.push(app.answering().await);
    }
    for round in 0..4 {
        for at in 0..6 {
            let on = (at + round) % 2 == 0;
            deployment.sql(&format!("UPDATE tenants SET answers = {on} WHERE id = 't{at}'"));
            tokio::time::sleep(Duration::from_millis(130)).await;
        }
    }
    deployment.sql("UPDATE tenants SET answers = true");
    for app in &apps {
        assert_eq!(answer(&backend, &app.id).await, format!("answer of {}", app.id));
    }
    // And so it stays, when each has looked at the table once more.
    all_look_again(&deployment, &backend, 3).await;
    for app in &apps {
        assert_eq!(answer(&backend, &app.id).await, format!("answer of {}", app.id));
        notified(&deployment, &backend, app).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_every_node_of_a_cluster() {
    let cluster = Cluster::start(Mode::Operator, 3);
    cluster.init.tenant_add("one", &["--answers"]);
    let login = cluster.init.user_add("one", "app", &["--kind", "bb"]);
    let mut connected: Vec<Connected> = Vec::new();
    for node in &cluster.nodes[1..] {
        let tenant = crate::harness::client::connect(&node.url(), &login, "_INBOX_one").await;
        connected.push(tenant.unwrap_or_else(|error| panic!("{error}")));
    }
    let app =
        App { id: "one".to_owned(), isolation: Isolation::Own, connected: connected.remove(0) };
    let _answering = app.answering().await;
    let creds = std::fs::read_to_string(cluster.init.dir().join("keys/bb.creds")).expect("creds");
    for node in &cluster.nodes {
        let options = async_nats::ConnectOptions::with_credentials(&creds).expect("creds");
        let connected = crate::harness::client::connect_with(&node.url(), options, "_INBOX").await;
        let backend = Backend { connected: connected.unwrap_or_else(|error| panic!("{error}")) };
        assert_eq!(answer(&backend, "one").await, "answer of one");
    }
}
