//! Lets in as many requests as a [`Window`] allows. The shell around it: it counts what is in flight, tells the window
//! what came of it, and has others wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::window::Window;

/// The gate to one service. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    room: Notify,
}

#[derive(Debug)]
struct State {
    window: Window,
    in_flight: usize,
}

/// The right to have one request in flight, until it is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Inner>);

impl Gate {
    /// A gate that never lets in more than `most`.
    pub fn new(most: usize) -> Gate {
        let state = Mutex::new(State { window: Window::new(most), in_flight: 0 });
        Gate(Arc::new(Inner { state, room: Notify::new() }))
    }

    /// Lets one in, if fewer are in than the window and `most` allow.
    pub fn try_enter(&self, most: usize) -> Option<Permit> {
        let mut state = self.0.lock();
        if state.in_flight >= state.window.size().min(most) {
            return None;
        }
        state.in_flight += 1;
        Some(Permit(Arc::clone(&self.0)))
    }

    /// Waits to be let in. Nothing is lost when that is cancelled.
    pub async fn enter(&self) -> Permit {
        loop {
            let room = self.0.room.notified(); // made before the look, so that no notice is missed
            if let Some(permit) = self.try_enter(usize::MAX) {
                if self.0.lock().has_room() {
                    self.0.room.notify_one(); // the window may have grown by more than one left
                }
                return permit;
            }
            room.await;
        }
    }

    /// A request that was sent then got a good answer.
    pub fn answered(&self, sent: Instant) {
        let mut state = self.0.lock();
        let in_flight = state.in_flight;
        state.window.answered(sent.elapsed(), in_flight);
    }

    /// A request that was sent then was asked to slow down. Whether that made the window smaller.
    pub fn slowed(&self, sent: Instant) -> bool {
        let mut state = self.0.lock();
        let before = state.window.size();
        state.window.slowed(sent.into_std(), Instant::now().into_std());
        state.window.size() < before
    }

    /// Requests that may be in flight.
    pub fn size(&self) -> usize {
        self.0.lock().window.size()
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.in_flight < self.window.size()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let has_room = {
            let mut state = self.0.lock();
            state.in_flight -= 1;
            state.has_room()
        };
        if has_room {
            self.0.room.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_are_let_in_than_the_window_allows_and_nobody_waits_for_ever() {
        let gate = Gate::new(16);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..200u32 {
            let gate = gate.clone();
            tasks.spawn(async move {
                let permit = gate.enter().await;
                let sent = Instant::now();
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                assert!(gate.0.lock().in_flight <= 16);
                if number.is_multiple_of(50) {
                    _ = gate.slowed(sent)
                } else {
                    gate.answered(sent)
                }
                drop(permit);
            });
        }
        tasks.join_all().await;
        assert_eq!(gate.0.lock().in_flight, 0);
    }

    #[test]
    fn a_gate_may_be_narrowed_by_whoever_asks() {
        let gate = Gate::new(16);
        let one = gate.try_enter(1).unwrap();
        assert!(gate.try_enter(1).is_none());
        let two = gate.try_enter(2).unwrap();
        drop((one, two));
        assert!(gate.try_enter(1).is_some());
    }
}
