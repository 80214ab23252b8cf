//! Whether the service's events can be read, and nothing else of AUTH be reached by it: what AUTH
//! offers to other accounts.

use std::collections::BTreeSet;

use super::Findings;
use crate::config::Config;
use crate::streams::readers;

pub(super) const CHECK: &str = "events reader";

/// Judges what AUTH exports.
pub(super) fn offered(config: &Config, exports: &BTreeSet<String>, findings: &mut Findings) {
    let faults = readers::judge(exports, &config.streams.events).faults();
    if faults.is_empty() {
        return findings.ok(CHECK, "AUTH offers its consumers, and nothing else");
    }
    for fault in faults {
        findings.fail(CHECK, fault, readers::REMEDY);
    }
}
