//! Variables that name files, and secrets in their place.

use super::*;

/// Secrets are mounted as files.
#[test]
fn a_variable_may_name_a_file_with_the_value() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "postgres://me:pw@h/db\n").unwrap();
    let path = file.to_str().unwrap();
    let by_file = ("NATS_CALLOUT_DATABASE_URL_FILE", path);
    let config = load(&operator(), &[by_file]).unwrap().config;
    assert_eq!(config.database.url.expose(), "postgres://me:pw@h/db");
    let both = [by_file, ("NATS_CALLOUT_DATABASE_URL", "sqlite://x.db")];
    let found = load(&operator(), &both).unwrap_err();
    assert!(found.len() == 1 && found[0].contains("two variables say it"), "{found:?}");
    let missing = load(&operator(), &[("NATS_CALLOUT_DATABASE_URL_FILE", "/no/such")]);
    let found = missing.unwrap_err();
    assert!(found.len() == 1 && found[0].contains("cannot read /no/such"), "{found:?}");
}

/// It is as secret as the configuration that it is a part of.
#[test]
fn a_file_with_a_value_is_nobody_elses_to_read_or_write() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    let exposures = |text: &str, mode: u32| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let by_file = ("NATS_CALLOUT_DATABASE_URL_FILE", file.to_str().unwrap());
        let found = load(&operator(), &[by_file]).unwrap().config.exposures();
        let said = found.iter().map(ToString::to_string);
        said.filter(|it| it.contains(file.to_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(exposures("postgres://me:pw@h/db", 0o600), [""; 0]);
    assert_eq!(exposures("postgres://me@h/db", 0o644), [""; 0]);
    let said = exposures("postgres://me:pw@h/db", 0o644);
    assert!(said.len() == 1 && said[0].contains("read a password or a secret"), "{said:?}");
    let said = exposures("postgres://me@h/db", 0o646);
    assert!(said.len() == 1 && said[0].contains("change what the service does"), "{said:?}");
}

/// Whoever can read it can ask in the service's name.
#[test]
fn a_file_that_is_shown_to_an_issuer_is_nobody_elses_to_read_or_write() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bearer");
    std::fs::write(&file, "shown\n").unwrap();
    let issuer = |more: &str| {
        let bearer = file.display();
        format!(
            "{}[issuers.x]\nissuer = \"https://x.org\"\naudience = [\"nats\"]\n\
             bearer_file = \"{bearer}\"\n{more}",
            operator()
        )
    };
    for more in ["", "introspection_url = \"https://x.org/introspect\"\n"] {
        let config = load(&issuer(more), &[]).unwrap().config;
        for (mode, faults) in [(0o600, 0), (0o644, 1), (0o666, 2)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = config.exposures();
            let said = found.iter().filter(|it| it.to_string().contains(file.to_str().unwrap()));
            assert_eq!(said.count(), faults, "{mode:o}: {found:?}");
        }
    }
}

/// It has no form by which it could be known.
#[test]
fn a_file_with_the_secret_of_a_client_is_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client");
    std::fs::write(&file, "s3cret\n").unwrap();
    let issuer = "[issuers.x]\nissuer = \"https://x.org\"\naudience = [\"nats\"]\n\
                  introspection_url = \"https://x.org/introspect\"\nclient_id = \"nats\"\n";
    let by_file = ("NATS_CALLOUT_ISSUERS_X_CLIENT_SECRET_FILE", file.to_str().unwrap());
    let config = load(&(operator() + issuer), &[by_file]).unwrap().config;
    for (mode, faults) in [(0o600, 0), (0o644, 1)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let found = config.exposures();
        let said = found.iter().filter(|it| it.to_string().contains(file.to_str().unwrap()));
        assert_eq!(said.count(), faults, "{mode:o}");
    }
}

/// A second line is no part of a secret or an address, wherever it was written, and none of it is shown.
#[test]
fn a_value_has_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("value");
    let issuer = "[issuers.x]\nissuer = \"https://x.org\"\naudience = [\"nats\"]\n\
                  introspection_url = \"https://x.org/introspect\"\nclient_id = \"nats\"\n";
    let text = format!("{}{issuer}client_secret = \"s\"\nproxy = \"http://p:3128\"\n", operator());
    for (name, key, first) in [
        ("ISSUERS_X_CLIENT_SECRET", "[issuers.x] client_secret", "s3cret"),
        ("ISSUERS_X_PROXY", "[issuers.x] proxy", "http://me:s3cret@p:3128"),
        ("DATABASE_URL", "[database] url", "postgres://me:s3cret@h/db"),
        ("DATABASE_URL", "[database] url", "sqlite://s3cret.db"),
    ] {
        let name = format!("NATS_CALLOUT_{name}");
        let by_file = format!("{name}_FILE");
        for second in ["\nhunter2\n", "\r\nhunter2", "\u{0}hunter2", "\thunter2"] {
            let value = format!("{first}{second}");
            std::fs::write(&file, &value).unwrap();
            let by_file = (by_file.as_str(), file.to_str().unwrap());
            for variable in [by_file, (name.as_str(), value.as_str())] {
                let found = load(&text, &[variable]).unwrap_err();
                let said = found.concat();
                assert!(found.len() == 1 && said.contains("a line break or another"), "{found:?}");
                assert!(said.contains(key), "{found:?}");
                assert!(!said.contains("s3cret") && !said.contains("hunter2"), "{found:?}");
            }
        }
        std::fs::write(&file, format!("{first}\r\n\n")).unwrap();
        load(&text, &[(by_file.as_str(), file.to_str().unwrap())]).unwrap();
    }
    let found = load(&text.replace("\"s\"", "\"s3cret\\nhunter2\""), &[]).unwrap_err();
    assert!(found.len() == 1 && found[0].contains("a line break or another"), "{found:?}");
    assert!(!found[0].contains("s3cret"), "{found:?}");
}

/// The key is a file, whichever of the two variables says so.
#[test]
fn a_variable_of_a_key_that_is_a_file_names_that_file() {
    let issuer = "[issuers.x]\nissuer = \"https://x.org\"\naudience = [\"nats\"]\n";
    let text = operator() + issuer;
    let loaded = load(
        &text,
        &[
            ("NATS_CALLOUT_ISSUERS_X_SECRET_FILE", "/run/secrets/license"),
            ("NATS_CALLOUT_NATS_CREDENTIALS_FILE", "/run/secrets/auth.creds"),
            ("NATS_CALLOUT_CALLOUT_XKEY_FILE", "/run/secrets/x.nk"),
            ("NATS_CALLOUT_NATS_TLS_CA_FILE", "/run/secrets/ca.pem"),
            ("NATS_CALLOUT_OPERATOR_USER_SIGNING_FILE", "/run/secrets/a.nk,b.pub"),
        ],
    );
    let config = loaded.unwrap().config;
    let files = ["/run/secrets/a.nk".into(), config.folder.join("b.pub")];
    let Mode::Operator(mode) = &config.mode else { panic!("operator mode") };
    assert_eq!((mode.user_signing.as_slice(), config.callout.xkey.len()), (files.as_slice(), 1));
    assert_eq!(mode.credentials, Path::new("/run/secrets/auth.creds"));
    assert_eq!(config.nats.tls.ca, Some("/run/secrets/ca.pem".into()));
    let names = config.key_files();
    assert!(names.contains(&Path::new("/run/secrets/license")), "{names:?}");
}

/// `openssl rand -base64 32` where the name of its file belongs.
#[test]
fn a_secret_in_the_place_of_a_path_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(DEFAULT_FILE);
    let issuer = "[issuers.x]\nissuer = \"https://x.org\"\naudience = [\"nats\"]\n";
    std::fs::write(&file, format!("{CONFIG}{issuer}")).unwrap();
    let secret = "kV3p/Zq8/VqQYfR0s+x/a7Lw1T/9nDcU4eJ2bG6hM8o=";
    for name in [
        "ISSUERS_X_SECRET",
        "ISSUERS_X_SECRET_FILE",
        "NATS_NKEY",
        "CALLOUT_XKEY",
        "NATS_TLS_KEY",
        "POLICIES_FOLDER",
        "DATABASE_URL_FILE",
        "LOG_FORMAT",
        "CALLOUT_TTL",
        "NATS_URL",
        "ISSUERS_X_ALGORITHMS",
        "ISSUERS_X_POLICIES",
    ] {
        let env = [(format!("NATS_CALLOUT_{name}"), secret.to_owned())];
        let said = Config::load_with(&file, Files::MustExist, env).unwrap_err().to_string();
        let shows = |part: &&str| part.len() > 2 && said.contains(*part);
        assert_eq!(secret.split(['/', '+', '=']).find(shows), None, "{name}: {said}");
        assert!(said.contains(name), "{name}: {said}");
    }
}
