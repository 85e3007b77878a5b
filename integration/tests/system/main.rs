//! rcr on a real kernel. One module per subject; each lists its cases at the top.

mod bundle;
mod merged_root;
mod run;

fn main() {
    let cases = [run::CASES, bundle::CASES, merged_root::CASES];
    harness::main(cases.into_iter().flatten(), || ());
}
