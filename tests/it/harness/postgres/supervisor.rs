//! Who keeps a server: the shell that runs it, and the template that its data folder is copied from.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use super::PASSWORD;
use super::programs::{programs_for, user};

/// Makes a folder in its first argument and prints its name. Then the first line names the folder of the programs, and
/// each one after it is a command, which prints a line when it is done: `start` the server's id. With
/// `copy` comes the folder of another, with `follow` the address of one that runs, whose standby it becomes. The other arguments are the server's own. What a server that was
/// killed left behind ends by itself.
const SUPERVISOR: &str = r#"
trap '' PIPE
folder=$(mktemp -d -p "$1") || exit
shift
echo "$folder"
server=
read -r programs
while read -r word other; do
  case $word in
    init) "$programs/initdb" --pgdata "$folder/data" --pwfile "$folder/password" --no-sync \
      --username postgres --encoding=UTF8 --locale=C --auth-local=trust \
      --auth-host=scram-sha-256 </dev/null >>"$folder/log" 2>&1 && echo made || echo failed ;;
    copy) cp -R -p "$other/data" "$folder/data" 2>>"$folder/log" && echo made || echo failed ;;
    follow) rm -rf "$folder/data"; "$programs/pg_basebackup" --dbname "$other" --pgdata "$folder/data" \
      --write-recovery-conf --checkpoint=fast --no-sync </dev/null >>"$folder/log" 2>&1 && echo made || echo failed ;;
    start) "$programs/postgres" -D "$folder/data" -k "$folder" -h 127.0.0.1 "$@" \
      </dev/null >>"$folder/log" 2>&1 & server=$!; echo "$server" ;;
    await) wait "$server"; server=; echo ended ;;
  esac
done
if [ -n "$server" ]; then
  kill -CONT "$server" $(pgrep -P "$server") 2>/dev/null
  kill -QUIT "$server" 2>/dev/null
  (sleep 10; kill -KILL "$server" 2>/dev/null) & late=$!
  wait "$server"; kill "$late" 2>/dev/null
fi
for again in 1 2 3 4 5; do rm -rf "$folder" && break; sleep 0.5; done 2>/dev/null
"#;

/// The shell that keeps a server's folder.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) folder: PathBuf,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    shell: Child,
}

impl Supervisor {
    /// Starts one whose server has these arguments and whose folder, in another, has nothing in it.
    fn start(within: &str, arguments: &[String]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISOR, "supervisor", within]).args(arguments);
        if let Some((uid, gid)) = user() {
            command.uid(uid).gid(gid);
        }
        // A Ctrl-C is for the tests; the shell sees their end.
        command.process_group(0).current_dir("/").env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().expect("sh");
        let commands = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().expect("its output"));
        let mut supervisor = Self { folder: PathBuf::new(), commands, answers, shell };
        supervisor.folder = supervisor.answer().into();
        supervisor
    }

    pub(super) fn tell(&mut self, line: &str) {
        let commands = self.commands.as_mut().expect("the supervisor listens");
        writeln!(commands, "{line}").expect("the supervisor listens");
    }

    pub(super) fn answer(&mut self) -> String {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the supervisor answers");
        answer.trim().to_owned()
    }

    /// What its server has logged.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.shell.wait();
    }
}

/// What all servers of this process have in common: PostgreSQL's programs, where its user may run
/// them, and a data folder as `initdb` makes it.
#[derive(Debug)]
pub(super) struct Template {
    programs: PathBuf,
    supervisor: Supervisor,
}

impl Template {
    pub(super) fn get() -> &'static Self {
        static MADE: OnceLock<Template> = OnceLock::new();
        MADE.get_or_init(|| {
            let mut supervisor = Supervisor::start("/tmp", &[]);
            let programs = programs_for(&supervisor.folder);
            std::fs::write(supervisor.folder.join("password"), PASSWORD)
                .expect("the password's file");
            supervisor.tell(programs.to_str().expect("UTF-8"));
            supervisor.tell("init");
            assert_eq!(supervisor.answer(), "made", "initdb: {}", supervisor.log());
            Self { programs, supervisor }
        })
    }

    /// The supervisor of a new server with these arguments, which is not started; its folder is in
    /// this one.
    pub(super) fn copy(&self, within: &str, arguments: &[String]) -> Supervisor {
        let mut supervisor = Supervisor::start(within, arguments);
        supervisor.tell(self.programs.to_str().expect("UTF-8"));
        supervisor.tell(&format!("copy {}", self.supervisor.folder.display()));
        assert_eq!(supervisor.answer(), "made", "a copy: {}", supervisor.log());
        supervisor
    }
}
