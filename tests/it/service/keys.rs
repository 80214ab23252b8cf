//! What the service needs of the keys that `init` makes.

use super::decided;
use crate::harness::choice::modes;
use crate::harness::deployment::{Deployment, Initialised};
use crate::harness::raw::Verdict;
use crate::harness::servers;

#[test]
fn the_service_needs_nothing_of_the_offline_keys() {
    let remove = |init: &Initialised| {
        let offline = init.dir().join("keys/offline");
        if offline.exists() {
            std::fs::remove_dir_all(&offline).unwrap();
        }
    };
    for mode in modes() {
        let deployment = Deployment::start_prepared(mode, servers::version(), remove);
        let login = deployment.tenant_add("one", &[]);
        let verdict = decided(deployment.server.port(), &login.connect_fields());
        assert_eq!(verdict, Verdict::Admitted, "{}", deployment.service.log());
    }
}
