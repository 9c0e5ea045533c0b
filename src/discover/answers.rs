//! What became of one stream's objects in a pass, for whoever lists the stream and wants to know before it goes on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::queue::{FailKind, Outcome};

/// Counted by the tickets of the stream.
#[derive(Debug, Default)]
pub(super) struct Answers {
    sum: Mutex<Sum>,
    answered: Notify,
}

#[derive(Debug, Default)]
struct Sum {
    waiting: u32,
    /// Some object could be read, if only to be set aside.
    read: bool,
    refused: bool,
}

impl Answers {
    /// There is one more to be answered.
    pub(super) fn expect(&self) {
        self.lock().waiting += 1;
    }

    pub(super) fn answer(&self, outcome: Option<Outcome>) {
        let mut sum = self.lock();
        sum.waiting -= 1;
        match outcome {
            Some(Outcome::Done | Outcome::Quarantined) => sum.read = true,
            Some(Outcome::Failed(FailKind::Denied)) => sum.refused = true,
            Some(Outcome::Failed(FailKind::Transient | FailKind::Gone)) | None => {}
        }
        if sum.waiting == 0 {
            self.answered.notify_one();
        }
    }

    /// Whether any object could be read so far.
    pub(super) fn any_read(&self) -> bool {
        self.lock().read
    }

    /// Waits until all are answered; whether none could be read because an operator has to act first.
    pub(super) async fn are_refusals(&self) -> bool {
        loop {
            {
                let sum = self.lock();
                if sum.waiting == 0 {
                    return sum.refused && !sum.read;
                }
            }
            self.answered.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sum> {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
