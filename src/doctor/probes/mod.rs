//! The probes, in the order in which their findings stand. Each part (the state directory, a source, an
//! output) is probed on its own and beside the others; a probe that fails leaves those that need it untested, and
//! nothing else.

mod bucket;
mod directory;
mod files;
mod health;
mod network;
mod newest;
mod output;
mod queue;
mod source;
mod state;
mod stream;

pub(super) use directory::directory;
pub(super) use output::output;
pub(super) use source::source;
pub(super) use state::state;

use std::time::Duration;

use crate::net::Timeouts;

/// Name look-up; and connecting to all addresses at once.
const STEP: Duration = Duration::from_secs(5);
/// The probes' requests: together with [`STEP`] for each step before, a server that hangs everywhere is known
/// within the time that a part has.
const TIMEOUTS: Timeouts =
    Timeouts { connect: STEP, first_byte: Duration::from_secs(8), stall: Duration::from_secs(5) };
/// What one part may take altogether.
const PART: Duration = Duration::from_secs(25);
/// Why what is left is not tested, then.
const TIME_IS_UP: &str = "the time for the whole check was up";

const _: () = assert!(
    3 * STEP.as_secs() + TIMEOUTS.first_byte.as_secs() < PART.as_secs(),
    "name, TCP, TLS and the first answer"
);
