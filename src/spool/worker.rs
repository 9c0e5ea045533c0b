//! Which stage a thread works for: each operation of such a thread on a disk is a beat of that stage's pulse, and of no
//! other's. A save of thousands of files is work that comes on, and other threads' reading hides nobody who stands still.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::pulse::Pulse;

thread_local! {
    static STAGE: RefCell<Option<Arc<Pulse>>> = const { RefCell::new(None) };
}

/// This thread works for a stage, until this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Works(PhantomData<*const ()>);

/// From here on this thread works for the stage that has this pulse.
pub fn works_for(stage: &Arc<Pulse>) -> Works {
    STAGE.set(Some(Arc::clone(stage)));
    Works(PhantomData)
}

/// For implementations of [`Disk`](super::disk::Disk): an operation begins.
pub fn beat() {
    // A thread that is ending has nothing to show any more.
    let _ = STAGE.try_with(|stage| {
        if let Some(pulse) = &*stage.borrow() {
            pulse.beat();
        }
    });
}

impl Drop for Works {
    fn drop(&mut self) {
        STAGE.set(None);
    }
}
