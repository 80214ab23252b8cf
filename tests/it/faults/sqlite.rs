//! An SQLite file that is locked, on a full disk, and overwritten.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use super::{Deployment, Holder, Mode, observe};
use crate::harness::deployment::Table;
use crate::harness::loudly;

fn locked(database: &Path) -> Holder {
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

#[test]
fn a_file_that_another_process_has_locked() {
    for mode in [Mode::Operator, Mode::Config] {
        let deployment = Deployment::start_on(mode, || Table::Default);
        let database = deployment.dir().join("nats-callout.db");
        observe("SQLite: locked by another process", &deployment, || locked(&database), drop);
    }
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

#[test]
fn a_full_disk() {
    let Some(small) = Small::mount() else {
        return loudly("SKIPPED: a full disk (this user may not mount a tmpfs)");
    };
    let file = small.folder.path().join("tenants.db");
    let deployment = Deployment::start_on(Mode::Config, || Table::Sqlite(file.clone()));
    let ballast = small.folder.path().join("ballast");
    let fill = || {
        let mut file = std::fs::File::create(&ballast).expect("a file");
        while file.write_all(&[0; 65_536]).is_ok() {}
    };
    let empty = |()| std::fs::remove_file(&ballast).expect("room again");
    observe("SQLite: full disk", &deployment, fill, empty);
}

/// Writes over the whole file but its first page, in the middle of its life, and back.
#[test]
fn a_file_with_flipped_bytes() {
    let deployment = Deployment::start_on(Mode::Config, || Table::Default);
    let database = deployment.dir().join("nats-callout.db");
    let flip = || {
        deployment.sql("PRAGMA wal_checkpoint(TRUNCATE);");
        let before = std::fs::read(&database).expect("the file");
        let flipped: Vec<u8> = before[4096..].iter().map(|byte| byte ^ 0x55).collect();
        overwrite(&database, &flipped);
        before
    };
    let restore = |before: Vec<u8>| overwrite(&database, &before[4096..]);
    observe("SQLite: flipped bytes", &deployment, flip, restore);
}

fn overwrite(database: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).open(database).expect("the file");
    file.seek(SeekFrom::Start(4096)).expect("its second page");
    file.write_all(bytes).expect("room");
}
