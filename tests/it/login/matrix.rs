//! The login path on the newest patch of every supported line of nats-server. 2.10 has no
//! `default_sentinel`, so it has config mode only.

use super::{Bench, admitted, echo};
use crate::harness::client::{self, Login};
use crate::harness::deployment::Mode;

async fn login(mode: Mode, version: &'static str) {
    let bench = Bench::start_with(mode, version);
    let url = bench.deployment.url();
    for tenant in [&bench.one, &bench.two] {
        for login in [tenant.user.clone(), Login::Token(tenant.token.clone())] {
            let app = admitted(&bench.deployment, &login, tenant.id).await;
            app.round_trip(&echo(mode, tenant.id)).await;
            app.client.publish("forbidden.subject", "x".into()).await.expect("is sent");
            app.violation(&["publish", "forbidden.subject"]).await;
        }
    }
    let Login::Password(user, _) = &bench.one.user else { unreachable!("a password") };
    client::refused(&url, &Login::password(user, "wrong")).await;
    client::refused(&url, &Login::password("nobody", "wrong")).await;
    client::refused(&url, &Login::Token("wrong".to_owned())).await;
    client::refused(&url, &Login::Nothing).await;
}

macro_rules! versions {
    ($($name:ident: $mode:ident on $version:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                login(Mode::$mode, $version).await;
            }
        )*
    };
}

versions! {
    config_mode_on_2_10: Config on "2.10.26";
    config_mode_on_2_11: Config on "2.11.11";
    config_mode_on_2_12: Config on "2.12.8";
    config_mode_on_2_14: Config on "2.14.6";
    operator_mode_on_2_11: Operator on "2.11.11";
    operator_mode_on_2_12: Operator on "2.12.8";
    operator_mode_on_2_14: Operator on "2.14.6";
}
