//! Credentials that others can read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::Findings;
use crate::harness::deployment::Initialised;

/// What to do is what their mode asks for, and nothing else.
pub(super) fn readable_logins(init: &Initialised) {
    for (file, check) in [("auth.creds", "login AUTH"), ("sys.creds", "login SYS")] {
        let path = init.dir().join("keys").join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let findings = Findings::of(init);
        findings.has(check, "fail", &[file, "0644", "chmod 600"]);
        let restored = findings.0.iter().find(|(.., what)| what.contains("restore"));
        assert_eq!(restored, None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}
