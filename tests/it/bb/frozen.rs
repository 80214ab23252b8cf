//! An instance that hangs is in nobody's way: what it would take, the others do.

use super::{App, Backend, Isolation};
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::service::Service;
use crate::harness::{eventually, eventually_async, ports};

async fn closed(mode: Mode) {
    let deployment = Deployment::start(mode);
    let http = format!("127.0.0.1:{}", ports::free());
    let mut other = Service::launch(&deployment.config(), &[("NATS_CALLOUT_HTTP_LISTEN", &http)]);
    other.wait_until_ready().unwrap_or_else(|log| panic!("{log}"));
    let isolation = match mode {
        Mode::Operator => Isolation::Own,
        Mode::Config => Isolation::Shared,
    };
    let app = App::add(&deployment, "one", isolation, &[]).await;
    let backend = Backend::connect(&deployment).await;
    eventually_async("an event that is taken", || async {
        app.asked("first").await["error"].is_null().then_some(())
    })
    .await;
    other.freeze();
    eventually("a word of what was closed", || {
        let log = deployment.service.log();
        (log.matches("its intake was closed").count() == 2).then_some(())
    });
    let before = backend.messages("ReceivedEvents").await;
    for at in 0..20 {
        let answer = app.asked(&format!("{at}")).await;
        assert!(answer["error"].is_null(), "{answer}");
    }
    backend.holds("ReceivedEvents", before + 20).await;
    other.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_hangs_takes_no_events() {
    for mode in either_mode() {
        closed(mode).await;
    }
}
