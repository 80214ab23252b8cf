//! Policies that are edited many times in a row while users log in.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;

use crate::harness::choice::either_mode;
use crate::harness::client::{self, Login};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::turn::alone;
use crate::harness::{depth, eventually_async, raw};
use crate::policies::edits::{count, subject, taken, version};
use crate::policies::{user, with_files};

/// Between two logins of a thread.
fn pace() -> Duration {
    depth(Duration::from_millis(5), Duration::ZERO)
}

/// Whether the user's next login may use this version's subject.
async fn may(deployment: &Deployment, login: &Login, number: usize) -> bool {
    let connected = client::connect(&deployment.url(), login, "_INBOX_shop").await.unwrap();
    let subject = subject(deployment.mode, number);
    let mut subscription = connected.client.subscribe(subject.clone()).await.unwrap();
    connected.client.publish(subject, "x".into()).await.unwrap();
    loop {
        if tokio::time::timeout(Duration::from_millis(20), subscription.next()).await.is_ok() {
            return true;
        }
        if !connected.errors().is_empty() {
            return false;
        }
    }
}

/// Sets a flag when dropped, so that a failing test ends its threads.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn under_load(mode: Mode) {
    const EDITS: usize = 50;
    alone();
    let bursts = depth(5, 20);
    let deployment = with_files(mode, &[("live.toml", &version(0))]);
    deployment.tenant_add("shop", &[]);
    let alice = user(&deployment, "alice", "live");
    let fields = alice.connect_fields();
    let folder = deployment.dir().join("policies");
    let (over, logins) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let (verdict, _took) = raw::connect(deployment.init.port, &fields);
                    assert_eq!(verdict, raw::Verdict::Admitted);
                    logins.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(pace());
                }
            });
        }
        for burst in 0..bursts {
            taken(&deployment, || {
                for edit in 1..=EDITS {
                    let fresh = folder.join(".live.toml.fresh");
                    std::fs::write(&fresh, version(burst * EDITS + edit)).unwrap();
                    std::fs::rename(&fresh, folder.join("live.toml")).unwrap();
                }
            });
        }
    });
    assert!(logins.load(Ordering::Relaxed) > bursts, "logins went on meanwhile");
    eventually_async("the last edit", || async {
        may(&deployment, &alice, bursts * EDITS).await.then_some(())
    })
    .await;
    assert_eq!(count(&deployment, "the old ones stay in use"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_edits_refuse_nobody() {
    for mode in either_mode() {
        under_load(mode).await;
    }
}
