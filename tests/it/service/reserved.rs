//! The accounts of the system are nobody's, whatever the tenant table says: no login is placed in
//! one, and no JWT of one is ever made from a tenant's row.

use nats_callout::internals::keyfile;

use super::decided;
use crate::harness::choice::lacks;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::eventually;
use crate::harness::raw::{self, Verdict};

fn id(deployment: &Deployment, key: &str) -> String {
    let seed = keyfile::read_secret(&deployment.dir().join("keys/offline").join(key)).unwrap();
    nkeys::KeyPair::from_seed(seed.trim()).unwrap().public_key()
}

#[test]
fn a_row_that_names_an_account_of_the_system_gets_nobody_in() {
    if lacks(Mode::Operator) {
        return;
    }
    let deployment = Deployment::start(Mode::Operator);
    let good = deployment.tenant_add("good", &["--storage", "1MB"]).connect_fields();
    let port = deployment.server.port();
    let resolver = deployment.dir().join("accounts");
    let keys = ["sys.nk", "auth.nk", "bb.nk", "users.nk", "answers.nk", "events.nk", "intake.nk"];
    let evil = keys.map(|key| {
        let account = id(&deployment, key);
        let tenant = format!("evil-{}", &key[..key.len() - 3]);
        let login = deployment.tenant_add(&tenant, &["--storage", "1MB"]).connect_fields();
        deployment.sql(&format!(
            "INSERT INTO tenant_accounts (tenant_id, account) VALUES ('{tenant}', '{account}');"
        ));
        (key, account, login)
    });
    let stored =
        |account: &str| std::fs::read_to_string(resolver.join(format!("{account}.jwt"))).unwrap();
    // Beside each other: the server waits for an answer in vain.
    std::thread::scope(|scope| {
        for (key, account, login) in &evil {
            let before = stored(account);
            let (deployment, stored) = (&deployment, &stored);
            scope.spawn(move || {
                let said = format!(
                    "{account} is one of SYS, AUTH, BB, ANSWERS, EVENTS, INTAKE and USERS; correct the \
                     table"
                );
                eventually(&format!("a word about {key}"), || {
                    let verdict = raw::connect(port, login).0;
                    assert!(matches!(verdict, Verdict::Refused(_)), "{key}");
                    deployment.service.log().contains(&said).then_some(())
                });
                assert_eq!(stored(account), before, "{key}: not overwritten");
            });
        }
    });
    let nobody = Login::password("nobody", "wrong").connect_fields();
    assert!(matches!(decided(port, &nobody), Verdict::Refused(_)));
    assert_eq!(decided(port, &good), Verdict::Admitted);
}
