//! The trailspool agent. Everything is in the library; this only starts it.

use std::process::ExitCode;

fn main() -> ExitCode {
    trailspool::service::nodump::no_core_dumps();
    trailspool::cli::main(std::env::args_os().skip(1), trailspool::service::run::main)
}
