//! Servers whose certificates are not taken: what is said of each, in words, and what to do about it.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::postgres::PostgresServer;
use crate::harness::servers::{self, NatsServer};
use crate::harness::tls::Authority;
use crate::harness::{PATIENCE, eventually, eventually_async, write_private};
use crate::jwt::{add_to_config, issuers};
use crate::store_contract::postgres_open::refusal;

/// A certificate of a server, what is said of it, and what to do.
struct Flawed {
    name: &'static str,
    says: [&'static str; 2],
}

const FLAWED: [Flawed; 5] = [
    Flawed {
        name: "authority",
        says: [
            "is that of an authority, which no server may show",
            "have the authority sign another",
        ],
    },
    Flawed {
        name: "unknown",
        says: [
            "nobody who is trusted here vouches for",
            "name the certificate of its authority in",
        ],
    },
    Flawed { name: "ended", says: ["certificate has ended", "renew it"] },
    Flawed { name: "early", says: ["does not hold yet", "set the clock of this machine"] },
    Flawed {
        name: "elsewhere",
        says: ["but for `other.example.com`", "connect by a name that it has"],
    },
];

/// What libraries call these, which says nothing to anybody.
const MARKS: [&str; 7] = [
    "CaUsedAsEndEntity",
    "UnknownIssuer",
    "OtherError",
    "DnsName",
    "(UNIX)",
    "invalid peer certificate",
    "Some(",
];

impl Flawed {
    /// Writes it with its key into a folder of its own. Returns the file of who is trusted there.
    fn write(&self, folder: &Path) -> std::path::PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        let (trusted, other) = (Authority::new(folder, "trusted"), Authority::new(folder, "other"));
        let names = match self.name {
            "elsewhere" => vec!["other.example.com".to_owned()],
            _ => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        };
        let mut params = CertificateParams::new(names).unwrap();
        match self.name {
            "ended" => params.not_after = date_time_ymd(2020, 1, 1),
            "early" => params.not_before = date_time_ymd(2120, 1, 1),
            _ => {}
        }
        let is_early = self.name == "early";
        if is_early {
            params.not_after = date_time_ymd(2121, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let (certificate, trust) = if self.name == "authority" {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (params.self_signed(&key).unwrap(), folder.join("server.pem"))
        } else {
            let by = if self.name == "unknown" { &other } else { &trusted };
            (by.sign(&params, &key), trusted.ca.clone())
        };
        std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
        write_private(&folder.join("server.key"), &key.serialize_pem());
        trust
    }

    #[track_caller]
    fn is_told(&self, by: &str, text: &str) {
        for word in self.says {
            assert!(text.contains(word), "{} by {by}: no {word} in\n{text}", self.name);
        }
        for mark in MARKS {
            assert!(!text.contains(mark), "{} by {by}: {mark} in\n{text}", self.name);
        }
    }
}

/// The line of a text about this.
fn line<'a>(text: &'a str, about: &str) -> Option<&'a str> {
    text.lines().find(|line| line.contains(about) && line.contains("certificate"))
}

#[test]
fn an_issuer_whose_certificate_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (mut tables, mut served) = (String::new(), Vec::new());
    for flawed in &FLAWED {
        let own = folder.path().join(flawed.name);
        let trust = flawed.write(&own);
        let (server, port) = issuers::serve(&own);
        served.push(server);
        tables += &format!(
            "\n[issuers.{0}]\nissuer = \"{0}\"\naudience = [\"nats\"]\n\
             jwks_url = \"https://localhost:{port}/certs\"\nca_file = {trust:?}\n",
            flawed.name
        );
    }
    let deployment = Deployment::start_prepared(Mode::Config, servers::version(), |init| {
        add_to_config(init, &tables);
    });
    let doctor = deployment.cli(&["doctor"]).stdout;
    for flawed in &FLAWED {
        let said = eventually("the log", || {
            let log = deployment.service.log();
            line(&log, &format!("\"{}\"", flawed.name)).map(str::to_owned)
        });
        flawed.is_told("the log", &said);
        let said = line(&doctor, &format!("{}: https", flawed.name));
        flawed.is_told("doctor", said.unwrap_or_else(|| panic!("{} in\n{doctor}", flawed.name)));
    }
    let log = deployment.service.log();
    assert!(log.contains("ca_file of the issuer"), "{log}");
}

#[test]
fn a_nats_server_whose_certificate_is_not_taken() {
    for flawed in &FLAWED {
        let init = Initialised::new(Mode::Config);
        let own = init.dir().join("tls");
        let trust = flawed.write(&own);
        init.add_to_server_conf(&format!(
            "tls {{ cert_file: {:?}, key_file: {:?} }}\n",
            own.join("server.pem"),
            own.join("server.key")
        ));
        init.set("tls_ca", &format!("{trust:?}"));
        let _server = NatsServer::start(servers::version(), &init.server_conf(), init.port, None)
            .expect("starts");
        let doctor = init.cli(&["doctor"]).stdout;
        flawed.is_told("doctor", line(&doctor, "127.0.0.1").unwrap_or(&doctor));
        let service = init.launch_service();
        let said = eventually("the log", || {
            line(&service.log(), "cannot connect to NATS yet").map(str::to_owned)
        });
        flawed.is_told("the log", &said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_whose_certificate_is_not_taken() {
    let server = PostgresServer::start();
    let database = server.database();
    let folder = tempfile::tempdir().unwrap();
    for flawed in &FLAWED {
        let own = folder.path().join(flawed.name);
        let trust = flawed.write(&own);
        for (given, file) in [("server.crt", "server.pem"), ("server.key", "server.key")] {
            server.give(given, &std::fs::read(own.join(file)).unwrap());
        }
        server.psql("ALTER SYSTEM SET ssl = on");
        server.reload();
        let url = database.url().replace("127.0.0.1", "localhost");
        let url = format!("{url}?sslmode=verify-full&sslrootcert={}", trust.display());
        // It reads its certificate anew some time after that.
        let refused = async || {
            let said = refusal(&url, PATIENCE).await;
            said.contains(flawed.says[0]).then_some(said)
        };
        flawed.is_told("the store", &eventually_async(flawed.name, refused).await);
    }
}
