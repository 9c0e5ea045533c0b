//! Stages that stand still on purpose, for the tests of the watchdog. Built with the feature `wedge` only; without it
//! nothing of this is in the binary.
//!
//! `TRAILSPOOL_WEDGE` names a file. The stage whose name the file holds takes the file away, and then never comes
//! on: with [`blocking`] its thread stops, with [`pending`] its task. Taking the file away makes the next process
//! start well.

#[cfg(feature = "wedge")]
use std::time::Duration;

/// Whether this build has the test's switch: it has no place on a box.
pub const BUILT_IN: bool = cfg!(feature = "wedge");

/// A bound as it holds in this build: tests do not wait for minutes.
pub fn bound(bound: std::time::Duration) -> std::time::Duration {
    if BUILT_IN { bound / 30 } else { bound }
}

/// Stops this thread for ever, if the test wants this stage to.
pub fn blocking(stage: &str) {
    #[cfg(feature = "wedge")]
    if taken(stage) {
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
    let _ = stage;
}

/// Never returns, if the test wants this stage to.
pub async fn pending(stage: &str) {
    #[cfg(feature = "wedge")]
    if taken(stage) {
        std::future::pending::<()>().await;
    }
    let _ = stage;
}

#[cfg(feature = "wedge")]
#[allow(clippy::disallowed_methods, reason = "a switch of the tests, not of the configuration")]
fn taken(stage: &str) -> bool {
    let Some(path) = std::env::var_os("TRAILSPOOL_WEDGE") else { return false };
    let named = std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == stage);
    named && std::fs::remove_file(&path).is_ok()
}
