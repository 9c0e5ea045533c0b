//! The thread that minds the stages: it asks the [`Watchdog`] at regular times, and pets the service manager only
//! while no stage stalls. So a stage that stands still ends in a restart, after it was named in the log and in
//! systemd's STATUS. Without a service manager nothing happens but the log.
//!
//! It is a thread of its own, since what it minds may be the runtime. The runtime is a stage like the others
//! ([`RUN_LOOP`]): at each look it is asked, and has until its bound to answer.
//!
//! Before READY it asks for more time instead, as long as recovery comes on: a spool of any size starts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{error, info};
use tokio::sync::Notify;

use super::watchdog::{Look, Watchdog};
use super::{notify, wedge};
use crate::limits;
use crate::pulse::{Doing, Pulse};

/// The runtime's stage.
const RUN_LOOP: &str = "run loop";
/// Looks that the service manager is asked to wait for the next word of a start.
const PATIENCE: u32 = 4;

/// Where stages are put under watch. Clones are the same.
#[derive(Debug, Clone)]
pub struct Stages(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    watchdog: Mutex<Watchdog>,
    ready: AtomicBool,
    asked: Notify,
    stall: Mutex<Option<String>>,
}

/// Minds the stages until it is dropped.
#[derive(Debug)]
pub struct Minder {
    stages: Stages,
    end: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Minder {
    /// Starts the thread. Must be called within a `LocalSet`: the runtime's answers come from a task of it.
    pub fn start() -> std::io::Result<Minder> {
        let petted = sd_notify::watchdog_enabled();
        // Half the manager's patience, as sd_watchdog_enabled(3) advises; a whole one is always left.
        let every = petted.map_or(limits::LOOK_EVERY, |patience| limits::LOOK_EVERY.min(patience / 2));
        let stages = Stages(Arc::new(Shared {
            watchdog: Mutex::new(Watchdog::new(every)),
            ready: AtomicBool::new(false),
            asked: Notify::new(),
            stall: Mutex::new(None),
        }));
        let pulse = stages.watch(RUN_LOOP, limits::STALL_LOOP);
        tokio::task::spawn_local(answer(stages.clone(), pulse.clone()));
        let (end, ended) = mpsc::channel();
        let mind = Mind { stages: stages.clone(), run_loop: pulse, every, petted: petted.is_some() };
        let thread = thread::Builder::new().name("minder".into()).spawn(move || mind.run(&ended))?;
        Ok(Minder { stages, end: Some(end), thread: Some(thread) })
    }

    /// Where this minder's stages are put under watch.
    pub fn stages(&self) -> &Stages {
        &self.stages
    }
}

impl Drop for Minder {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // It can only have panicked, which ends the process where it matters.
            let _ = thread.join();
        }
    }
}

impl Stages {
    /// One more stage, which may work for `bound` without a beat. It is watched until its pulse is dropped.
    pub fn watch(&self, name: &str, bound: Duration) -> Arc<Pulse> {
        locked(&self.0.watchdog).watch(name, wedge::bound(bound))
    }

    /// The service has started: from now on it is petted.
    pub fn ready(&self) {
        self.0.ready.store(true, Ordering::Relaxed);
    }

    /// What stands still, in words.
    pub fn stall(&self) -> Option<String> {
        locked(&self.0.stall).clone()
    }
}

struct Mind {
    stages: Stages,
    run_loop: Arc<Pulse>,
    every: Duration,
    petted: bool,
}

impl Mind {
    #[allow(clippy::disallowed_methods, reason = "this is the shell that gives the core its time")]
    fn run(self, ended: &mpsc::Receiver<()>) {
        loop {
            let look = locked(&self.stages.0.watchdog).look(Instant::now());
            self.say(&look);
            if look.worst.is_none() {
                match self.stages.0.ready.load(Ordering::Relaxed) {
                    true if self.petted => notify::pet(),
                    true => {}
                    false => notify::extend(self.every * PATIENCE),
                }
            }
            if self.run_loop.read().doing() == Doing::Idle {
                self.run_loop.working();
                self.stages.0.asked.notify_one();
            }
            match ended.recv_timeout(self.every) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => return,
            }
        }
    }

    fn say(&self, look: &Look) {
        for stall in &look.fresh {
            let next = if self.petted { "the service manager will restart trailspool" } else { "restart it" };
            error!(
                "{} has stood still for {} s, which is a defect of trailspool or of this machine's disk: {next}; \
                 nothing is lost",
                stall.stage,
                stall.silent.as_secs()
            );
        }
        for stage in &look.over {
            info!("{stage} goes on");
        }
        let stall = look
            .worst
            .as_ref()
            .map(|stall| format!("{} stands still for {} s", stall.stage, stall.silent.as_secs()));
        if let Some(text) = &stall {
            notify::status(text);
        }
        *locked(&self.stages.0.stall) = stall;
    }
}

/// Proves that the runtime turns, as often as it is asked.
async fn answer(stages: Stages, pulse: Arc<Pulse>) {
    loop {
        stages.0.asked.notified().await;
        wedge::blocking(RUN_LOOP);
        pulse.idle();
    }
}

impl Pulse {
    /// [`Pulse::wait`] around something that is awaited.
    pub async fn waiting<T>(&self, other: impl Future<Output = T>) -> T {
        let _waiting = self.wait();
        other.await
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
