//! rcr on a real kernel. One module per subject; each lists its cases at the top.

mod attacks;
mod bad_input;
mod bundle;
mod clients;
mod commands;
mod containers;
mod crash;
mod demo;
mod foreground;
mod hostile_images;
mod lifecycle;
mod merged_root;
mod mounts;
mod resources;
mod rootless;
mod run;
mod stress;
mod unified;

fn main() {
    let cases = [
        demo::CASES,
        run::CASES,
        containers::CASES,
        bad_input::CASES,
        bundle::CASES,
        lifecycle::CASES,
        foreground::CASES,
        commands::CASES,
        resources::CASES,
        unified::CASES,
        rootless::CASES,
        clients::CASES,
        attacks::CASES,
        hostile_images::CASES,
        merged_root::CASES,
        mounts::CASES,
        crash::CASES,
        stress::CASES,
    ];
    harness::main(cases.into_iter().flatten(), harness::registry::stop);
}
