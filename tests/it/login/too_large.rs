//! A grant that no message to nats-server could hold is a refusal with its reason, and hurts nobody
//! else.

use super::admitted;
use crate::harness::choice::either_mode;
use crate::harness::client::Login;
use crate::harness::deployment::Deployment;
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, servers};

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_fits_no_message_is_refused() {
    for mode in either_mode() {
        let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
            init.add_to_server_conf("max_payload: 65536");
        });
        deployment.tenant_add("one", &[]);
        let small = deployment.user_add("one", "small", &["--publish", "a"]);
        let large = deployment.user_add("one", "large", &["--publish", "a"]);
        let subjects: Vec<String> = (0..4_360).map(|n| format!("subject.{n:04}")).collect();
        let list = serde_json::to_string(&subjects).unwrap();
        assert!((60_000..65_536).contains(&list.len()), "{}", list.len());
        deployment.sql(&format!("UPDATE users SET publish = '{list}' WHERE name = 'large'"));
        let port = deployment.server.port();
        let verdict = |login: &Login| raw::connect(port, &login.connect_fields()).0;
        eventually("the new list", || matches!(verdict(&large), Verdict::Refused(_)).then_some(()));
        let log = eventually("its line", || {
            let log = deployment.service.log();
            log.contains("refused reason=\"too_large\"").then_some(log)
        });
        assert!(log.contains("raise max_payload"), "{log}");
        admitted(&deployment, &small, "one").await;
        deployment.sql("UPDATE users SET publish = '[\"a\"]' WHERE name = 'large'");
        eventually("the list of before", || (verdict(&large) == Verdict::Admitted).then_some(()));
    }
}
