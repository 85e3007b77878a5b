//! rcr on a real kernel. One module per subject; each lists its cases at the top.

mod run;

fn main() {
    harness::main(run::CASES.iter(), || ());
}
