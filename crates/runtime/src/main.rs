//! `rcr-runtime`: the drop-in for runc. All of it is in [`runtime::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(runtime::cli::main(std::env::args_os()))
}
