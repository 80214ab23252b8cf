//! Key files where container platforms put them, as they do it: read by `doctor` and `serve` as the user of a
//! container.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::choice::modes;
use crate::harness::deployment::{Initialised, Mode, Table};
use crate::harness::process::Process;
use crate::harness::servers::{self, NatsServer};
use crate::harness::{eventually, loudly, service};

/// The user of a container, and the group that Kubernetes gives its volumes (`fsGroup`).
const USER: u32 = 47_111;
const GROUP: u32 = 47_112;

/// Mounts a folder onto itself, where nothing can be changed, and goes on there.
const READ_ONLY: &str =
    "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"";

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn chown(path: &Path, user: u32, group: u32) {
    std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).filter(|it| it.is_file()).collect()
}

/// As systemd and `setfacl` do: the owner, and one more user. Says whether this file system has such lists.
fn let_in(path: &Path, user: u32) -> bool {
    let rights = if path.is_dir() { 5_u16 } else { 4 };
    let mut list = 2_u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, rights, id) in [
        (1_u16, rights, none),
        (2, rights, user),
        (4, 0, none),
        (0x10, rights, none),
        (0x20, 0, none),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "system.posix_acl_access", &list, flags).is_ok()
}

/// A deployment that the user of a container can read, with the program in it.
struct Container {
    init: Initialised,
    program: PathBuf,
    keys: PathBuf,
}

impl Container {
    fn new(mode: Mode) -> Self {
        let init = Initialised::on(mode, Table::Default);
        let program = init.dir().join("program");
        fs::copy(service::program().get_program(), &program).unwrap();
        chown(&init.dir(), USER, USER);
        chmod(&init.dir(), 0o755);
        chmod(&init.config(), 0o644);
        let keys = init.dir().join("keys");
        if mode == Mode::Operator {
            fs::remove_dir_all(keys.join("offline")).unwrap();
        }
        Self { init, program, keys }
    }

    /// Gives every key this mode and owner, and the folder that they are in.
    fn own(&self, mode: u32, folder: u32, (user, group): (u32, u32)) {
        chown(&self.keys, user, group);
        chmod(&self.keys, folder);
        for file in files(&self.keys) {
            chown(&file, user, group);
            chmod(&file, mode);
        }
    }

    /// Makes links of the keys, to a folder beside, in a folder that all may write but for what is not theirs: a
    /// Secret. Gives that folder.
    fn link(&self) -> PathBuf {
        let data = self.keys.join("..2026_01_02_03_04_05.1");
        fs::create_dir(&data).unwrap();
        for file in files(&self.keys) {
            let name = file.file_name().unwrap();
            fs::rename(&file, data.join(name)).unwrap();
            symlink(Path::new("..data").join(name), &file).unwrap();
        }
        symlink(data.file_name().unwrap(), self.keys.join("..data")).unwrap();
        chown(&self.keys, 0, GROUP);
        chmod(&self.keys, 0o1777);
        chown(&data, 0, GROUP);
        chmod(&data, 0o2755);
        data
    }

    /// Takes [`Self::link`] back.
    fn unlink(&self, data: &Path) {
        for file in files(data) {
            fs::rename(&file, self.keys.join(file.file_name().unwrap())).unwrap();
        }
        fs::remove_file(self.keys.join("..data")).unwrap();
        fs::remove_dir(data).unwrap();
    }

    /// Its user, who runs in that group, with the keys mounted read-only or as they are.
    fn command(&self, is_read_only: bool, name: &str) -> Command {
        let mut command = Command::new(if is_read_only { "unshare" } else { "setpriv" });
        if is_read_only {
            command.args(["--mount", "sh", "-c", READ_ONLY]).arg(&self.keys).arg("setpriv");
        }
        command
            .args([format!("--reuid={USER}"), format!("--regid={USER}")])
            .arg(format!("--groups={GROUP}"))
            .arg(&self.program)
            .args(["--json", "--config"])
            .arg(self.init.config())
            .arg(name)
            .env("NATS_CALLOUT_HTTP_LISTEN", self.init.http());
        command
    }

    fn may_mount(&self) -> bool {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", READ_ONLY]).arg(&self.keys).arg("true");
        command.output().is_ok_and(|output| output.status.success())
    }

    /// What `doctor` says of the key files.
    fn doctor(&self, is_read_only: bool) -> (String, String) {
        let output = self.command(is_read_only, "doctor").output().expect("setpriv");
        let text = String::from_utf8(output.stdout).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).expect(&text);
        let checks = json["checks"].as_array().unwrap().iter();
        let lines: Vec<_> = checks.filter(|line| line["check"] == "key files").collect();
        let word = |key: &str| lines[0][key].as_str().unwrap().to_owned();
        (word("state"), lines.iter().map(|line| line["what"].as_str().unwrap()).collect())
    }

    #[track_caller]
    fn ok(&self, what: &str) -> String {
        let (state, words) = self.doctor(false);
        assert_eq!(state, "ok", "{what}: {words}");
        words
    }

    /// Panics unless it fails with this remedy; gives its words.
    #[track_caller]
    fn refused(&self, what: &str, is_read_only: bool, remedy: &str) -> String {
        let (state, words) = self.doctor(is_read_only);
        assert!(state == "fail" && words.contains(remedy), "{what}: {words}");
        words
    }

    /// Runs `serve` until it is ready, or until it has ended; the error is its log.
    fn serve(&self, is_read_only: bool) -> Result<(), String> {
        let log = self.init.dir().join("container.log");
        let _ = fs::remove_file(&log);
        let mut command = self.command(is_read_only, "serve");
        let mut process = Process::spawn("serve in a container", &mut command, &log);
        eventually("it to be ready, or to end", || {
            if process.log().contains(service::READY) {
                return Some(Ok(()));
            }
            let status = process.ended()?;
            assert_eq!(status.code(), Some(2), "{}", process.log());
            Some(Err(process.log()))
        })
    }
}

/// Panics unless each secret key is told once, by the name of its file.
#[track_caller]
fn each_once(container: &Container, words: &str) {
    let names: BTreeSet<_> =
        files(&container.keys).into_iter().map(|it| it.file_name().unwrap().to_owned()).collect();
    for name in names {
        let name = name.to_str().unwrap();
        let told = words.matches(&format!("/{name} has mode")).count();
        assert_eq!(told, usize::from(!name.ends_with(".pub")), "{name} in {words}");
    }
}

fn only_for_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        loudly("SKIPPED: only root makes what others run in");
    }
    is_root
}

/// Each place that container platforms put secrets in, as they do it.
#[test]
fn keys_as_kubernetes_systemd_and_compose_mount_them() {
    if !only_for_root() {
        return;
    }
    let container = Container::new(Mode::Config);
    let keys = &container.keys;
    container.own(0o600, 0o700, (USER, USER));
    assert!(container.ok("its own").ends_with("readable by the service's user alone"));
    container.own(0o660, 0o2770, (USER, GROUP));
    let words = container.ok("a volume with fsGroup");
    assert!(words.contains(&format!("user and the group {GROUP} alone")), "{words}");
    container.own(0o400, 0o755, (USER, USER));
    container.ok("a secret of swarm, with uid and mode, in a folder of root");
    container.own(0o444, 0o755, (0, 0));
    container.refused("a secret of compose at its default", false, "chmod 600");
    container.own(0o440, 0o755, (0, GROUP + 1));
    let words = container.refused("another group's", false, "chmod 600");
    assert!(!words.contains("chmod go-w"), "{words}");

    container.own(0o400, 0o500, (0, 0));
    if [keys].into_iter().chain(&files(keys)).all(|path| let_in(path, USER)) {
        container.ok("credentials of systemd");
        let_in(&files(keys)[0], USER + 1);
        container.refused("somebody else's", false, "setfacl -b");
    } else {
        loudly("SKIPPED: access control lists, which this file system has none of");
    }
}

/// An `emptyDir` is for everybody: a folder in it is the service's own, and what lies in it straight is not.
fn in_an_empty_dir(container: &mut Container) {
    let volume = container.init.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    chown(&volume, 0, GROUP);
    chmod(&volume, 0o2777);
    let moved = volume.join("keys");
    fs::rename(&container.keys, &moved).unwrap();
    let text = fs::read_to_string(container.init.config()).unwrap();
    let config = text.replace("\"keys/", "\"volume/keys/");
    fs::write(container.init.config(), &config).unwrap();
    container.keys = moved;
    container.own(0o600, 0o700, (USER, USER));
    container.serve(false).unwrap_or_else(|log| panic!("a folder in an emptyDir: {log}"));

    for file in files(&container.keys) {
        fs::rename(&file, volume.join(file.file_name().unwrap())).unwrap();
    }
    let config = config.replace("\"volume/keys/", "\"volume/");
    fs::write(container.init.config(), config).unwrap();
    let told = format!("chmod go-w {}`", volume.display());
    let words = container.refused("an emptyDir itself", false, &told);
    let log = container.serve(false).unwrap_err();
    assert!(log.contains("put the files into a folder below it, of mode 0700"), "{log}");
    for words in [words, log] {
        assert_eq!(words.matches(&told).count(), 1, "{words}");
    }
}

/// `serve` starts where `doctor` says so, and ends where it does not, with what can be done there.
#[test]
fn serve_starts_with_the_keys_of_a_container_or_says_what_to_mount() {
    if !only_for_root() {
        return;
    }
    for mode in modes() {
        let mut container = Container::new(mode);
        let init = &container.init;
        let server = NatsServer::start(
            servers::version(),
            &init.server_conf(),
            init.port,
            Some(init.monitor),
        );
        let _server = server.unwrap_or_else(|log| panic!("{log}"));
        container.own(0o660, 0o2770, (USER, GROUP));
        container.serve(false).unwrap_or_else(|log| panic!("a volume with fsGroup: {log}"));

        let data = container.link();
        let with_mode = |mode: u32| {
            for file in files(&data) {
                chown(&file, 0, GROUP);
                chmod(&file, mode);
            }
        };
        with_mode(0o644);
        let words = container.refused("a Secret at its default mode", false, "chmod 600");
        each_once(&container, &words);
        let may_mount = container.may_mount();
        if may_mount {
            let remedy = "mount it with mode 0400, or 0440 and a group that the service runs in";
            let words = container.refused("the same, mounted read-only", true, remedy);
            let log = container.serve(true).unwrap_err();
            for words in [words, log] {
                each_once(&container, &words);
                assert!(words.contains(remedy) && !words.contains("chmod"), "{words}");
            }
        } else {
            loudly("SKIPPED: this user may mount nothing, read-only or otherwise");
            each_once(&container, &container.serve(false).unwrap_err());
        }
        with_mode(0o440);
        let ready = container.serve(may_mount);
        ready.unwrap_or_else(|log| panic!("a Secret with defaultMode 0440 and fsGroup: {log}"));
        container.unlink(&data);
        in_an_empty_dir(&mut container);
    }
}
