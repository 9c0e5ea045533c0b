//! The trailspool agent. Everything is in the library; this only starts it.

use std::process::ExitCode;

use trailspool::error::Exit;

fn main() -> ExitCode {
    trailspool::cli::main(std::env::args_os().skip(1), |_options| {
        eprintln!("trailspool: this build has no service to run");
        Exit::Unavailable.into()
    })
}
