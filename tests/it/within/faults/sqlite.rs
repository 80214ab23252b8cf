//! An SQLite file that is locked, on a full disk, and overwritten.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use super::{Deployment, Holder, Mode, observe};
use crate::harness::deployment::Table;
use crate::harness::raw::{self, Verdict};
use crate::harness::turn::measured;
use crate::harness::{eventually, loudly};

/// A program that keeps all others from writing.
pub(crate) fn locked(database: &Path) -> Holder {
    const PROGRAM: &str = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
connection.execute('BEGIN EXCLUSIVE')
print('locked', flush=True)
sys.stdin.read()
";
    let mut command = Command::new("python3");
    command.args(["-c", PROGRAM]).arg(database);
    Holder::start(command, "")
}

fn locked_by_another(deployment: &Deployment) {
    let database = deployment.dir().join("nats-callout.db");
    observe("SQLite: locked by another process", deployment, || locked(&database), drop);
}

/// A file system of its own, which only root may make.
struct Small {
    folder: tempfile::TempDir,
}

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(folder.path())
            .output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self { folder })
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

fn full_disk(deployment: &Deployment, small: &Small) {
    let ballast = small.folder.path().join("ballast");
    let fill = || {
        let mut file = std::fs::File::create(&ballast).expect("a file");
        while file.write_all(&[0; 65_536]).is_ok() {}
    };
    let empty = |()| std::fs::remove_file(&ballast).expect("room again");
    observe("SQLite: full disk", deployment, fill, empty);
    // The service writes again as well.
    let login = deployment.tenant_add("after", &[]);
    let (verdict, _) = raw::connect(deployment.server.port(), &login.connect_fields());
    assert_eq!(verdict, Verdict::Admitted);
    eventually("its last login", || {
        let noted = "SELECT last_login_at FROM users WHERE name = 'after'";
        (!deployment.sql(noted).is_empty()).then_some(())
    });
}

/// Writes over the whole file but its first page, in the middle of its life, and back.
fn flipped_bytes(deployment: &Deployment) {
    let database = deployment.dir().join("nats-callout.db");
    let flip = || {
        deployment.sql("PRAGMA wal_checkpoint(TRUNCATE);");
        let before = std::fs::read(&database).expect("the file");
        let flipped: Vec<u8> = before[4096..].iter().map(|byte| byte ^ 0x55).collect();
        overwrite(&database, &flipped);
        before
    };
    let restore = |before: Vec<u8>| overwrite(&database, &before[4096..]);
    observe("SQLite: flipped bytes", deployment, flip, restore);
}

fn overwrite(database: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).open(database).expect("the file");
    file.seek(SeekFrom::Start(4096)).expect("its second page");
    file.write_all(bytes).expect("room");
}

#[test]
fn a_file_that_another_process_has_locked_or_overwritten_or_on_a_full_disk() {
    measured();
    let own = |mode| Deployment::start_on(mode, || Table::Default);
    let (operator, config, overwritten) =
        (own(Mode::Operator), own(Mode::Config), own(Mode::Config));
    let small = Small::mount();
    let full = small.as_ref().map(|small| {
        let file = small.folder.path().join("tenants.db");
        (Deployment::start_on(Mode::Config, || Table::Sqlite(file.clone())), small)
    });
    std::thread::scope(|scope| {
        scope.spawn(|| locked_by_another(&operator));
        scope.spawn(|| locked_by_another(&config));
        scope.spawn(|| flipped_bytes(&overwritten));
        match &full {
            Some((deployment, small)) => {
                scope.spawn(move || full_disk(deployment, small));
            }
            None => loudly("SKIPPED: a full disk (this user may not mount a tmpfs)"),
        }
    });
}
