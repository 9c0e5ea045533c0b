//! The command `run`: configuration → lock → runtime → agent → signals → exit code, read top-down.

use std::fs::File;
use std::future::pending;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::agent::{Agent, StartError};
use super::{log as logging, notify};
use crate::cli::RunOptions;
use crate::config::{self, Config};
use crate::discover::poll::PassReport;
use crate::error::Exit;

/// How often the progress line is drawn.
const PROGRESS: Duration = Duration::from_millis(200);
/// How often systemd's STATUS is renewed.
const STATUS: Duration = Duration::from_secs(30);

/// Runs the agent until it is told to stop, or, with `once`, until one pass is delivered.
pub fn main(options: RunOptions) -> ExitCode {
    logging::init();
    let config = match config::load(&options.config) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return Exit::Config.into();
        }
    };
    accept(&config);
    let _lock = match lock(&config.agent.state_dir) {
        Ok(lock) => lock,
        Err(text) => {
            error!("{text}");
            return Exit::Io.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build() {
        Ok(runtime) => runtime,
        Err(fault) => {
            error!("the runtime could not be started: {fault}");
            return Exit::Unavailable.into();
        }
    };
    let exit = tokio::task::LocalSet::new().block_on(&runtime, supervise(options, Arc::new(config)));
    // A blocking read of an output that hangs must not hold up the end of the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit.into()
}

/// Starts an agent, minds the signals, starts another one when a new configuration is good.
async fn supervise(options: RunOptions, mut config: Arc<Config>) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(fault) => {
            error!("signal handlers could not be installed: {fault}");
            return Exit::Unavailable;
        }
    };
    let deadline = options.timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    loop {
        let mut agent = match Agent::start(config.clone(), options.once) {
            Ok(agent) => agent,
            Err(StartError { text, configuration }) => {
                error!("{text}");
                return if configuration { Exit::Config } else { Exit::Io };
            }
        };
        notify::ready();
        let end = mind(&mut agent, &mut signals, &options, deadline).await;
        if !matches!(end, End::Reload(_)) {
            notify::stopping();
        }
        let books = stop(agent).await;
        match end {
            End::Reload(new) => config = new,
            End::Stopped => return Exit::Ok,
            End::TimedOut => {
                print(&books);
                error!("not everything was collected and delivered in time; the next run goes on from here");
                return Exit::TempFail;
            }
            End::Once(report) => {
                print(&books);
                return once_exit(&report);
            }
        }
    }
}

/// Why an agent is stopped.
enum End {
    Stopped,
    Reload(Arc<Config>),
    Once(PassReport),
    TimedOut,
}

async fn mind(
    agent: &mut Agent,
    signals: &mut Signals,
    options: &RunOptions,
    deadline: Option<tokio::time::Instant>,
) -> End {
    let show = options.once && std::io::stderr().is_terminal();
    let mut renew = tokio::time::interval(if show { PROGRESS } else { STATUS });
    renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let summary = agent.summary();
        tokio::select! {
            name = signals.stop() => {
                info!("{name}: stopping");
                return End::Stopped;
            }
            _ = signals.reload.recv() => if let Some(config) = reload(options, agent.config()) {
                return End::Reload(config);
            },
            report = agent.finish_once(), if options.once => return End::Once(report),
            () = at(deadline) => return End::TimedOut,
            _ = renew.tick() => {
                notify::status(&summary);
                if show {
                    eprint!("\r\x1b[K{summary}");
                    let _ = std::io::stderr().flush();
                }
            }
        }
    }
}

/// A new configuration, if it is good; else the old one stays and the log says why.
fn reload(options: &RunOptions, old: &Config) -> Option<Arc<Config>> {
    notify::reloading();
    let new = match config::load(&options.config) {
        Ok(new) if new.agent.state_dir == old.agent.state_dir => Some(Arc::new(new)),
        Ok(_) => {
            error!("the new configuration has another state_dir: that takes a restart; the old configuration stays");
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
        Some(config) => {
            accept(config);
            info!("the configuration was read again");
        }
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

/// Stops an agent; its books as they stand after that.
async fn stop(agent: Agent) -> Vec<String> {
    agent.stop().await
}

fn print(books: &[String]) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    for line in books {
        eprintln!("{line}");
    }
}

fn once_exit(report: &PassReport) -> Exit {
    if report.failed_denied > 0 {
        Exit::NoPerm
    } else if report.failed_transient > 0 {
        Exit::TempFail
    } else {
        Exit::Ok
    }
}

async fn at(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}

/// One agent on a state directory: the lock goes with the process, however it ends.
fn lock(state_dir: &Path) -> Result<File, String> {
    let path = state_dir.join("lock");
    let open = || -> std::io::Result<File> {
        std::fs::create_dir_all(state_dir)?;
        File::options().create(true).write(true).truncate(false).open(&path)
    };
    let file = open().map_err(|fault| {
        format!(
            "{}: {fault}; the state directory must exist or be creatable, and belong to the user that runs trailspool",
            path.display()
        )
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(format!(
            "{}: another trailspool is at work on this state directory; stop it first, or give this one a state_dir of its own",
            path.display()
        )),
        Err(std::fs::TryLockError::Error(fault)) => Err(format!("{}: cannot be locked: {fault}", path.display())),
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

    async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
