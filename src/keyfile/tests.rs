//! Key files as they are read, and who else can get at them.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::keys::AccountId;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

/// The faults of these files.
fn audit<'a>(files: impl IntoIterator<Item = &'a Path>) -> Vec<KeyFileError> {
    searched(files).faults
}

fn searched<'a>(files: impl IntoIterator<Item = &'a Path>) -> Audit {
    super::audit(files.into_iter().map(|file| ("[issuers.license] secret".to_owned(), file)))
}

#[test]
fn two_generations() {
    let folder = Folder::new();
    let (key, seed) = SigningKey::generate(KeyKind::Account).unwrap();
    let (next, next_seed) = SigningKey::generate(KeyKind::Account).unwrap();
    let first = folder.write("a.nk", &format!("{}\n", *seed), 0o600);
    for second in [
        folder.write("b.pub", &format!("{}\n", next.public_key()), 0o644),
        folder.write("b.nk", &next_seed, 0o600),
    ] {
        let read: Generations<AccountId> = generations(&[first.clone(), second], "users").unwrap();
        assert_eq!(read.signing.public_key(), key.public_key());
        let listed: Vec<_> = read.listed.iter().map(ToString::to_string).collect();
        assert_eq!(listed, [key.public_key(), next.public_key()]);
    }
    let none: Result<Generations<AccountId>, _> = generations(&[], "users");
    assert!(none.unwrap_err().to_string().contains("no key file is listed for users"));
}

#[test]
fn what_is_wrong_names_path_and_remedy_and_no_secret() {
    let folder = Folder::new();
    let (_, seed) = SigningKey::generate(KeyKind::User).unwrap();
    let error = |path: &Path| {
        let text = signing_key(path, KeyKind::Account).unwrap_err().to_string();
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert!(!text.contains(seed.as_str()), "{text}");
        text
    };
    let exposed = folder.write("open.nk", &seed, 0o644);
    assert!(error(&exposed).contains("mode 0644"));
    assert!(error(&exposed).contains(&format!("chmod 600 {}", exposed.display())));
    assert!(error(&folder.write("user.nk", &seed, 0o600)).contains("expected an nkey"));
    assert!(error(&folder.write("empty.nk", " \n", 0o600)).contains("is empty"));
    assert!(error(&folder.write("junk.nk", "junk", 0o600)).contains("is of no use"));
    assert!(error(&folder.0.path().join("none.nk")).contains("No such file"));
    assert!(error(folder.0.path()).contains("is no file"));
}

#[test]
fn a_secret_in_the_place_of_its_file_is_not_shown() {
    let folder = Folder::new();
    let secret = folder.0.path().join("kV3p/Zq8/VqQYfR0s+x/a7Lw1T/9nDcU4eJ2bG6hM8o=");
    let said = shared_secret(&secret, 32).unwrap_err().to_string();
    let shown = folder.0.path().join("(redacted)");
    assert!(said.starts_with(&format!("cannot read the key file {}: ", shown.display())), "{said}");
    for fault in audit([secret.as_path()]) {
        assert!(!fault.to_string().contains("VqQY"), "{fault}");
    }
}

#[test]
fn shared_secrets_are_long_enough() {
    let folder = Folder::new();
    let path = folder.write("s", &format!(" {}\n", "x".repeat(32)), 0o600);
    assert_eq!(*shared_secret(&path, 32).unwrap(), "x".repeat(32));
    assert!(shared_secret(&path, 33).unwrap_err().to_string().contains("at least 33"));
    let open = folder.write("o", &"x".repeat(32), 0o604);
    assert!(shared_secret(&open, 32).unwrap_err().to_string().contains("chmod 600"));
}

#[test]
fn a_folder_that_others_can_write_is_refused() {
    let folder = Folder::new();
    let (_, seed) = XKey::generate().unwrap();
    let path = folder.write("x.nk", &seed, 0o600);
    assert!(xkey(&path).is_ok());
    assert!(audit([path.as_path()]).is_empty());
    let set = |mode| fs::set_permissions(folder.0.path(), fs::Permissions::from_mode(mode));
    for mode in [0o755, 0o1777] {
        set(mode).unwrap();
        assert!(xkey(&path).is_ok(), "{mode:o}: names are no secret, and each file is its own");
    }
    set(0o757).unwrap();
    assert!(xkey(&path).unwrap_err().to_string().contains("chmod go-w"));
    fs::create_dir(folder.0.path().join("offline")).unwrap();
    folder.write("offline/operator.nk", "x", 0o644);
    folder.write("offline/operator.pub", "OABC", 0o644);
    assert_eq!(audit([path.as_path()]).len(), 2);
    folder.write("offline/seed.pub", &seed, 0o644);
    assert_eq!(audit([path.as_path()]).len(), 3, "a seed by the name of a public key");
}

#[test]
fn links_are_followed_and_end() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let (_, seed) = XKey::generate().unwrap();
    let target = elsewhere.write("x.nk", &seed, 0o644);
    let link = folder.0.path().join("x.nk");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert!(xkey(&link).unwrap_err().to_string().contains("mode 0644"));
    assert_eq!(audit([link.as_path()]).len(), 1);
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(xkey(&link).is_ok());
    std::os::unix::fs::symlink(folder.0.path(), folder.0.path().join("round")).unwrap();
    assert_eq!(audit([link.as_path()]).len(), 0, "{:?}", audit([link.as_path()]));
    let other = elsewhere.0.path().join("more");
    fs::create_dir(&other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).unwrap();
    elsewhere.write("more/a.nk", "x", 0o604);
    std::os::unix::fs::symlink(&other, folder.0.path().join("more")).unwrap();
    let faults = audit([link.as_path()]);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].to_string().contains("more/a.nk has mode 0604"), "{faults:?}");
}

#[test]
fn what_lies_beside_a_key_counts_if_it_is_a_secret() {
    let folder = Folder::new();
    let (_, seed) = XKey::generate().unwrap();
    let key = folder.write("x.nk", &seed, 0o600);
    for (name, text) in [
        ("ca.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
        ("README", "Keys of the deployment.\nNobody reads them.\n"),
        ("x.pub", "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4\n"),
        ("keys.json", r#"{ "keys": [ { "kty": "RSA", "n": "AQAB", "e": "AQAB" } ] }"#),
        ("hostname", "nats-1\n"),
        ("empty", " \n"),
    ] {
        folder.write(name, text, 0o644);
        let faults = audit([key.as_path()]);
        assert!(faults.is_empty(), "{name}: {faults:?}");
    }
    for (name, text) in [
        ("old.nk", format!("# the one of before\n{}\n", *seed)),
        ("bb.creds", format!("------BEGIN USER NKEY SEED------\n{}\n---", *seed)),
        ("tls", "-----BEGIN EC PRIVATE KEY-----\nMHcC\n".to_owned()),
        ("license", "kV3pZq8/VqQYfR0s+x/a7Lw1T/9nD=\n".to_owned()),
        ("other.nk", "x".to_owned()),
        ("jwk", r#"{ "kty": "OKP", "x": "AA", "d": "AA" }"#.to_owned()),
    ] {
        let path = folder.write(name, &text, 0o644);
        let faults = audit([key.as_path()]);
        assert!(faults.len() == 1 && faults[0].to_string().contains(name), "{name}: {faults:?}");
        fs::remove_file(path).unwrap();
    }
    let listed = folder.write("words", "some words of a secret", 0o644);
    assert_eq!(audit([key.as_path()]).len(), 0);
    assert_eq!(audit([key.as_path(), listed.as_path()]).len(), 1, "what is listed is a key");
}

#[test]
fn any_right_of_others_is_too_many() {
    let folder = Folder::new();
    let (_, seed) = XKey::generate().unwrap();
    for mode in [0o604, 0o601] {
        let path = folder.write("x.nk", &seed, mode);
        assert!(xkey(&path).is_err(), "{mode:o}");
        assert_eq!(audit([path.as_path()]).len(), 1, "{mode:o}");
    }
    for mode in [0o400, 0o440, 0o640, 0o660] {
        let path = folder.write("x.nk", &seed, mode);
        assert!(xkey(&path).is_ok(), "{mode:o}: this process runs in its group");
        assert!(audit([path.as_path()]).is_empty(), "{mode:o}");
    }
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: only root gives files away");
    }
    for mode in [0o640, 0o620, 0o610] {
        let path = folder.write("x.nk", &seed, mode);
        std::os::unix::fs::chown(&path, None, Some(54_321)).unwrap();
        assert!(xkey(&path).is_err(), "{mode:o}");
        assert!(!audit([path.as_path()]).is_empty(), "{mode:o}");
    }
}

#[test]
fn the_key_of_a_certificate_may_be_its_groups() {
    let folder = Folder::new();
    for (mode, fits) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
        let key = folder.write(&format!("{mode:o}"), "key", mode);
        let audit = audit_shared(&key);
        assert_eq!(audit.is_ok(), fits, "{mode:o}");
        let text = audit.err().map(|fault| fault.to_string()).unwrap_or_default();
        assert_eq!(text.contains("chmod 640"), !fits, "{text}");
    }
}

/// Its path may be anything, such as a text that was pasted into its place.
#[test]
fn beside_a_key_that_is_not_there_nothing_is_looked_at() {
    let folder = Folder::new();
    let (_, seed) = SigningKey::generate(KeyKind::Account).unwrap();
    let key = folder.write("a.nk", &seed, 0o600);
    folder.write("b.nk", &seed, 0o644);
    assert_eq!(audit([&*folder.0.path().join("c.nk")]).len(), 0);
    assert_eq!(audit([&*key]).len(), 1);
}

/// A secret in the folder of a project, with what its tools have put there.
#[test]
fn in_the_folder_of_a_project_its_libraries_are_passed_over() {
    let folder = Folder::new();
    let (_, seed) = XKey::generate().unwrap();
    let key = folder.write("license.secret", "some words of a secret", 0o600);
    let at = |path: &str| {
        fs::create_dir_all(folder.0.path().join(path).parent().unwrap()).unwrap();
        folder.write(path, &seed, 0o644)
    };
    for path in [
        "node_modules/a/b.nk",
        "web/node_modules/a.nk",
        "venv/lib/a.nk",
        ".venv/a.nk",
        "lib/python3/site-packages/a.nk",
        ".git/a.nk",
        "target/debug/a.nk",
    ] {
        at(path);
    }
    assert_eq!(audit([key.as_path()]).len(), 0);
    let deep = at("deploy/prod/eu/keys/offline/a.nk");
    let faults = audit([key.as_path()]);
    assert!(faults.len() == 1 && faults[0].to_string().contains("offline/a.nk"), "{faults:?}");
    fs::remove_file(deep).unwrap();
    let own = folder.0.path().join("target/debug/a.nk");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).unwrap();
    at("target/debug/b.nk");
    assert_eq!(audit([key.as_path(), own.as_path()]).len(), 1, "a key lies there");
}

#[test]
fn source_code_and_a_readme_count_for_what_is_certainly_one() {
    let folder = Folder::new();
    let (_, seed) = XKey::generate().unwrap();
    let key = folder.write("license.secret", "some words of a secret", 0o600);
    for name in ["README.txt", "range.js", "build.sh", "x.js.map"] {
        folder.write(name, "replace(`^${gtlt}\\s*$`, \"$1$2$3\") // PRIVATE KEY-----", 0o644);
        let faults = audit([key.as_path()]);
        assert!(faults.is_empty(), "{name}: {faults:?}");
        folder.write(name, &format!("const seed = \"{}\";", *seed), 0o644);
        assert_eq!(audit([key.as_path()]).len(), 1, "{name}");
        folder.write(name, "", 0o644);
    }
}

#[test]
fn many_that_look_like_secrets_are_one_line() {
    let folder = Folder::new();
    let (_, seed) = XKey::generate().unwrap();
    let key = folder.write("license.secret", "some words of a secret", 0o600);
    for name in ["a", "b", "c"] {
        folder.write(name, "kV3pZq8/VqQYfR0s+x/a7Lw1T/9nD=\n", 0o644);
    }
    assert_eq!(audit([key.as_path()]).len(), 3, "a line each");
    folder.write("d.key", "x", 0o644);
    let faults = audit([key.as_path()]);
    let [fault] = &faults[..] else { panic!("{faults:?}") };
    let shown = folder.0.path().display();
    let said = format!(
        "[issuers.license] secret brings in {shown}: 4 files in it and below look like secrets, and others can read \
         them, such as a, b, c; put the secret into a folder of its own, or, where they are secrets, run `chmod 600` \
         on each"
    );
    assert_eq!(fault.to_string(), said);
    folder.write("seed", &seed, 0o644);
    let faults = audit([key.as_path()]);
    assert!(faults.len() == 2, "what is certain has a line of its own: {faults:?}");
}

#[test]
fn what_is_too_much_to_look_at_is_said() {
    let folder = Folder::new();
    let key = folder.write("license.secret", "some words of a secret", 0o600);
    fs::create_dir_all(folder.0.path().join("data/keys")).unwrap();
    // With the secret, and two folders.
    for n in 0..997 {
        folder.write(&format!("data/keys/{n}"), "", 0o644);
    }
    let found = searched([key.as_path()]);
    assert!(found.faults.is_empty() && found.unsearched.is_empty(), "{found:?}");
    folder.write("data/keys/more", "", 0o644);
    let found = searched([key.as_path()]);
    let [said] = &found.unsearched[..] else { panic!("{found:?}") };
    assert!(said.starts_with("[issuers.license] secret brings in "), "{said}");
    assert!(said.ends_with("put the secret into a folder of its own"), "{said}");
    let keys = folder.write("data/keys/0", "x", 0o600);
    assert_eq!(searched([key.as_path(), keys.as_path()]).unsearched.len(), 0, "each has its own");
}
