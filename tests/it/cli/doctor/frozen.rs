//! The only instance hangs, while its connections stay and its heartbeat is young yet.

use std::fs;

use super::Findings;
use crate::harness::choice::either_mode;
use crate::harness::deployment::Deployment;
use crate::harness::eventually;

fn is_found_and_told(deployment: &Deployment) {
    for moment in ["at once", "once its heartbeat is old"] {
        let findings = Findings::of(deployment);
        let connected = "1 of 1 instances are connected to take events, by ";
        findings.has("intake", "fail", &[connected, "none answers", "it hangs", "restart it"]);
        findings.has("refusal", "fail", &["no answer came", "it hangs", "restart it"]);
        findings.has("http", "warn", &["no answer within", "hangs or is overloaded", "restart it"]);
        let told = |word: &str| findings.0.iter().any(|(.., what)| what.contains(word));
        let is_false =
            ["instances take events, by", "their keys", "see /readyz"].into_iter().any(told);
        assert!(!is_false, "{moment}: {:#?}", findings.0);
    }
}

#[test]
fn an_instance_that_hangs_is_not_well_and_has_no_wrong_keys() {
    for mode in either_mode() {
        let deployment = Deployment::start(mode);
        deployment.tenant_add("shop", &["--memory", "0", "--storage", "0"]);
        // The service has it from its environment.
        let text = fs::read_to_string(deployment.config()).unwrap();
        let listen = format!("\n[http]\nlisten = \"{}\"\n", deployment.http());
        let http = text.replace("\n[http]\n", &listen);
        assert_ne!(http, text);
        fs::write(deployment.config(), http).unwrap();
        deployment.freeze(&deployment.service);
        is_found_and_told(&deployment);
        eventually("a test that finds no young heartbeat", || {
            let refused = deployment.cli(&["--json", "test", "shop"]).json();
            let message = refused["message"].as_str().unwrap_or_default();
            let is_told = message.contains("no instance of the service answers")
                && message.contains("it is not running, or hangs")
                && message.contains("see its log and restart it");
            (refused["reason"] == "no_service" && is_told).then_some(())
        });
    }
}
