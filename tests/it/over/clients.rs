//! Clients whose connections are closed are told no error: of one on a connection that was admitted,
//! nats-py and the C client make an end for good.

use std::time::Instant;

use crate::harness::choice::modes;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::staying::{Library, Staying, Subjects};
use crate::within::changes::crowd::Held;

/// Waits for the end of connections, each without an error.
#[track_caller]
fn end_without_an_error<'a>(held: impl IntoIterator<Item = &'a mut Held>) {
    for connection in held {
        let said = connection.last_words();
        assert!(!said.contains("-ERR"), "{said}");
    }
}

/// nats-py at its defaults.
fn connect(deployment: &Deployment, login: &Login) -> Option<Staying> {
    let subjects = Subjects::of(deployment.mode, "one");
    Staying::connect(Library::NatsPy, &deployment.url(), login, &subjects)
}

#[test]
fn who_is_suspended_is_told_no_error_and_comes_back() {
    for mode in modes() {
        let deployment = Deployment::start(mode);
        let login = deployment.tenant_add("one", &["--memory", "1MB", "--storage", "16MB"]);
        let python = connect(&deployment, &login);
        for by_command in [true, false] {
            let mut held: Vec<Held> =
                std::iter::repeat_with(|| Held::connect(deployment.server.port(), &login))
                    .take(8)
                    .collect();
            if by_command {
                deployment.cli(&["tenant", "suspend", "one"]).success();
            } else {
                deployment.sql("UPDATE tenants SET status = 'suspended' WHERE id = 'one'");
            }
            end_without_an_error(&mut held);
            if by_command {
                deployment.cli(&["tenant", "resume", "one"]).success();
            }
        }
        let Some(mut python) = python else { continue };
        // It may have come back in between.
        python.says("disconnected");
        deployment.cli(&["tenant", "resume", "one"]).success();
        python.says("reconnected");
    }
}

/// The youngest go, as many as there are too many; whoever comes while the limit falls does not have
/// another one closed with an error.
#[test]
fn who_is_beyond_a_lower_limit_is_told_no_error_and_comes_back() {
    let deployment = Deployment::start(Mode::Operator);
    let login = deployment.tenant_add("one", &["--memory", "1MB", "--storage", "16MB"]);
    let port = deployment.server.port();
    let mut oldest: Vec<Held> = (0..2).map(|_| Held::connect(port, &login)).collect();
    let mut others: Vec<Held> = (0..6).map(|_| Held::connect(port, &login)).collect();
    let python = connect(&deployment, &login);
    deployment.sql("UPDATE tenants SET max_connections = 2 WHERE id = 'one'");
    let began = Instant::now();
    let late: Vec<Result<Held, String>> =
        std::iter::repeat_with(|| Held::try_connect(port, &login))
            .take_while(|last| last.is_ok() && began.elapsed().as_secs() < 5)
            .collect();
    end_without_an_error(&mut others);
    end_without_an_error(late.into_iter().flatten().collect::<Vec<_>>().iter_mut());
    assert!(oldest.iter_mut().all(Held::is_alive), "the oldest stay");
    let Some(mut python) = python else { return };
    python.says("disconnected");
    deployment.sql("UPDATE tenants SET max_connections = NULL WHERE id = 'one'");
    python.says("reconnected");
}
