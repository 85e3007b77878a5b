//! rcr on a real kernel. One module per subject; each lists its cases at the top.

mod merged_root;
mod run;

fn main() {
    harness::main(run::CASES.iter().chain(merged_root::CASES), || ());
}
