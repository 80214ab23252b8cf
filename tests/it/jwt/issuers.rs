//! An issuer behind TLS with a certificate of a private authority: trusted if the configuration
//! says so, and not otherwise.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use jsonwebtoken::Algorithm;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Authority, KeyPair};
use serde_json::json;

use super::others::of_a_cluster;
use super::{add_to_config, has_keys, reasons, test_command};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::issuer::{Issuer, Signer, seconds_from_now};
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, servers, write_private};

/// Serves the folder that it runs in, and prints its port. Where there is a file `bearer`, only who shows that
/// text is answered.
const SERVER: &str = "
import http.server, os, ssl
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        wanted = open('bearer').read() if os.path.exists('bearer') else None
        if wanted and self.headers['Authorization'] != 'Bearer ' + wanted:
            return self.send_error(403)
        super().do_GET()
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
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

/// Writes a certificate for `localhost` into a folder that is to be served: its authority, in PEM.
fn certified(folder: &Path) -> String {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let signing = Authority::from_params(&params, &authority_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &signing).unwrap();
    for (file, text) in [("server.pem", certificate.pem()), ("server.key", key.serialize_pem())] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    authority.pem()
}

#[test]
fn an_issuer_of_a_private_authority() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = certified(folder);
    let signer = Signer::new("k", Algorithm::ES256);
    let keys = json!({ "keys": [signer.jwk()] });
    std::fs::write(folder.join("certs"), keys.to_string()).unwrap();
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
        std::fs::write(own.join("ca.pem"), &authority).unwrap();
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

/// A cluster as its pods know it: what the preset has not, or has elsewhere, is the address and the files alone.
#[test]
fn a_cluster_by_its_authority_and_a_pods_token() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = certified(folder);
    let signer = Signer::new("k", Algorithm::RS256);
    let keys = json!({ "keys": [signer.jwk()] });
    std::fs::create_dir_all(folder.join("openid/v1")).unwrap();
    std::fs::write(folder.join("openid/v1/jwks"), keys.to_string()).unwrap();
    std::fs::write(folder.join("bearer"), "of-the-pod").unwrap();
    let (_server, port) = serve(folder);
    let table = |name: &str, bearer: &str, more: &str| {
        format!(
            "\n[issuers.{name}]\npreset = \"kubernetes\"\naudience = [\"nats\"]\n\
             jwks_url = \"https://localhost:{port}/openid/v1/jwks\"\nca_file = \"ca.pem\"\n\
             bearer_file = \"{bearer}\"\n{more}"
        )
    };
    let other = "issuer = \"https://other.example.com\"\n";
    let tables = table("cluster", "token", "") + &table("stranger", "another", other);
    let deployment = Deployment::start_prepared(Mode::Config, servers::version(), |init| {
        std::fs::write(init.dir().join("ca.pem"), &authority).unwrap();
        for (file, token) in [("token", "of-the-pod\n"), ("another", "of-another\n")] {
            write_private(&init.dir().join(file), token);
        }
        add_to_config(init, &tables);
    });
    has_keys(&deployment, "cluster", 1);
    deployment.tenant_add("shop", &[]);
    let jwt = |iss: &str, namespace: &str| signer.sign(&of_a_cluster(iss, namespace));
    let verdict =
        |jwt: &str| raw::connect(deployment.server.port(), &json!({ "auth_token": jwt })).0;
    let cluster = "https://kubernetes.default.svc.cluster.local";
    let pod = jwt(cluster, "shop");
    assert_eq!(verdict(&pod), Verdict::Admitted, "{}", deployment.service.log());
    let seen = test_command(&deployment, &["shop", "--token-stdin"], &pod).success().json();
    assert_eq!(seen["user"]["name"], "shop/api");
    assert_ne!(verdict(&jwt(cluster, "kube-system")), Verdict::Admitted);
    eventually("the refusal", || (reasons(&deployment, "unknown_user") > 0).then_some(()));
    assert_ne!(verdict(&jwt("https://other.example.com", "shop")), Verdict::Admitted);
    eventually("why", || {
        let log = deployment.service.log();
        let is_it = |line: &str| line.contains("stranger") && line.contains("status 403");
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
