//! Messages that are held: kept hidden while they are in work, deleted when they are done, let go of at the end.

use std::time::Duration;

use tokio::time::Instant;

use super::{BATCH, Concern, HIDDEN, Held, Mailbox, PAUSE, RENEW, Shared};
use crate::aws::sqs::Message;
use crate::aws::{Class, Fault};
use crate::discover::status::Told;
use crate::discover::walk::Known;
use crate::net::Backoff;
use crate::spool::disk::Disk;

/// How often it is looked for messages to hide anew.
const LOOK: Duration = Duration::from_secs(10);
/// Deletions wait this long for others, to go in one request.
const GATHER: Duration = Duration::from_millis(100);

const _: () = assert!(2 * RENEW.as_secs() + LOOK.as_secs() < HIDDEN.as_secs());

impl<M: Mailbox, K: Known, D: Disk> Shared<M, K, D> {
    pub(super) fn hold(&self, message: &Message) -> u64 {
        let mut books = self.lock();
        let number = books.next;
        books.next += 1;
        books.bytes += message.body.len();
        let (receipt, bytes) = (message.receipt.clone(), message.body.len());
        books
            .held
            .insert(number, Held { receipt, bytes, hidden_at: Instant::now(), done: false, lost: false });
        number
    }

    /// Hides messages in work anew (vector#4910: without that each comes again while it is in work).
    pub(super) async fn renew(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = Instant::now();
            let due: Vec<(u64, Box<str>)> = {
                let books = self.lock();
                let due =
                    books.held.iter().filter(|(_, held)| !held.lost && now - held.hidden_at >= RENEW - LOOK);
                due.map(|(number, held)| (*number, held.receipt.clone())).collect()
            };
            for batch in due.chunks(BATCH) {
                let receipts: Vec<_> = batch.iter().map(|(_, receipt)| receipt.clone()).collect();
                match self.mailbox.hide(&receipts, HIDDEN).await {
                    Ok(outcomes) => {
                        for ((number, _), outcome) in batch.iter().zip(outcomes) {
                            self.renewed(*number, outcome);
                        }
                    }
                    // Tried again at the next look.
                    Err(fault) => drop(self.raise(Concern::Delete, &fault)),
                }
            }
        }
    }

    fn renewed(&self, number: u64, outcome: Result<(), Fault>) {
        match outcome {
            Ok(()) => {
                if let Some(held) = self.lock().held.get_mut(&number) {
                    held.hidden_at = Instant::now();
                }
            }
            Err(fault) if fault.class == Class::Gone => {
                if let Some(held) = self.lock().held.get_mut(&number) {
                    held.lost = true;
                }
            }
            Err(fault) => log::debug!("source {}: {fault}", self.selection.name),
        }
    }

    /// Deletes what is done, as long as this runs.
    pub(super) async fn delete(&self) {
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        loop {
            self.to_delete.notified().await;
            tokio::time::sleep(GATHER).await;
            while let Some(fault) = self.delete_done().await {
                tokio::time::sleep(pause.next(fastrand::u64(..), fault.retry_after)).await;
            }
            pause.reset();
        }
    }

    /// Deletes what is done now; the fault that kept something from it.
    pub(super) async fn delete_done(&self) -> Option<Fault> {
        let done: Vec<(u64, Box<str>)> = {
            let books = self.lock();
            let done = books.held.iter().filter(|(_, held)| held.done);
            done.map(|(number, held)| (*number, held.receipt.clone())).collect()
        };
        let mut failed = None;
        for batch in done.chunks(BATCH) {
            let receipts: Vec<_> = batch.iter().map(|(_, receipt)| receipt.clone()).collect();
            match self.mailbox.delete(&receipts).await {
                Ok(outcomes) => {
                    for ((number, _), outcome) in batch.iter().zip(outcomes) {
                        failed = self.deleted(*number, outcome).or(failed);
                    }
                }
                Err(fault) => failed = Some(fault),
            }
        }
        match &failed {
            Some(fault) => {
                let trouble = self.raise(Concern::Delete, fault);
                self.lock().undeletable = (!trouble.transient).then_some(trouble);
            }
            None if !done.is_empty() => {
                self.lock().undeletable = None;
                self.over(Concern::Delete);
            }
            None => {}
        }
        failed
    }

    fn deleted(&self, number: u64, outcome: Result<(), Fault>) -> Option<Fault> {
        match outcome {
            Ok(()) => self.status.count_told(Told::Deleted, 1),
            // It comes again, and is known then.
            Err(fault) if fault.class == Class::Gone => self.status.count_told(Told::Stale, 1),
            Err(fault) => return Some(fault),
        }
        self.let_go(number);
        None
    }

    /// The end: what is done is deleted, the rest may come again at once.
    pub(super) async fn let_go_of_all(&self) {
        self.delete_done().await;
        let held: Vec<Box<str>> =
            self.lock().held.values().filter(|held| !held.lost).map(|held| held.receipt.clone()).collect();
        for batch in held.chunks(BATCH) {
            let _ = self.mailbox.hide(batch, Duration::ZERO).await; // else they come again when their time is up
        }
    }

    pub(super) fn let_go(&self, number: u64) {
        {
            let mut books = self.lock();
            if let Some(held) = books.held.remove(&number) {
                books.bytes -= held.bytes;
            }
        }
        self.changed.notify_one();
    }
}
