//! The accounts of the system are nobody's, whatever the tenant table says: no login is placed in
//! one, and no JWT of one is ever made from a tenant's row.

use nats_callout::keyfile;

use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};

fn id(deployment: &Deployment, key: &str) -> String {
    let seed = keyfile::read_secret(&deployment.dir().join("keys/offline").join(key)).unwrap();
    nkeys::KeyPair::from_seed(seed.trim()).unwrap().public_key()
}

#[test]
fn a_row_that_names_an_account_of_the_system_gets_nobody_in() {
    let deployment = Deployment::start(Mode::Operator);
    let good = deployment.tenant_add("good", &["--storage", "1MB"]).connect_fields();
    let port = deployment.server.port();
    let resolver = deployment.dir().join("accounts");
    for key in ["sys.nk", "auth.nk", "bb.nk", "users.nk"] {
        let account = id(&deployment, key);
        let tenant = format!("evil-{}", &key[..key.len() - 3]);
        let login = deployment.tenant_add(&tenant, &["--storage", "1MB"]).connect_fields();
        deployment.sql(&format!(
            "INSERT INTO tenant_accounts (tenant_id, account) VALUES ('{tenant}', '{account}');"
        ));
        let stored = resolver.join(format!("{account}.jwt"));
        let before = std::fs::read_to_string(&stored).unwrap();
        let verdict = raw::connect(port, &login).0;
        assert!(matches!(verdict, Verdict::Refused(_)), "{key}\n{}", deployment.service.log());
        assert_eq!(std::fs::read_to_string(&stored).unwrap(), before, "{key}: not overwritten");
        assert!(deployment.service.log().contains("correct the table tenant_accounts"), "{key}");
        let nobody = Login::password("nobody", "wrong").connect_fields();
        assert!(matches!(raw::connect(port, &nobody).0, Verdict::Refused(_)), "{key}");
        assert_eq!(raw::connect(port, &good).0, Verdict::Admitted, "{key}");
    }
}
