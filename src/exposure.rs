//! Whether what the service goes by is its own: the files and folders that nobody may change, and of
//! secrets that nobody may read, but the user that it runs as, root, and the groups that it runs in.
//! Whoever else can is anybody to the service.
//!
//! Links are followed one by one, each with the folder that it lies in: whoever writes there leads it
//! elsewhere. In a folder with the sticky bit others cannot exchange what is not theirs, and nothing
//! can be changed on a file system that is mounted read-only, as Kubernetes mounts its volumes.
//!
//! An access control list is read where a file has one, as the credentials of systemd do: its mode shows
//! the list's mask in the place of the group's rights.

mod acl;

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

/// A file or folder that others than the service can get at.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Exposure {
    /// Others can change it.
    #[error("{} {who}, so that others can change {what}; run `{remedy} {}`{other}", path.display(), path.display())]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Who can.
        who: String,
        /// What it is to the service.
        what: &'static str,
        /// The command that mends it.
        remedy: &'static str,
        /// What does where that cannot be run.
        other: &'static str,
    },
    /// Others can read it.
    #[error("{} {who}, so that others can {what}; {remedy}", path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Who can.
        who: String,
        /// What they get.
        what: &'static str,
        /// What mends it.
        remedy: String,
    },
}

/// Links that are followed at most, as the operating system does.
const LINKS: usize = 40;

const STICKY: u32 = 0o1000;

/// What policies are to the service.
pub(crate) const POLICIES: &str = "what users may do";

/// Who may write, and read secrets.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Trust {
    /// Root, the user and the groups of this process, and the owner of `key`: a file that its
    /// owner alone can read is the service's, also where somebody else asks.
    pub(crate) fn new(key: Option<&Path>) -> Self {
        let found = key.and_then(|key| fs::metadata(key).ok());
        let mut trust = Self::with_owner(found.as_ref());
        trust.groups.extend(found.map(|found| found.gid()));
        trust
    }

    /// Root, the user and the groups of this process, and the owner of `key`, whose group has nothing to
    /// say: that it can read it may be what is wrong.
    pub(crate) fn of_key(key: &Path) -> Self {
        Self::with_owner(fs::metadata(key).ok().as_ref())
    }

    fn with_owner(key: Option<&Metadata>) -> Self {
        let mut users = vec![0, rustix::process::geteuid().as_raw()];
        let mut groups = vec![0, rustix::process::getegid().as_raw()];
        let more = rustix::process::getgroups().unwrap_or_default();
        groups.extend(more.into_iter().map(rustix::process::Gid::as_raw));
        users.extend(key.map(|found| found.uid()));
        Self { users, groups }
    }

    /// Who else can change what `path` leads to; `what` it is to the service.
    pub(crate) fn writers(&self, path: &Path, what: &'static str) -> Vec<Exposure> {
        let mut faults = Vec::new();
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new(".")).to_owned();
            // What is not there is reported by whoever needs it.
            let Ok(found) = fs::symlink_metadata(&path) else { break };
            if let Ok(around) = fs::metadata(&folder) {
                faults.extend(self.fault(&folder, &around, what));
            }
            if !found.is_symlink() {
                faults.extend(self.fault(&path, &found, what));
                break;
            }
            faults.extend(self.foreign(&path, &found, what));
            let Ok(to) = fs::read_link(&path) else { break };
            path = folder.join(to);
        }
        faults
    }

    /// [`Self::writers`] of a folder and of the files in it whose names end in `.toml`.
    pub(crate) fn writers_in(&self, folder: &Path, what: &'static str) -> Vec<Exposure> {
        let mut faults = self.writers(folder, what);
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.path());
        for file in files.filter(|path| path.extension().is_some_and(|it| it == "toml")) {
            faults.extend(self.writers(&file, what));
        }
        faults.sort();
        faults.dedup();
        faults
    }

    /// Whether anybody at all can change a file, which groups may share.
    pub(crate) fn anybody_writes(path: &Path, what: &'static str) -> Option<Exposure> {
        let found = fs::metadata(path).ok()?;
        let who = format!("has mode {:04o}", found.mode() & 0o7777);
        if found.mode() & 0o002 == 0 {
            return None;
        }
        writable(path, who, what, "chmod o-w")
    }

    /// Whether others can read the file, and with it what.
    pub(crate) fn readers(&self, path: &Path, what: &'static str) -> Option<Exposure> {
        let who = self.who_reads(path)?;
        let shown = path.display();
        let remedy = if is_read_only(path) {
            "mount it with mode 0400, or 0440 and a group that the service runs in (in Kubernetes \
             `defaultMode: 0440` and `fsGroup`, in swarm `mode: 0400` and `uid`; of a `file` of docker compose the mode on the host counts)"
                .to_owned()
        } else if acl::of(path).is_some() {
            format!(
                "run `setfacl -b {shown}` and {}",
                own(path, rustix::process::geteuid().as_raw())
            )
        } else {
            format!("run {}", own(path, rustix::process::geteuid().as_raw()))
        };
        Some(Exposure::Readable { path: path.to_owned(), who, what, remedy })
    }

    fn who_reads(&self, path: &Path) -> Option<String> {
        let found = fs::metadata(path).ok()?;
        let (mode, group) = (found.mode() & 0o7777, found.gid());
        if mode & 0o007 != 0 {
            return Some(format!("has mode {mode:04o}"));
        }
        // Without these, nobody in a list has any right either.
        if mode & 0o070 == 0 {
            return None;
        }
        let of_group = |group| {
            let is_ours = self.groups.contains(&group);
            (!is_ours).then(|| {
                format!("has mode {mode:04o} and the group {group}, which is not the service's")
            })
        };
        let Some(entries) = acl::of(path) else { return of_group(group) };
        entries.into_iter().find_map(|entry| match entry {
            acl::Entry::Owner => None,
            acl::Entry::User(user) if self.users.contains(&user) => None,
            acl::Entry::User(user) => {
                Some(format!("lets the user {user} in by its access control list"))
            }
            acl::Entry::OwningGroup => of_group(group),
            acl::Entry::Group(other) if self.groups.contains(&other) => None,
            acl::Entry::Group(other) => {
                Some(format!("lets the group {other} in by its access control list"))
            }
            acl::Entry::Unknown => {
                Some("has an access control list that cannot be read".to_owned())
            }
        })
    }

    /// The groups that can read the file, but root's.
    pub(crate) fn reading_groups(path: &Path) -> Vec<u32> {
        let Ok(found) = fs::metadata(path) else { return Vec::new() };
        if found.mode() & 0o040 == 0 {
            return Vec::new();
        }
        let entries = acl::of(path).unwrap_or_else(|| vec![acl::Entry::OwningGroup]);
        let groups = entries.into_iter().filter_map(|entry| match entry {
            acl::Entry::OwningGroup => Some(found.gid()),
            acl::Entry::Group(group) => Some(group),
            acl::Entry::Owner | acl::Entry::User(_) | acl::Entry::Unknown => None,
        });
        groups.filter(|group| *group != 0).collect()
    }

    fn fault(&self, path: &Path, found: &Metadata, what: &'static str) -> Option<Exposure> {
        let mode = found.mode();
        let groups = if self.groups.contains(&found.gid()) { 0 } else { 0o020 };
        let is_sticky = found.is_dir() && mode & STICKY != 0;
        if is_sticky || mode & (groups | 0o002) == 0 {
            return self.foreign(path, found, what);
        }
        let who = format!("has mode {:04o}", mode & 0o7777);
        writable(path, who, what, "chmod go-w")
    }

    fn foreign(&self, path: &Path, found: &Metadata, what: &'static str) -> Option<Exposure> {
        if self.users.contains(&found.uid()) {
            return None;
        }
        let who = format!("belongs to the user {}", found.uid());
        writable(path, who, what, "chown root")
    }
}

fn writable(
    path: &Path,
    who: String,
    what: &'static str,
    remedy: &'static str,
) -> Option<Exposure> {
    let path = path.to_owned();
    let other = fs::metadata(&path).map_or("", |found| instead(&found));
    (!is_read_only(&path)).then_some(Exposure::Writable { path, who, what, remedy, other })
}

/// What the user of this process can do about a folder that is somebody else's, as an `emptyDir` of Kubernetes is.
fn instead(found: &Metadata) -> &'static str {
    let us = rustix::process::geteuid();
    if !found.is_dir() || us.is_root() || us.as_raw() == found.uid() {
        return "";
    }
    " as its owner, or, where that cannot be, as in an `emptyDir`, put the files into a folder below it, of mode 0700"
}

fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Whether a configuration holds a password: in a URL, or as a parameter of one.
pub(crate) fn holds_password(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.any(|line| {
        let urls = line.split("://").skip(1);
        let mut logins =
            urls.filter_map(|rest| rest.split(['/', '"', '\'']).next()?.rsplit_once('@'));
        let is_secret = line.trim_start().starts_with("client_secret");
        is_secret || line.contains("password=") || logins.any(|(login, _)| login.contains(':'))
    })
}

/// What makes a file one of `user` alone, whom its mode alone would shut out of what is another's.
fn own(path: &Path, user: u32) -> String {
    let shown = path.display();
    let is_others = fs::metadata(path).is_ok_and(|found| found.uid() != user);
    match is_others && user != 0 {
        true => format!("`chown {user} {shown}` and `chmod 600 {shown}`"),
        false => format!("`chmod 600 {shown}`"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const WHAT: &str = "it";

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A folder 0755 with a file 0644.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        set(folder.path(), 0o755);
        let file = folder.path().join("a.toml");
        fs::write(&file, "").unwrap();
        set(&file, 0o644);
        (folder, file)
    }

    fn named(path: &Path) -> Vec<PathBuf> {
        let faults = Trust::new(None).writers(path, WHAT).into_iter();
        faults
            .map(|fault| match fault {
                Exposure::Writable { path, .. } | Exposure::Readable { path, .. } => path,
            })
            .collect()
    }

    #[test]
    fn a_file_and_the_folder_that_it_lies_in() {
        let (folder, file) = place();
        assert!(named(&file).is_empty());
        set(&file, 0o666);
        assert_eq!(named(&file), [file.as_path()]);
        set(&file, 0o600);
        set(folder.path(), 0o777);
        assert_eq!(named(&file), [folder.path().to_owned()]);
        set(folder.path(), 0o1777);
        assert!(named(&file).is_empty(), "nobody exchanges what is not theirs");
        let text = Trust::new(None).writers(Path::new("/no/such"), WHAT);
        assert!(text.is_empty());
    }

    #[test]
    fn every_link_on_the_way() {
        let (folder, file) = place();
        let (other, link) = place();
        fs::remove_file(&link).unwrap();
        // As Kubernetes mounts a ConfigMap: links with every right, which mean nothing.
        let data = other.path().join("..data");
        symlink(folder.path(), &data).unwrap();
        symlink("..data/a.toml", &link).unwrap();
        assert!(named(&link).is_empty());
        set(&file, 0o646);
        assert_eq!(named(&link).last(), Some(&data.join("a.toml")));
        set(&file, 0o644);
        set(other.path(), 0o757);
        assert_eq!(named(&link)[0], other.path());
        set(other.path(), 0o755);
        set(folder.path(), 0o757);
        assert!(!named(&link).is_empty());
    }

    #[test]
    fn a_link_that_leads_in_circles_ends() {
        let (folder, _) = place();
        let link = folder.path().join("round");
        symlink(&link, &link).unwrap();
        assert!(named(&link).is_empty());
    }

    #[test]
    fn groups_and_owners_that_are_none_of_the_services() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIPPED: only root gives files away");
        }
        let (folder, file) = place();
        std::os::unix::fs::chown(&file, None, Some(54_321)).unwrap();
        set(&file, 0o664);
        assert_eq!(named(&file), [file.as_path()]);
        std::os::unix::fs::chown(&file, Some(54_321), Some(0)).unwrap();
        assert_eq!(named(&file), [file.as_path()], "its owner can write it");
        let trust = Trust::new(Some(&file));
        assert!(trust.writers(&file, WHAT).is_empty(), "whoever has the keys is the service");
        std::os::unix::fs::chown(&file, Some(0), Some(0)).unwrap();
        std::os::unix::fs::chown(folder.path(), Some(54_321), None).unwrap();
        set(folder.path(), 0o1755);
        assert_eq!(named(&file), [folder.path().to_owned()], "the owner of a sticky folder may");
    }

    #[test]
    fn what_cannot_be_written_at_all_is_no_fault() {
        // Not every machine has one of these read-only; that such a mount is no fault is in
        // `cli::files`, for those who may mount.
        let read_only = ["/sys", "/proc/sys", "/usr"].map(Path::new).into_iter();
        for path in read_only.filter(|path| is_read_only(path)) {
            assert_eq!(writable(path, String::new(), WHAT, ""), None);
        }
        assert!(!is_read_only(place().0.path()));
    }

    #[test]
    fn passwords_in_a_configuration() {
        for text in [
            "url = \"postgres://me:pw@h/db\"",
            "url='nats://u:p@h:4222'",
            "url = \"postgres://me@h/db?password=pw\"",
        ] {
            assert!(holds_password(text), "{text}");
        }
        for text in [
            "url = \"postgres://me@h:5432/db\"",
            "# url = \"postgres://me:pw@h/db\"",
            "url = \"sqlite:///a@b:c.db\"",
            "issuer = \"https://a/b:c@d\"",
        ] {
            assert!(!holds_password(text), "{text}");
        }
    }

    #[test]
    fn who_can_read_it() {
        let (_folder, file) = place();
        let who = |trust: Trust| trust.readers(&file, WHAT).map(|it| it.to_string());
        assert!(who(Trust::new(None)).unwrap().contains("has mode 0644"));
        set(&file, 0o640);
        assert_eq!(who(Trust::new(None)), None, "a group that the service runs in");
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIPPED: only root gives files away");
        }
        std::os::unix::fs::chown(&file, None, Some(54_321)).unwrap();
        let said = who(Trust::of_key(&file)).unwrap();
        assert!(said.contains("has mode 0640 and the group 54321"), "{said}");
        assert!(said.contains(&format!("run `chmod 600 {}`", file.display())), "{said}");
        let told = format!("`chown 7 {0}` and `chmod 600 {0}`", file.display());
        assert_eq!(own(&file, 7), told, "its mode alone would shut the service out");
        assert_eq!(who(Trust::new(Some(&file))), None);
        assert_eq!(Trust::reading_groups(&file), [54_321]);
        set(&file, 0o600);
        assert_eq!(who(Trust::of_key(&file)), None);
        assert!(Trust::reading_groups(&file).is_empty());
    }
}
