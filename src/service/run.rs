//! The command `run`: configuration → lock → runtime → agent → signals → exit code, read top-down.
//!
//! A state directory that is *removed* under the agent takes the lock with it: whatever is written from then on is
//! nobody's. The agent then starts anew in an empty one, as after a first start. One that was moved away or unmounted
//! may come back: the agent waits for it (see the storekeeper).

use std::fs::File;
use std::future::pending;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::agent::{Agent, StartError};
use super::minder::{Minder, Stages};
use super::{log as logging, notify, wedge};
use crate::cli::RunOptions;
use crate::config::{self, Config};
use crate::discover::status::Trouble;
use crate::error::Exit;
use crate::spool::std_disk::StdDisk;
use crate::status::{self, Board};

/// How often the progress line of `--once` is drawn on a terminal.
const PROGRESS: Duration = Duration::from_millis(200);
/// How often systemd's STATUS is renewed.
const STATUS: Duration = Duration::from_secs(30);
/// What a hanging blocking call may hold up the end of the process.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// Causes of trouble that the configuration, rather than a permission, has to mend.
const CONFIG_CAUSES: [&str; 18] = [
    "config",
    "bad-answer",
    "no-bucket",
    "no-queue",
    "not-sqs",
    "wrong-region",
    "not-s3",
    "not-http",
    "refused",
    "cert-issuer",
    "cert-name",
    "cert-time",
    "certificate",
    "no-ca",
    "proxy",
    "proxy-auth",
    "proxy-refused",
    "quarantine-full",
];

/// Runs the agent until it is told to stop, or, with `once`, until everything is collected and delivered.
pub fn main(options: RunOptions) -> ExitCode {
    logging::init(options.config.agent.log_level);
    let run = || -> Result<Exit, (Exit, String)> {
        let lock = Lock::take(&options.config.agent.state_dir).map_err(|text| (Exit::Io, text))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(16)
            .thread_keep_alive(Duration::from_secs(1))
            .build()
            .map_err(|fault| (Exit::Unavailable, format!("the runtime could not be started: {fault}")))?;
        let exit = LocalSet::new().block_on(&runtime, supervise(&options, lock))?;
        runtime.shutdown_timeout(LAST_WAIT);
        Ok(exit)
    };
    match run() {
        Ok(exit) => exit.into(),
        Err((exit, text)) => {
            error!("{text}");
            exit.into()
        }
    }
}

/// Starts an agent, minds the signals, starts another one when a new configuration is good.
async fn supervise(options: &RunOptions, mut lock: Lock) -> Result<Exit, (Exit, String)> {
    let mut signals = Signals::new()
        .map_err(|fault| (Exit::Unavailable, format!("signal handlers could not be installed: {fault}")))?;
    let minder = Minder::start()
        .map_err(|fault| (Exit::Unavailable, format!("the watchdog could not be started: {fault}")))?;
    let stages = minder.stages();
    let watched = stages.clone();
    let board = Rc::new(Board::new(move || watched.stall()));
    if !options.once {
        tokio::task::spawn_local(status::serve(board.clone()));
    }
    if wedge::BUILT_IN {
        warn!("this build is for tests only: its stages can be made to stand still");
    }
    let deadline = options.timeout.map(|timeout| Instant::now() + timeout);
    let mut config = Arc::new(options.config.clone());
    // What was at work before the last reload.
    let mut before = None;
    loop {
        accept(&config);
        notify::status("starting: reading what is in the spool");
        let started = tokio::select! {
            started = Agent::start(config.clone(), options.once, stages) => started,
            () = signals.stop() => {
                info!("told to stop during the start: the next start begins it again");
                notify::stopping();
                return Ok(Exit::Done);
            }
        };
        let mut agent = match (started, before.take()) {
            (Ok(agent), _) => agent,
            (Err(StartError::State(text) | StartError::Config(text)), Some(old)) => {
                error!("{text}; the old configuration stays");
                config = old;
                continue;
            }
            (Err(StartError::State(text)), None) => return Err((Exit::Io, text)),
            (Err(StartError::Config(text)), None) => return Err((Exit::Config, text)),
        };
        notify::ready();
        stages.ready();
        board.show(Some(agent.view()));
        let end = mind(&mut agent, &mut signals, options, deadline, (stages, &lock)).await;
        let end = stop(&mut agent, &mut signals, end).await;
        board.show(None);
        match end {
            End::Reload(new) => before = Some(std::mem::replace(&mut config, new)),
            End::Removed => {
                drop(agent);
                drop(lock);
                lock = Lock::take(&config.agent.state_dir).map_err(|text| (Exit::Io, text))?;
            }
            End::Stopped => return Ok(Exit::Done),
            End::TimedOut => {
                print(&agent.books());
                let text =
                    "not everything was collected and delivered in time; the next run goes on from here";
                return Err((Exit::Temporary, text.to_owned()));
            }
            End::Once(left) => {
                print(&agent.books());
                return Ok(once_exit(&left));
            }
        }
    }
}

/// Why an agent is stopped.
enum End {
    Stopped,
    Reload(Arc<Config>),
    /// The state directory was removed.
    Removed,
    Once(Vec<Trouble>),
    TimedOut,
}

/// Stops the agent, and minds the signals meanwhile: one that is told to stop is not started anew, whatever it was
/// stopped for, and is waited for, since the next start must not find its storekeeper still at work. Told once more, it
/// is left where it is: the process ends with it. Returns why it was stopped in the end.
async fn stop(agent: &mut Agent, signals: &mut Signals, mut end: End) -> End {
    let mut stopped = pin!(agent.stop());
    loop {
        let anew = matches!(end, End::Reload(_) | End::Removed);
        if anew {
            notify::status("stopping what is at work, to start anew");
        } else {
            notify::stopping();
            notify::status("stopping: storing what was fetched, delivering what is stored");
        }
        tokio::select! {
            () = &mut stopped => return end,
            () = signals.stop() => if anew {
                info!("told to stop: there is no new start");
                end = End::Stopped;
            } else {
                warn!("told twice: stopping at once; the next start goes on from the last commit");
                return end;
            }
        }
    }
}

async fn mind(
    agent: &mut Agent,
    signals: &mut Signals,
    options: &RunOptions,
    deadline: Option<Instant>,
    (stages, lock): (&Stages, &Lock),
) -> End {
    let show = options.once && std::io::stderr().is_terminal();
    let mut renew = tokio::time::interval(if show { PROGRESS } else { STATUS });
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop(name) => {
                    info!("{name}: stopping");
                    return End::Stopped;
                }
                Told::Reload => if let Some(config) = reload(options, agent.config()) {
                    return End::Reload(config);
                },
            },
            left = agent.finish_once(), if options.once => return End::Once(left.to_vec()),
            () = at(deadline) => return End::TimedOut,
            _ = renew.tick() => if lock.is_removed() {
                error!(
                    "the state directory {} was removed while the agent was running; it starts anew, and collects again \
                     what was not delivered, as far back as `start` says",
                    agent.config().agent.state_dir.display()
                );
                return End::Removed;
            }
        }
        let summary = match stages.stall() {
            Some(stall) => format!("{stall}; {}", agent.summary()),
            None => agent.summary(),
        };
        notify::status(&summary);
        if show {
            eprint!("\r\x1b[K{}", fitting(&summary));
            let _ = std::io::stderr().flush();
        }
    }
}

/// A progress line must not wrap: what follows could not take it back.
fn fitting(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(78).collect()
}

/// A new configuration, if it is good; else the old one stays and the log says why.
fn reload(options: &RunOptions, old: &Config) -> Option<Arc<Config>> {
    notify::reloading();
    let new = match config::load(&options.config_path) {
        Ok(new) if new.agent.state_dir == old.agent.state_dir => Some(Arc::new(new)),
        Ok(_) => {
            error!(
                "the new configuration has another state_dir: that takes a restart; the old configuration stays"
            );
            None
        }
        Err(faults) => {
            error!("the new configuration is faulty, the old one stays:");
            for fault in faults.to_string().lines() {
                error!("{fault}");
            }
            None
        }
    };
    match &new {
        Some(_) => info!("the configuration was read again"),
        None => notify::ready(),
    }
    new
}

/// What a configuration sets for the whole process, and what it wants its user to know.
fn accept(config: &Config) {
    logging::set_level(config.agent.log_level);
    for warning in &config.warnings {
        warn!("{warning}");
    }
}

fn print(books: &[String]) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    for line in books {
        eprintln!("{line}");
    }
}

/// What was left for an operator decides.
fn once_exit(left: &[Trouble]) -> Exit {
    match left {
        [] => Exit::Done,
        left if left.iter().all(|trouble| CONFIG_CAUSES.contains(&trouble.cause)) => Exit::Config,
        _ => Exit::Permission,
    }
}

async fn at(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}

/// One agent on a state directory: the lock goes with the process, however it ends.
struct Lock(File);

impl Lock {
    fn take(state_dir: &Path) -> Result<Lock, String> {
        let path = state_dir.join("lock");
        // The first that is made of a state directory, and like all else in it: durable, and open to nobody else, who
        // could hold the lock.
        let open = || -> std::io::Result<File> {
            StdDisk::open(state_dir)?;
            File::options().create(true).write(true).truncate(false).mode(0o600).open(&path)
        };
        let file = open().map_err(|fault| {
            format!(
                "{}: {fault}; the state directory must exist or be creatable, and belong to the user that runs trailspool",
                path.display()
            )
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(format!(
                "{}: another trailspool is at work on this state directory; stop it first, or give this one a state_dir of its own",
                path.display()
            )),
            Err(std::fs::TryLockError::Error(fault)) => {
                Err(format!("{}: cannot be locked: {fault}", path.display()))
            }
        }
    }

    /// Whether the file has lost its name: somebody removed the state directory.
    fn is_removed(&self) -> bool {
        self.0.metadata().is_ok_and(|data| data.nlink() == 0)
    }
}

/// The signals that are minded.
struct Signals {
    term: Signal,
    int: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// Cancelling it loses no signal.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.term.recv() => Told::Stop("SIGTERM"),
            _ = self.int.recv() => Told::Stop("SIGINT"),
            _ = self.reload.recv() => Told::Reload,
        }
    }

    /// The next signal to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

enum Told {
    Stop(&'static str),
    Reload,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_the_lock_makes_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state_dir = folder.path().join("a/b");
        let lock = Lock::take(&state_dir).unwrap();
        let mode =
            |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode("a"), mode("a/b"), mode("a/b/lock")], [0o700, 0o700, 0o600]);

        let second = Lock::take(&state_dir).err().unwrap();
        assert!(second.contains("another trailspool is at work"), "{second}");
        assert!(!lock.is_removed());
        std::fs::remove_dir_all(&state_dir).unwrap();
        assert!(lock.is_removed());
    }
}
