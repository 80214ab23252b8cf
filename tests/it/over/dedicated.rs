//! An account of config mode that one tenant has for itself. No server takes anything away from it: what
//! it sends to BB while its tenant is suspended is dropped by the intake.

use async_nats::{Message, Subscriber};

use super::robots::{deliver_to_events, listen, next};
use crate::bb::Backend;
use crate::harness::client::{self, Login};
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::{eventually_async, servers};
use crate::intake::field::{error, event, is_stored};
use crate::within::changes::crowd::Held;

const DEDICATED: &str = "dedicated = { ALICE = \"42\" }";
const PLACED: &str = "UPDATE tenants SET account = 'ALICE' WHERE id = '42'";

/// What the account's consumer says, and what its own user says while the tenant is suspended.
const BY_ITSELF: &str = "by itself";
const DROPPED: &str = "dropped";

/// Writes the tenant's account as deploy/README.md says, with JetStream and a user that no callout is asked
/// about.
fn place(init: &Initialised) {
    let page = include_str!("../../../deploy/README.md");
    assert!(page.contains(DEDICATED) && page.contains(PLACED), "another account or tenant");
    let (_, block) = page.split_once("```text\n    ALICE {\n").expect("the account");
    let (block, _) = block.split_once("```").expect("its end");
    let account = format!(
        "\naccounts {{\n    ALICE {{\n        jetstream {{ max_mem: 1MB, max_file: 16MB }}\n        \
         users: [ {{ user: robot, password: robot }} ]\n{block}"
    );
    let conf = std::fs::read_to_string(init.server_conf()).expect("a configuration");
    let conf = conf.replacen("\naccounts {\n", &account, 1);
    let conf = conf.replacen("auth_users: [ ", "auth_users: [ robot, ", 1);
    std::fs::write(init.server_conf(), conf).expect("a configuration");
    init.set("dedicated", DEDICATED.trim_start_matches("dedicated = "));
}

/// Waits for an event of the tenant's.
async fn hear(ear: &mut Subscriber, text: &str) {
    loop {
        let Message { subject, payload, .. } = next(ear).await;
        let heard = String::from_utf8_lossy(&payload);
        assert!(!heard.contains(DROPPED), "{heard}");
        if heard.contains(text) {
            assert_eq!(subject.as_str(), "user.42.Events", "{heard}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dedicated_account_sends_while_its_tenant_is_suspended_is_dropped() {
    let deployment = Deployment::start_prepared(Mode::Config, servers::version(), place);
    let url = deployment.url();
    let backend = Backend::connect(&deployment).await;
    let login = deployment.tenant_add("42", &[]);
    deployment.sql(PLACED);
    deployment.tenant_add("witness", &[]);
    let witness = deployment.user_add("witness", "app", &["--kind", "bb"]);
    let witness = client::connect(&url, &witness, "_INBOX_witness").await.expect("connects").client;

    let mut ear = listen(&backend).await;
    let admin = client::connect(&url, &login, "_INBOX").await.expect("connects");
    is_stored(&event(&admin.client, "Events", "asked").await);
    hear(&mut ear, "asked").await;
    is_stored(&event(&admin.client, "user.42.Events", "by the long name").await);
    hear(&mut ear, "by the long name").await;
    deliver_to_events(&admin, BY_ITSELF).await;
    hear(&mut ear, BY_ITSELF).await;
    drop(admin);

    let mut held = Held::connect(deployment.server.port(), &login);
    deployment.cli(&["tenant", "suspend", "42"]).success();
    held.wait_closed();
    client::refused(&url, &login).await;
    let robot = Login::password("robot", "robot");
    let robot = client::connect(&url, &robot, "_INBOX").await.expect("nobody is asked").client;
    let mut delivered = robot.subscribe("Events").await.expect("subscribes");
    let is_refused = async || {
        let answer = event(&robot, "Events", DROPPED).await;
        answer.get("error").is_some().then(|| {
            assert_eq!(error(&answer).1, "the tenant is suspended or has expired");
        })
    };
    eventually_async("a refusal", is_refused).await;

    // What was under way has arrived before the first of these.
    let mut ear = listen(&backend).await;
    let first = is_stored(&event(&witness, "user.witness.Events", "first").await);
    for _ in 0..3 {
        while !String::from_utf8_lossy(&next(&mut delivered).await.payload).contains(BY_ITSELF) {}
    }
    robot.publish("Events", DROPPED.into()).await.expect("is sent");
    is_refused().await.expect("it is suspended yet");
    let second = is_stored(&event(&witness, "user.witness.Events", "second").await);
    assert_eq!(second, first + 1, "something was stored between them");

    deployment.cli(&["tenant", "resume", "42"]).success();
    hear(&mut ear, BY_ITSELF).await;
    let admin = eventually_async("the login", || async {
        client::connect(&url, &login, "_INBOX").await.ok()
    })
    .await;
    is_stored(&event(&admin.client, "Events", "asked again").await);
    hear(&mut ear, "asked again").await;
    robot.publish("Events", "plain again".into()).await.expect("is sent");
    hear(&mut ear, "plain again").await;
}
