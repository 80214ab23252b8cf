//! The main job: clients log in through the service, on real servers, in both modes.
//!
//! [`Bench`] has what most of the tests need: two tenants with one user each, who may use the
//! subject `echo` of their tenant and nothing else. All of it holds on every supported line of
//! nats-server: `TEST_NATS_SERVER` names one.

mod admission;
mod alike;
mod cluster;
mod isolation;
mod lines;
mod recipes;
mod refusal;
mod room;
pub(crate) mod states;
mod survival;
mod too_large;

use crate::harness::client::{self, Connected, Login};
use crate::harness::clients::Scenario;
use crate::harness::deployment::{Deployment, Mode};

/// A tenant with an admin and a user of its own.
#[derive(Debug)]
struct Tenant {
    id: &'static str,
    admin: Login,
    user: Login,
    token: String,
}

/// A deployment with the tenants `one` and `two`.
#[derive(Debug)]
struct Bench {
    deployment: Deployment,
    one: Tenant,
    two: Tenant,
}

impl Bench {
    fn start(mode: Mode) -> Self {
        let deployment = Deployment::start(mode);
        let [one, two] = ["one", "two"].map(|id| tenant(&deployment, id, &[]));
        Self { deployment, one, two }
    }
}

/// Adds a tenant whose user may publish and subscribe [`echo`] of it: in an account of its own by
/// explicit lists, in a shared one by the permissions of a `bb` user.
fn tenant(deployment: &Deployment, id: &'static str, extra: &[&str]) -> Tenant {
    let admin = deployment.tenant_add(id, extra);
    let name = format!("{id}-app");
    let lists: &[&str] = if shared(deployment, extra) {
        &["--kind", "bb"]
    } else {
        &["--publish", "echo,done", "--subscribe", "echo,done"]
    };
    let user = deployment.user_add(id, &name, lists);
    let token = deployment.token_add(id, &name);
    Tenant { id, admin, user, token }
}

/// Whether a tenant added with these options shares an account with others.
fn shared(deployment: &Deployment, extra: &[&str]) -> bool {
    deployment.mode == Mode::Config || extra.contains(&"shared")
}

/// The subject that the user of a tenant may use.
pub(crate) fn echo(mode: Mode, id: &str) -> String {
    match mode {
        Mode::Operator => "echo".to_owned(),
        Mode::Config => format!("user.{id}.echo"),
    }
}

/// The inbox prefix that a client of a tenant has to have: the default one in an own account.
pub(crate) fn inbox_prefix(mode: Mode, id: &str) -> Option<String> {
    (mode == Mode::Config).then(|| format!("_INBOX_{id}"))
}

pub(crate) fn scenario(mode: Mode, id: &str) -> Scenario {
    let echo = echo(mode, id);
    Scenario {
        subscribe: echo.clone(),
        publish: echo.clone(),
        request: echo,
        forbidden: Some("forbidden.subject".to_owned()),
        inbox_prefix: inbox_prefix(mode, id),
        jetstream: None,
    }
}

/// Logs in and panics with the service's log when that is refused.
async fn admitted(deployment: &Deployment, login: &Login, id: &str) -> Connected {
    let prefix = inbox_prefix(deployment.mode, id).unwrap_or_else(|| "_INBOX".to_owned());
    client::connect(&deployment.url(), login, &prefix).await.unwrap_or_else(|error| {
        panic!("{id}: {error}\n{}\n{}", deployment.service.log(), deployment.server.log())
    })
}
