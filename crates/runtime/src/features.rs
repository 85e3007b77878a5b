//! What this binary can do, as `rcr-runtime features` prints it (runtime-spec, features.md).

use oci::runtime::Features;

/// The features of this build on this kernel.
pub fn features() -> Features {
    todo!()
}
