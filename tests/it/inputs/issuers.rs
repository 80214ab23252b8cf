//! What issuers answer and name, and what is said of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use serde_json::json;

use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Initialised, Mode, Table};
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, servers};
use crate::jwt::{Bench, add_to_config, test_command};

/// Answers everybody with a redirect, for as long as the test runs. Returns where it is.
fn redirects() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let reader = BufReader::new(stream.try_clone().unwrap());
            for line in reader.lines() {
                if line.is_ok_and(|line| line.is_empty()) {
                    break;
                }
            }
            let _ = stream.write_all(
                b"HTTP/1.1 301 Moved Permanently\r\nLocation: /elsewhere?code=s3cret\r\n\
                  Content-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
    });
    format!("http://{at}")
}

#[test]
fn an_address_that_leads_elsewhere_and_a_proxy_of_the_environment() {
    let at = redirects();
    let table = |name: &str, url: &str| {
        format!(
            "\n[issuers.{name}]\nissuer = \"{name}\"\naudience = [\"nats\"]\njwks_url = \"{url}\"\n"
        )
    };
    let tables =
        table("moved", &format!("{at}/certs")) + &table("away", "http://127.0.0.1:1/certs");
    let environment = [("HTTPS_PROXY", "http://127.0.0.1:1")];
    let deployment = Deployment::start_initialised(servers::version(), &environment, || {
        let init = Initialised::on(Mode::Config, Table::Default);
        add_to_config(&init, &tables);
        init
    });
    let line = |about: &str| {
        eventually(about, || {
            let log = deployment.service.log();
            log.lines().find(|line| line.contains(about)).map(str::to_owned)
        })
    };
    let moved = line("status 301 Moved Permanently");
    let lead =
        format!("it leads to {at}/elsewhere, which is not followed; name that address itself");
    assert!(moved.contains(&lead) && !moved.contains("HTTPS_PROXY"), "{moved}");
    let away = line("127.0.0.1:1/certs");
    let ignored = "HTTPS_PROXY of the environment is not used: write it as `proxy` of the issuer";
    assert!(away.contains(ignored), "{away}");
    assert!(!deployment.service.log().contains("s3cret"));
}

/// It is not `<tenant id>/<name>`, as logs have it, but what the JWT says.
#[test]
fn the_own_name_of_who_has_no_row() {
    let lines = "users = \"policy\"\ntenant = \"shop\"\npolicy = \"own\"\n";
    let rule = "publish = [\"user.{{tenant.id}}.{{user.name}}.>\"]\n\
                subscribe = [\"_INBOX_{{tenant.id}}.>\"]\n";
    for mode in either_mode() {
        let bench = Bench::start_with_policy(mode, lines, "own", rule);
        let deployment = &bench.deployment;
        deployment.tenant_add("shop", &[]);
        let jwt = |user: &str| bench.signer.sign(&bench.issuer.claims(user));
        let verdict = |user: &str| {
            let fields = json!({ "auth_token": jwt(user) });
            raw::connect(deployment.server.port(), &fields).0
        };
        let test = |user: &str| test_command(deployment, &["shop", "--token-stdin"], &jwt(user));
        assert_eq!(verdict("app"), Verdict::Admitted, "{}", deployment.service.log());
        let seen = test("app").success().json();
        assert_eq!(seen["user"]["name"], "shop/app");
        assert_eq!(seen["permissions"]["publish"]["allow"], json!(["user.shop.app.>"]), "{seen}");
        for odd in ["alice@example.com", "system:serviceaccount:shop:api", "auth0|5f"] {
            assert_ne!(verdict(odd), Verdict::Admitted, "{odd}");
            let seen = test(odd);
            let said = seen.json();
            assert_eq!((seen.status, &said["reason"]), (1, &json!("policy")), "{said}");
            let said = said["message"].as_str().unwrap();
            let line = if mode == Mode::Operator { "own.toml:2: " } else { "own.toml:5: " };
            assert!(said.contains(line) && said.contains("user.hash"), "{said}");
            assert!(!said.contains("policy explain"), "it knows nobody without a row: {said}");
        }
    }
}
