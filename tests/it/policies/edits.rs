//! An edit comes into use whole and without a restart; one with mistakes does not, and says so once.
//! Many edits in a row are in [`within::under_load`](crate::within::under_load).

use std::path::Path;

use super::{deployment, user, with_files};
use crate::harness::choice::either_mode;
use crate::harness::client::{self, Connected, Login};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::{eventually, http};

/// A policy whose users may use the subject `v<version>` and no other.
pub(crate) fn version(number: usize) -> String {
    format!(
        "[account]\npublish = [\"v{number}\"]\nsubscribe = [\"v{number}\"]\n\n[shared]\n\
         publish = [\"user.{{{{tenant.id}}}}.v{number}\"]\n\
         subscribe = [\"user.{{{{tenant.id}}}}.v{number}\"]\n"
    )
}

pub(crate) fn subject(mode: Mode, number: usize) -> String {
    match mode {
        Mode::Operator => format!("v{number}"),
        Mode::Config => format!("user.shop.v{number}"),
    }
}

/// The value of a metric.
pub(crate) fn metric(deployment: &Deployment, name: &str) -> u64 {
    let body = http::get(deployment.http(), "/metrics").expect("an answer").body;
    let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {body}")).parse().unwrap()
}

fn broken(deployment: &Deployment, expected: bool) {
    let state = || metric(deployment, "nats_callout_policies_broken") == u64::from(expected);
    eventually("the metric of broken policies", || state().then_some(()));
}

/// Runs an edit and waits until it is taken.
pub(crate) fn taken(deployment: &Deployment, edit: impl FnOnce()) {
    let reloads = || metric(deployment, "nats_callout_policy_reloads_total");
    let before = reloads();
    edit();
    eventually("the edit", || (reloads() > before).then_some(()));
}

/// The user's next login may use this version's subject, and no other's.
async fn has(deployment: &Deployment, login: &Login, number: usize) {
    let connected = client::connect(&deployment.url(), login, "_INBOX_shop").await.unwrap();
    may_use(&connected, deployment, number).await;
}

/// This connection may use this version's subject, and not the next one's.
async fn may_use(connected: &Connected, deployment: &Deployment, number: usize) {
    connected.round_trip(&subject(deployment.mode, number)).await;
    assert_eq!(connected.errors(), [""; 0]);
    let other = subject(deployment.mode, number + 1);
    connected.client.publish(other.clone(), "x".into()).await.unwrap();
    connected.violation(&["publish", &format!("\"{other}\"")]).await;
}

pub(crate) fn count(deployment: &Deployment, words: &str) -> usize {
    deployment.service.log().lines().filter(|line| line.contains(words)).count()
}

async fn edited(mode: Mode) {
    let deployment = with_files(mode, &[("live.toml", &version(1))]);
    deployment.tenant_add("shop", &[]);
    let alice = user(&deployment, "alice", "live");
    let folder = deployment.dir().join("policies");
    // In one step: a file that is half written is a mistake, which is said.
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(".fresh"), text).unwrap();
        std::fs::rename(folder.join(".fresh"), folder.join(name)).unwrap();
    };
    has(&deployment, &alice, 1).await;

    let held = client::connect(&deployment.url(), &alice, "_INBOX_shop").await.unwrap();
    taken(&deployment, || write("live.toml", &version(2)));
    has(&deployment, &alice, 2).await;
    // Who was connected before has what it had, and not what the next login has.
    may_use(&held, &deployment, 1).await;

    // Mistakes in two files: both are said, once, and the old set stays.
    write("live.toml", &version(3).replace("subscribe", "subscrib"));
    write("other.toml", "[account]\npublish = [\"a b\"]\n");
    broken(&deployment, true);
    has(&deployment, &alice, 2).await;
    let old_stays = "the old ones stay in use";
    eventually("both mistakes in the log", || {
        let log = deployment.service.log();
        let said =
            ["live.toml:3", "did you mean `subscribe`?", "other.toml:2", "blank", "[shared]"];
        said.iter().all(|words| log.contains(words)).then_some(())
    });
    let said = count(&deployment, old_stays);
    assert!(said <= 2, "one for each state of the folder: {}", deployment.service.log());
    // Meanwhile the service looks at the folder several times.
    let doctor = deployment.cli(&["doctor"]);
    assert!(doctor.stdout.contains("live.toml:3: [account] subscrib"), "{}", doctor.stdout);
    for _ in 0..3 {
        has(&deployment, &alice, 2).await;
    }
    assert_eq!(count(&deployment, old_stays), said, "said once");

    // Mended.
    std::fs::remove_file(folder.join("other.toml")).unwrap();
    taken(&deployment, || write("live.toml", &version(3)));
    broken(&deployment, false);
    has(&deployment, &alice, 3).await;

    // Half written, and completed, in place.
    let in_place = |text: &str| std::fs::write(folder.join("live.toml"), text).unwrap();
    let whole = version(4);
    let (half, _) = whole.split_once("\n[shared]").unwrap();
    in_place(half);
    broken(&deployment, true);
    has(&deployment, &alice, 3).await;
    taken(&deployment, || in_place(&whole));
    has(&deployment, &alice, 4).await;

    // Rows name it, and it is gone: they are refused, and others are not.
    let admin = deployment.user_add("shop", "bob", &["--kind", "bb"]);
    taken(&deployment, || std::fs::remove_file(folder.join("live.toml")).unwrap());
    client::refused(&deployment.url(), &alice).await;
    client::connect(&deployment.url(), &admin, "_INBOX_shop").await.unwrap();
    let log = deployment.service.log();
    assert!(log.contains("the row names the policy `live`"), "{log}");

    // The folder itself is gone, and back.
    let away = deployment.dir().join("away");
    std::fs::rename(&folder, &away).unwrap();
    broken(&deployment, true);
    client::connect(&deployment.url(), &admin, "_INBOX_shop").await.unwrap();
    std::fs::write(away.join("live.toml"), version(5)).unwrap();
    taken(&deployment, || std::fs::rename(&away, &folder).unwrap());
    has(&deployment, &alice, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_reach_those_whom_they_concern() {
    for mode in either_mode() {
        edited(mode).await;
    }
}

/// Points a symbolic link elsewhere in one step.
fn relink(link: &Path, target: &str) {
    let fresh = link.with_file_name("fresh-link");
    std::os::unix::fs::symlink(target, &fresh).unwrap();
    std::fs::rename(&fresh, link).unwrap();
}

/// As `ln -sfn` does, and as Kubernetes exchanges the files of a ConfigMap.
#[tokio::test(flavor = "multi_thread")]
async fn exchanged_links() {
    let deployment = deployment(Mode::Config, |init| {
        for number in 1..=3 {
            let folder = init.dir().join(format!("release-{number}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("live.toml"), version(number)).unwrap();
        }
        std::os::unix::fs::symlink("release-1", init.dir().join("policies")).unwrap();
    });
    deployment.tenant_add("shop", &[]);
    let alice = user(&deployment, "alice", "live");
    has(&deployment, &alice, 1).await;
    let folder = deployment.dir().join("policies");
    taken(&deployment, || relink(&folder, "release-2"));
    has(&deployment, &alice, 2).await;

    let release = deployment.dir().join("release-3");
    for number in [4, 5] {
        std::fs::create_dir_all(release.join(format!("..{number}"))).unwrap();
        std::fs::write(release.join(format!("..{number}/live.toml")), version(number)).unwrap();
    }
    std::fs::remove_file(release.join("live.toml")).unwrap();
    relink(&release.join("..data"), "..4");
    std::os::unix::fs::symlink("..data/live.toml", release.join("live.toml")).unwrap();
    taken(&deployment, || relink(&folder, "release-3"));
    has(&deployment, &alice, 4).await;
    taken(&deployment, || relink(&release.join("..data"), "..5"));
    has(&deployment, &alice, 5).await;
}
