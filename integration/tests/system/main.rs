//! rcr on a real kernel. One module per subject; each lists its cases at the top.

mod attacks;
mod bad_input;
mod bundle;
mod checkpoint;
mod clients;
mod command_line;
mod commands;
mod container_fields;
mod containers;
mod crash;
mod demo;
mod events;
mod foreground;
mod hostile_images;
mod lifecycle;
mod limits;
mod merged_root;
mod mount_fields;
mod net_devices;
mod process_fields;
mod processes;
mod resources;
mod run;
mod update;

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
        limits::CASES,
        update::CASES,
        events::CASES,
        processes::CASES,
        checkpoint::CASES,
        command_line::CASES,
        process_fields::CASES,
        container_fields::CASES,
        mount_fields::CASES,
        net_devices::CASES,
        clients::CASES,
        clients::podman::CASES,
        clients::docker::CASES,
        clients::containerd::CASES,
        clients::cri::CASES,
        attacks::CASES,
        hostile_images::CASES,
        merged_root::CASES,
        crash::CASES,
    ];
    harness::main(cases.into_iter().flatten(), harness::registry::stop);
}
