//! Key files that others can read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Findings;
use crate::harness::deployment::Initialised;

/// What `doctor` says while the file has this mode: its mode is the one fault, with what mends it.
fn exposed(init: &Initialised, path: &Path) -> Findings {
    let chmod = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    chmod(0o644);
    let findings = Findings::of(init);
    chmod(0o600);
    let path = path.to_str().unwrap();
    let fails: Vec<_> = findings.0.iter().filter(|(_, state, _)| state == "fail").collect();
    assert_eq!(fails.len(), 1, "{path}: {:#?}", findings.0);
    findings.has("key files", "fail", &[path, "0644", &format!("run `chmod 600 {path}`")]);
    findings
}

/// Of each key, what is said while others can read its file: the check, its state, and words.
pub(super) fn readable_keys(init: &Initialised, keys: &[(&str, &str, &str, &str)]) {
    for (file, check, state, words) in keys {
        let findings = exposed(init, &init.dir().join("keys").join(file));
        findings.has(check, state, &[words]);
    }
}

/// An issuer's secret, likewise.
pub(super) fn readable_secret(init: &Initialised) {
    let secret = init.dir().join("keys/license.secret");
    fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let before = fs::read_to_string(init.config()).unwrap();
    let issuer = "[issuers.license]\nissuer = \"license-server\"\naudience = [\"nats\"]\n\
                  secret = [\"keys/license.secret\"]\n";
    fs::write(init.config(), format!("{before}\n{issuer}")).unwrap();
    let findings = exposed(init, &secret);
    findings.has("issuer", "skip", &["license: not while others can get at its key file"]);
    fs::write(init.config(), before).unwrap();
}
