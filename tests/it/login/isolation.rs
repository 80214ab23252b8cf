//! Tenants are out of each other's reach: by the account where they own one, by permissions where
//! they share one.

use futures_util::StreamExt as _;

use super::{Bench, Tenant, admitted, echo, tenant};
use crate::harness::PATIENCE;
use crate::harness::choice::lacks;
use crate::harness::client;
use crate::harness::deployment::{Deployment, Mode};

/// `two` hears nothing that `one` says on its subjects: the first message it gets is its own.
async fn unheard(deployment: &Deployment, speaker: &client::Connected, ear: &client::Connected) {
    let mut heard = ear.client.subscribe("user.two.>").await.expect("is sent");
    ear.round_trip("user.two.first").await;
    for subject in ["user.two.Events", "user.two.Notifications", "user.two.echo"] {
        speaker.client.publish(subject, "forged".into()).await.expect("is sent");
    }
    let own = match deployment.mode {
        Mode::Operator => "user.one.settled",
        Mode::Config => "user.one.echo",
    };
    speaker.round_trip(own).await;
    ear.round_trip("user.two.last").await;
    loop {
        let message = tokio::time::timeout(PATIENCE, heard.next())
            .await
            .expect("its own message")
            .expect("the connection is open");
        assert_ne!(message.payload, "forged", "{}", message.subject);
        if message.subject.as_str() == "user.two.last" {
            return;
        }
    }
}

async fn connected(deployment: &Deployment, tenant: &Tenant, prefix: &str) -> client::Connected {
    client::connect(&deployment.url(), &tenant.admin, prefix)
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", deployment.service.log()))
}

async fn own_accounts_do_not_touch(bench: &Bench) {
    let one = admitted(&bench.deployment, &bench.one.admin, bench.one.id).await;
    let two = admitted(&bench.deployment, &bench.two.admin, bench.two.id).await;
    unheard(&bench.deployment, &one, &two).await;

    // The same subject is another one in each account.
    let mut heard = two.client.subscribe("echo").await.expect("subscribes");
    two.round_trip("settled").await;
    one.round_trip("echo").await;
    two.client.publish("echo", "own".into()).await.expect("publishes");
    let message = tokio::time::timeout(PATIENCE, heard.next()).await.expect("a message");
    assert_eq!(message.expect("the connection is open").payload, "own");

    let app = admitted(&bench.deployment, &bench.one.user, bench.one.id).await;
    app.client.publish("user.two.Events", "forged".into()).await.expect("is sent");
    app.violation(&["publish", "user.two.events"]).await;
    let _refused = app.client.subscribe("user.two.>").await.expect("is sent");
    app.violation(&["subscription", "user.two.>"]).await;
    app.round_trip(&echo(Mode::Operator, bench.one.id)).await;
}

async fn shared(deployment: &Deployment, one: &Tenant, two: &Tenant) {
    let speaker = connected(deployment, one, "_INBOX_one").await;
    let ear = connected(deployment, two, "_INBOX_two").await;
    unheard(deployment, &speaker, &ear).await;
    for subject in [
        "user.two.Events",
        "user.two.Notifications",
        "_INBOX_two.x",
        "_INBOX.x",
        "Events",
        "$JS.API.INFO",
        "$SYS.REQ.USER.AUTH",
    ] {
        speaker.client.publish(subject, "forged".into()).await.expect("is sent");
        speaker.violation(&["publish", &format!("\"{subject}\"")]).await;
    }
    for subject in ["user.two.>", "user.*.Events", "user.>", ">", "_INBOX_two.>", "_R_.>"] {
        let _refused = speaker.client.subscribe(subject).await.expect("is sent");
        speaker.violation(&["subscription", &format!("\"{subject}\"")]).await;
    }
    speaker.round_trip("user.one.echo").await;
}

/// Nothing to publish is not everything to publish, and answering is not publishing.
async fn a_service_without_a_publish_list_answers_requests_and_publishes_nothing(bench: &Bench) {
    let deployment = &bench.deployment;
    let answerer = deployment.user_add("one", "answerer", &["--subscribe", "ask"]);
    let answerer = admitted(deployment, &answerer, "one").await;
    let admin = admitted(deployment, &bench.one.admin, "one").await;
    let mut requests = answerer.client.subscribe("ask").await.expect("subscribes");
    let client = answerer.client.clone();
    let serving = tokio::spawn(async move {
        let request = requests.next().await.expect("the connection is open");
        let reply = request.reply.expect("a reply subject");
        client.publish(reply.clone(), "answer".into()).await.expect("is sent");
        client.publish(reply, "a second answer".into()).await.expect("is sent");
    });
    let answer = crate::harness::eventually_async("an answer", || async {
        admin.client.request("ask", "question".into()).await.ok()
    })
    .await;
    assert_eq!(answer.payload, "answer");
    serving.await.expect("no panic");
    answerer.violation(&["publish", "_INBOX"]).await;
    answerer.client.publish("anything", "x".into()).await.expect("is sent");
    answerer.violation(&["publish", "\"anything\""]).await;
    let _refused = answerer.client.subscribe("anything").await.expect("is sent");
    answerer.violation(&["subscription", "\"anything\""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_accounts_and_services_without_a_publish_list_in_operator_mode() {
    if lacks(Mode::Operator) {
        return;
    }
    let bench = Bench::start(Mode::Operator);
    own_accounts_do_not_touch(&bench).await;
    a_service_without_a_publish_list_answers_requests_and_publishes_nothing(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_accounts_are_parted_by_permissions_in_config_mode() {
    let bench = Bench::start(Mode::Config);
    shared(&bench.deployment, &bench.one, &bench.two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_accounts_are_parted_by_permissions_in_operator_mode() {
    if lacks(Mode::Operator) {
        return;
    }
    let deployment = Deployment::start(Mode::Operator);
    let [one, two] = ["one", "two"].map(|id| tenant(&deployment, id, &["--isolation", "shared"]));
    let speaker = connected(&deployment, &one, "_INBOX_one").await;
    speaker.round_trip("user.one.settled").await;
    shared(&deployment, &one, &two).await;
}
