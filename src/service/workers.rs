//! Fetch workers: each takes the next wanted object from the queue, fetches it and hands it to the
//! storekeeper. No more objects are in flight than there are workers, and no more buffers exist than theirs; how many of
//! each source are is up to what its bucket takes ([`crate::net::window`]).

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::oneshot;

use super::storekeeper::{Job, Purpose, Read};
use super::wedge;
use crate::aws::s3::S3;
use crate::discover::queue::{Queue, Wanted};
use crate::fetch::{self, Slot};
use crate::pulse::Pulse;

/// Works until the queue is closed or the storekeeper is gone. `buckets` has the S3 of each source.
pub async fn work(
    queue: Queue,
    buckets: Arc<HashMap<Box<str>, S3>>,
    storekeeper: Sender<Job>,
    pulse: Arc<Pulse>,
) {
    let mut slot = Slot::new().watched(Arc::clone(&pulse));
    loop {
        pulse.idle();
        let Some((wanted, _flight)) = queue.take().await else { return };
        pulse.working();
        wedge::pending("fetch").await;
        // Every source that queues has a bucket; a ticket that is dropped is a failure that comes again.
        let Some(s3) = buckets.get(&*wanted.object.source) else { continue };
        if hand_over(wanted, s3, (&mut slot, &pulse), &storekeeper).await.is_break() {
            return;
        }
    }
}

/// Fetches one object until the storekeeper has it; twice if it has to be set aside. Break: the agent stops.
async fn hand_over(
    mut wanted: Wanted,
    s3: &S3,
    (slot, pulse): (&mut Slot, &Pulse),
    storekeeper: &Sender<Job>,
) -> ControlFlow<()> {
    let mut purpose = Purpose::Collect;
    loop {
        let key = wanted.object.key.clone();
        let (read, answer) = oneshot::channel();
        let mut offer = Some((wanted, purpose, read));
        let fetched = fetch::fetch(s3, &key, slot, |body| {
            if let Some((wanted, purpose, read)) = offer.take() {
                // A storekeeper that is gone drops the job, and with it the answer.
                let _ = storekeeper.send(Job { wanted, body, purpose, read });
            }
        })
        .await;
        if let (Err(fault), Some((wanted, ..))) = (fetched, offer) {
            wanted.ticket.fail(&fault);
            return ControlFlow::Continue(());
        }
        match pulse.waiting(answer).await {
            Ok(Read::Taken) => return ControlFlow::Continue(()),
            Ok(Read::Unfit(again, unfit)) => (wanted, purpose) = (again, Purpose::SetAside(unfit)),
            Err(_) => return ControlFlow::Break(()),
        }
    }
}
