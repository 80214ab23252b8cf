//! What the service needs of the keys that `init` makes.

use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};

#[test]
fn the_service_needs_nothing_of_the_offline_keys() {
    for mode in [Mode::Operator, Mode::Config] {
        let mut deployment = Deployment::start(mode);
        let offline = deployment.dir().join("keys/offline");
        if offline.exists() {
            std::fs::remove_dir_all(&offline).unwrap();
        }
        deployment.service.restart();
        let login = deployment.tenant_add("one", &[]);
        let verdict = raw::connect(deployment.server.port(), &login.connect_fields()).0;
        assert_eq!(verdict, Verdict::Admitted, "{}", deployment.service.log());
    }
}
