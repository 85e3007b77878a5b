//! rcr on a real kernel. One module per subject; each lists its cases at the top.

fn main() {
    harness::main([], || ());
}
