//! Secrets stay out of core dumps (invariant 10).

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Forbids this process, and what it starts, to leave a core, and others of the same user to look into its memory.
/// For the first line of the program: nothing has been read yet.
pub fn no_core_dumps() {
    // Both only give something up, which the kernel refuses to nobody.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = prctl::set_dumpable(false);
}
