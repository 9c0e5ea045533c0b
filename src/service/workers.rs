//! Fetch workers: each takes the next wanted object from the queue, fetches it and hands it to the
//! storekeeper. As many objects are in flight as there are workers, and no more buffers exist than theirs.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::oneshot;

use super::storekeeper::{Job, Purpose, Read};
use crate::aws::{Class, Fault, s3::S3};
use crate::discover::queue::{FailKind, Outcome, Queue, Wanted};
use crate::discover::status::SourceStatus;
use crate::fetch::{self, Slot};

/// One source, as the workers see it.
pub struct Origin {
    /// Its bucket.
    pub s3: S3,
    /// Where its faults are shown.
    pub status: Arc<SourceStatus>,
}

/// Works until the queue is closed or the storekeeper is gone.
pub async fn work(queue: Arc<Queue>, origins: Arc<HashMap<Box<str>, Origin>>, storekeeper: Sender<Job>) {
    let mut slot = Slot::new();
    while let Some(wanted) = queue.pop().await {
        let Some(origin) = origins.get(&wanted.object.source) else {
            wanted.ticket.answer(Outcome::Failed(FailKind::Transient));
            continue;
        };
        if deliver(wanted, origin, &mut slot, &storekeeper).await.is_break() {
            return;
        }
    }
}

/// Fetches one object until the storekeeper has it; twice if it cannot be decoded. Break: the agent stops.
async fn deliver(
    mut wanted: Wanted,
    origin: &Origin,
    slot: &mut Slot,
    storekeeper: &Sender<Job>,
) -> ControlFlow<()> {
    let mut purpose = Purpose::Collect;
    loop {
        let key = wanted.object.key.clone();
        let (read, answer) = oneshot::channel();
        let mut offer = Some((wanted, purpose, read));
        let mut gone = false;
        let fetched = fetch::fetch(&origin.s3, &key, slot, |body| {
            if let Some((wanted, purpose, read)) = offer.take() {
                gone = storekeeper.send(Job { wanted, body, purpose, read }).is_err();
            }
        })
        .await;
        if gone {
            return ControlFlow::Break(());
        }
        match fetched {
            Ok(()) => origin.status.get_succeeded(),
            Err(fault) => {
                origin.status.get_failed(&key, &fault);
                if let Some((wanted, ..)) = offer {
                    wanted.ticket.answer(Outcome::Failed(kind(&fault)));
                    return ControlFlow::Continue(());
                }
            }
        }
        match answer.await {
            Ok(Read::Taken) => return ControlFlow::Continue(()),
            Ok(Read::Undecodable(again, why)) => (wanted, purpose) = (again, Purpose::SetAside(why)),
            Err(_) => return ControlFlow::Break(()),
        }
    }
}

fn kind(fault: &Fault) -> FailKind {
    match fault.class {
        Class::Gone => FailKind::Gone,
        _ if fault.is_transient() => FailKind::Transient,
        _ => FailKind::Denied,
    }
}
