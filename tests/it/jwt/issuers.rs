//! An issuer behind TLS with a certificate of a private authority: trusted if the configuration
//! says so, and not otherwise.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use jsonwebtoken::Algorithm;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Authority, KeyPair};
use serde_json::json;

use super::add_to_config;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::issuer::{Issuer, Signer, seconds_from_now};
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, servers};

/// Serves the folder that it runs in, and prints its port.
const SERVER: &str = "
import http.server, ssl
server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('server.pem', 'server.key')
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";

pub(crate) struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves a folder by the certificate in it, as long as what is returned is there, at this port.
pub(crate) fn serve(folder: &Path) -> (Ended, u16) {
    let server = Command::new("python3")
        .args(["-c", SERVER])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut server = Ended(server.expect("python3"));
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    (server, port.trim().parse().expect("a port"))
}

#[test]
fn an_issuer_of_a_private_authority() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let signing = Authority::from_params(&params, &authority_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &signing).unwrap();
    let signer = Signer::new("k", Algorithm::ES256);
    for (file, text) in [
        ("server.pem", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("certs", json!({ "keys": [signer.jwk()] }).to_string()),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    let (_server, port) = serve(folder);
    let url = format!("https://localhost:{port}/certs");

    let tables = format!(
        "\n[issuers.trusted]\nissuer = \"trusted\"\naudience = [\"nats\"]\n\
         jwks_url = \"{url}\"\nca_file = \"issuer/ca.pem\"\n\
         [issuers.stranger]\nissuer = \"stranger\"\naudience = [\"nats\"]\n\
         jwks_url = \"{url}\"\nusers = \"policy\"\ntenant = \"shop\"\npolicy = \"gone\"\n"
    );
    let deployment = Deployment::start_prepared(Mode::Config, servers::version(), |init| {
        let own = init.dir().join("issuer");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("ca.pem"), authority.pem()).unwrap();
        add_to_config(init, &tables);
    });
    let log = deployment.service.log();
    assert!(log.contains("[issuers.stranger] policy: there is no policy `gone`"), "{log}");
    deployment.tenant_add("shop", &[]);
    let verdict = |iss: &str| {
        let exp = seconds_from_now(300);
        let jwt = signer.sign(&json!({ "iss": iss, "aud": "nats", "sub": "shop", "exp": exp }));
        raw::connect(deployment.server.port(), &json!({ "auth_token": jwt })).0
    };
    assert_eq!(verdict("trusted"), Verdict::Admitted, "{}", deployment.service.log());
    assert_ne!(verdict("stranger"), Verdict::Admitted);
    eventually("the complaint", || {
        let log = deployment.service.log();
        let is_it =
            |line: &str| line.contains("stranger") && line.to_lowercase().contains("certificate");
        log.lines().any(is_it).then_some(())
    });
}

/// A cluster's API wants a token, and a company's network a proxy.
#[test]
fn keys_behind_a_token_a_proxy_and_plain_http() {
    let signer = Signer::new("k", Algorithm::ES256);
    let issuer = Issuer::start(&[&signer]);
    issuer.only_for("shown");
    let table = |name: &str, more: &str| {
        format!(
            "\n[issuers.{name}]\nissuer = \"{name}\"\naudience = [\"nats\"]\n\
             jwks_url = \"http://issuer.invalid/certs\"\ninsecure_http = true\n\
             proxy = \"{}\"\n{more}",
            issuer.as_proxy()
        )
    };
    let tables = table("known", "bearer_file = \"token\"\n") + &table("stranger", "");
    let deployment = Deployment::start_prepared(Mode::Config, servers::version(), |init| {
        let token = init.dir().join("token");
        std::fs::write(&token, "shown\n").unwrap();
        std::fs::set_permissions(token, PermissionsExt::from_mode(0o600)).unwrap();
        add_to_config(init, &tables);
    });
    deployment.tenant_add("shop", &[]);
    let jwt = |issuer: &str| {
        let times = (seconds_from_now(0), seconds_from_now(300));
        signer.sign(&json!({
            "iss": issuer, "aud": "nats", "sub": "shop", "iat": times.0, "exp": times.1,
        }))
    };
    let port = deployment.server.port();
    eventually("a login by the keys", || {
        let (verdict, _) = raw::connect(port, &json!({ "auth_token": jwt("known") }));
        (verdict == Verdict::Admitted).then_some(())
    });
    assert!(issuer.asked().contains(&"http://issuer.invalid/certs".to_owned()));
    let (verdict, _) = raw::connect(port, &json!({ "auth_token": jwt("stranger") }));
    assert_ne!(verdict, Verdict::Admitted);
    eventually("why", || deployment.service.log().contains("status 403").then_some(()));
}
